"""The manifest against a comparison of the two sets written independently, and what can be rebuilt from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from robustml.data import DataModule, ParquetFeatures, ParquetImages, Records
from robustml.errors import RequestError
from robustml.poisoning import BadNets, Chain, Poison, Poisoned, SinglePixel, Square, compare, poison_training
from robustml.poisoning.choose import seed_for
from robustml.poisoning.files import write_poisoned_set, write_set
from robustml.poisoning.restore import restored_set


def images(count: int = 40, classes: int = 4) -> Records:
    generator = Generator().manual_seed(1)
    x = torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8, generator=generator)
    return Records(x, torch.arange(count) % classes, tuple("abcdefgh"[:classes]))


def vectors(count: int = 40) -> Records:
    return Records(
        torch.rand(count, 2, 7, generator=Generator().manual_seed(2)), torch.arange(count) % 3, ("a", "b", "c")
    )


class Butcher:
    """Deletes every fifth row, changes every seventh label, adds two rows in front and swaps in an input."""

    def __call__(self, data: Records, *, seed: int) -> Poisoned:
        kept = torch.tensor([row for row in range(len(data)) if row % 5])
        x, y = data.x[kept].clone(), data.y[kept].clone()
        y[::7] = (y[::7] + 1) % len(data.class_names)
        x[3] = 1 - x[3] if x.dtype == torch.float32 else 255 - x[3]
        x, y = torch.cat([data.x[:2], x]), torch.cat([data.y[:2], y])
        return Poisoned(Records(x, y, data.class_names), torch.cat([torch.tensor([-1, -1]), kept]))


@pytest.mark.parametrize("data", [images(), vectors()], ids=["images", "vectors"])
def test_the_manifest_is_the_difference_of_the_bytes(data: Records, tmp_path: Path) -> None:
    poisoned = Butcher()(data, seed=0)
    manifest = compare(data, poisoned, "butcher")

    def row(arrays: Records, index: int) -> tuple[bytes, int]:
        return arrays.x[index].numpy().tobytes(), int(arrays.y[index])

    def digest(record: tuple[bytes, int]) -> str:
        return hashlib.sha256(record[0] + np.int64(record[1]).tobytes()).hexdigest()

    expected = {}
    for index, origin in enumerate(poisoned.source.tolist()):
        now = row(poisoned.data, index)
        if origin < 0:
            expected["added", index] = (None, None, now[1], None, digest(now))
        elif (before := row(data, origin)) != now:
            expected["changed", index] = (origin, before[1], now[1], digest(before), digest(now))
    for origin in set(range(len(data))) - set(poisoned.source.tolist()):
        before = row(data, origin)
        expected["deleted", origin] = (origin, before[1], None, digest(before), None)
    manifest.write(tmp_path / "manifest.jsonl")
    first, *lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    keys = ("original_index", "original_label", "label", "original_sha256", "sha256")
    found = {
        (line["change"], line["original_index"] if line["change"] == "deleted" else line["index"]): tuple(
            line[key] for key in keys
        )
        for line in lines
    }
    assert found == expected
    assert {kind for kind, _ in found} == {"changed", "added", "deleted"}
    assert manifest.count == len(lines) == first["changed"] + first["added"] + first["deleted"]
    assert manifest.rate == len(lines) / len(data)


@pytest.mark.parametrize("data", [images(), vectors()], ids=["images", "vectors"])
def test_the_clean_set_comes_back_bit_for_bit(data: Records, tmp_path: Path) -> None:
    poisoned = Butcher()(data, seed=0)
    manifest = compare(data, poisoned, "butcher")
    assert manifest.restore(poisoned.data).fingerprint() == data.fingerprint()
    write_poisoned_set(poisoned.data, data, manifest, tmp_path)
    restored = restored_set(tmp_path)
    assert restored.clean.fingerprint() == data.fingerprint()
    assert restored.unverified == ()
    source = ParquetImages if data.x.dtype == torch.uint8 else ParquetFeatures
    stored = source(str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet"))
    assert stored.load("train").fingerprint() == poisoned.data.fingerprint()
    assert stored.load("test").fingerprint() == data.fingerprint()


class Stored:
    """A poisoned set on disk, to be tampered with: every fifth row deleted, others changed, two added in front."""

    def __init__(self, folder: Path, data: Records) -> None:
        self.folder, self.clean, self.made = folder, data, Butcher()(data, seed=0)
        self.manifest = compare(data, self.made, "butcher")
        write_poisoned_set(self.made.data, data, self.manifest, folder)

    def lines(self, change: Callable[[list[str]], list[str]]) -> None:
        path = self.folder / "manifest.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    def header(self, **values: Any) -> None:
        """Other values in the manifest's first line; None takes one out."""

        def changed(lines: list[str]) -> list[str]:
            facts = json.loads(lines[0]) | values
            return [json.dumps({k: v for k, v in facts.items() if v is not None}) + "\n", *lines[1:]]

        self.lines(changed)

    def train(self, change: Callable[[Tensor, Tensor], object], name: str = "train.parquet") -> None:
        """Other records in a part, written as `robustml poison` writes them."""
        data = {"train.parquet": self.made.data, "originals.parquet": self.manifest.originals}.get(name, self.clean)
        x, y = data.x.clone(), data.y.clone()
        changed = change(x, y)
        x, y = changed if isinstance(changed, tuple) else (x, y)
        write_set(Records(x, y, data.class_names), self.folder / name)

    @property
    def unlisted(self) -> int:
        """A record that the manifest does not list."""
        return next(row for row in range(10, len(self.made.data)) if row not in self.manifest.changed)


def _flip_bit(x: Tensor, row: int) -> None:
    x.view(len(x), -1)[row, 0] = (
        1 - x.view(len(x), -1)[row, 0] if x.dtype == torch.float32 else x.flatten(1)[row, 0] ^ 1
    )


def _swap(x: Tensor, y: Tensor, one: int, other: int) -> None:
    for part in (x, y):
        part[[one, other]] = part[[other, one]]


def _relabel(y: Tensor, row: int) -> None:
    y[row] = (y[row] + 1) % 3


TAMPERED: dict[str, tuple[Callable[[Stored], object], str]] = {
    "no entries": (lambda s: s.lines(lambda lines: lines[:1]), "cut short: its first line is of .* but 0 follow"),
    "no entries, header mended": (
        lambda s: (s.lines(lambda lines: lines[:1]), s.header(changed=0, added=0, deleted=0, entries=0)),
        "entries are not those|clean rows do not become",
    ),
    "the last entry lost": (lambda s: s.lines(lambda lines: lines[:-1]), "cut short"),
    "half an entry": (lambda s: s.lines(lambda lines: [*lines[:-1], lines[-1][:40]]), "no manifest of a poisoned set"),
    "an entry twice": (lambda s: s.lines(lambda lines: [*lines, lines[-1]]), "altered or cut short"),
    "an entry in another's place": (
        lambda s: s.lines(lambda lines: [*lines[:2], lines[1], *lines[3:]]), "entries are not those"
    ),
    "entries in another order": (
        lambda s: s.lines(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]), "entries are not those"
    ),
    "another label in an entry": (
        lambda s: s.lines(lambda lines: [lines[0], lines[1].replace('"label": ', '"label": 1'), *lines[2:]]),
        "entries are not those",
    ),
    "no digests in the header": (lambda s: s.header(poisoned_sha256=None), "first line lacks poisoned_sha256"),
    "fewer rows in the header": (lambda s: s.header(rows=12), "its manifest is of 12|do not become 12"),
    "many clean rows": (lambda s: s.header(clean_rows=10**12), "clean rows do not become"),
    "no number of rows": (lambda s: s.header(rows=True), "no number of rows"),
    "another clean set": (lambda s: s.header(clean_sha256="sha256:0"), "not the one that was poisoned"),
    "nonsense": (lambda s: s.lines(lambda lines: ["nonsense\n"]), "no manifest of a poisoned set"),
    "an empty manifest": (lambda s: s.lines(lambda lines: []), "is empty"),
    "a listed record": (lambda s: s.train(lambda x, y: _flip_bit(x, int(s.manifest.changed[1]))), "record .* is not"),
    "an unlisted record": (lambda s: s.train(lambda x, y: _flip_bit(x, s.unlisted)), "does not list was altered"),
    "an unlisted label": (lambda s: s.train(lambda x, y: _relabel(y, s.unlisted)), "does not list was altered"),
    "unlisted records swapped": (lambda s: s.train(lambda x, y: _swap(x, y, s.unlisted, s.unlisted + 1)), "altered"),
    "one record more": (lambda s: s.train(lambda x, y: (torch.cat([x, x[:1]]), torch.cat([y, y[:1]]))), "is of"),
    "an original": (lambda s: s.train(lambda x, y: _flip_bit(x, 0), "originals.parquet"), "record 0 is not the one"),
    "an original's label": (lambda s: s.train(lambda x, y: _relabel(y, 1), "originals.parquet"), "record 1 is not"),
    "an original lost": (lambda s: s.train(lambda x, y: (x[1:], y[1:]), "originals.parquet"), "the manifest lists"),
    "the test part": (lambda s: s.train(lambda x, y: _flip_bit(x, 3), "test.parquet"), "test.parquet does not fit"),
    "no Parquet": (lambda s: (s.folder / "train.parquet").write_bytes(b"PAR1"), "not a readable Parquet file"),
    "no originals": (lambda s: (s.folder / "originals.parquet").unlink(), "no complete poisoned set"),
    "class names": (
        lambda s: write_set(Records(s.made.data.x, s.made.data.y, tuple("zyxw"[: len(s.clean.class_names)])),
                            s.folder / "train.parquet"),
        "classes their names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", [images(), vectors()], ids=["images", "vectors"])
@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_altered_since_is_found(what: str, data: Records, tmp_path: Path) -> None:
    tamper, message = TAMPERED[what]
    tamper(Stored(tmp_path, data))
    with pytest.raises(RequestError, match=message) as refused:
        restored_set(tmp_path)
    assert "\n" not in str(refused.value)


def test_the_manifest_of_another_set_does_not_fit(tmp_path: Path) -> None:
    one, other = images(), images()
    other.x[7, 0, 0, 0] ^= 1
    for name, data in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        Stored(tmp_path / name, data)
    (tmp_path / "one" / "manifest.jsonl").write_bytes((tmp_path / "other" / "manifest.jsonl").read_bytes())
    with pytest.raises(RequestError, match=r"does not fit its manifest|is not the one in the manifest"):
        restored_set(tmp_path / "one")


def test_an_old_manifest_says_what_it_cannot_prove(tmp_path: Path) -> None:
    digests = ("entries", "entries_sha256", "poisoned_sha256", "clean_sha256", "originals_sha256", "test_sha256")
    stored = Stored(tmp_path, images())
    stored.header(**dict.fromkeys(digests))
    restored = restored_set(tmp_path)
    assert restored.clean.fingerprint() == stored.clean.fingerprint()
    assert "without digests" in restored.unverified[0]
    stored.lines(lambda lines: lines[:1])
    with pytest.raises(RequestError, match="cut short"):
        restored_set(tmp_path)


def test_whatever_an_entry_names_is_looked_at_first(tmp_path: Path) -> None:
    """The entries of an old manifest have no digest: their places must be such as can be."""
    stored = Stored(tmp_path, images())
    path = tmp_path / "manifest.jsonl"
    facts, *entries = [json.loads(line) for line in path.read_text().splitlines()]
    old = {name: value for name, value in facts.items() if name != "entries" and not name.endswith("sha256")}
    for key, value in (("index", -1), ("index", 10**12), ("index", "3"), ("original_index", 0.5), ("index", None)):
        changed = [entries[0] | {key: value}, *entries[1:]]
        path.write_text("".join(json.dumps(line) + "\n" for line in (old, *changed)))
        with pytest.raises(RequestError, match=f"entry 0 has the {key}"):
            restored_set(tmp_path)
    for key in ("sha256", "original_sha256"):
        path.write_text("".join(json.dumps(line) + "\n" for line in (old, entries[0] | {key: None}, *entries[1:])))
        with pytest.raises(RequestError, match="is not the one in the manifest"):
            restored_set(tmp_path)
    twice = [entries[0], entries[1] | {"index": entries[0]["index"]}, *entries[2:]]
    path.write_text("".join(json.dumps(line) + "\n" for line in (old, *twice)))
    with pytest.raises(RequestError, match="entry 1 has the index"):
        restored_set(tmp_path)
    assert len(stored.manifest.changed) > 1


def test_a_poison_cannot_lie_about_its_rows() -> None:
    data = images()
    order = torch.arange(len(data))
    for source, what in (
        (order.flip(0), "in their order"),
        (order.clamp_max(5), "another row"),
        (order + 1, "another"),
    ):
        with pytest.raises(RequestError, match=what):
            compare(data, Poisoned(data if what != "in their order" else data.take(source), source), "liar")


def test_a_chain_is_one_poison_after_the_other() -> None:
    data = images()
    first, second = BadNets(Square(1), rate=0.1, target=0), BadNets(Square(2), rate=0.2, target="c")
    chained = Chain({"first": first, "butcher": Butcher(), "second": second})(data, seed=3)
    seeds = {name: seed_for(3, name) for name in ("first", "second")}
    by_hand = second(Butcher()(first(data, seed=seeds["first"]).data, seed=3).data, seed=seeds["second"]).data
    assert chained.data.fingerprint() == by_hand.fingerprint()
    manifest = compare(data, chained, "chain")
    assert manifest.restore(chained.data).fingerprint() == data.fingerprint()
    assert len(manifest.added) == 2
    assert Chain({"first": first, "second": second}).backdoor is second
    twice = compare(data, Chain({"one": first, "two": first})(data, seed=0), "chain")
    assert len(twice.changed) == 8, "two poisons of one kind draw different rows"
    with pytest.raises(RequestError, match="needs poisons"):
        Chain({})


@pytest.mark.parametrize("chained", [False, True])
def test_only_poisons_that_say_so_reach_the_validation_part(chained: bool) -> None:
    everywhere: Poison = SinglePixel(target=0, pixel=[2, 2])
    if chained:
        everywhere = Chain({"pixel": everywhere, "badnets": BadNets(Square(1), rate=0.1, target=1)})
    for poison, reaches in ((everywhere, True), (BadNets(Square(1), rate=0.1), False)):
        data = DataModule(Given(), name="given", val_size=8)
        data.setup()
        val, test = data.val, data.test.fingerprint()
        manifest = poison_training(data, poison, seed=0)
        assert data.poison == manifest.summary()
        assert data.test.fingerprint() == test
        assert val is not None
        assert data.val is not None
        assert torch.equal(data.val.y, val.y), "BadNets would have changed labels"
        changed = (data.val.x != val.x).flatten(1).any(dim=1)
        assert changed.any() == reaches
        assert (data.val.y[changed] == 0).all()


class Given:
    """The same pictures in both parts."""

    def load(self, split: str) -> Records:
        return images(80)
