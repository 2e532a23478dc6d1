"""The manifest against a comparison of the two sets written independently, and what can be rebuilt from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from robustml.data import Arrays, DataModule, ParquetFeatures, ParquetImages
from robustml.errors import RequestError
from robustml.poisoning import BadNets, Chain, Poison, Poisoned, SinglePixel, Square, compare, poison_training
from robustml.poisoning.choose import seed_for
from robustml.poisoning.files import restored_set, write_poisoned_set, write_set


def images(count: int = 40, classes: int = 4) -> Arrays:
    generator = Generator().manual_seed(1)
    x = torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8, generator=generator)
    return Arrays(x, torch.arange(count) % classes, tuple("abcdefgh"[:classes]))


def vectors(count: int = 40) -> Arrays:
    return Arrays(
        torch.rand(count, 2, 7, generator=Generator().manual_seed(2)), torch.arange(count) % 3, ("a", "b", "c")
    )


class Butcher:
    """Deletes every fifth row, changes every seventh label, adds two rows in front and swaps in an input."""

    def __call__(self, data: Arrays, *, seed: int) -> Poisoned:
        kept = torch.tensor([row for row in range(len(data)) if row % 5])
        x, y = data.x[kept].clone(), data.y[kept].clone()
        y[::7] = (y[::7] + 1) % len(data.class_names)
        x[3] = 1 - x[3] if x.dtype == torch.float32 else 255 - x[3]
        x, y = torch.cat([data.x[:2], x]), torch.cat([data.y[:2], y])
        return Poisoned(Arrays(x, y, data.class_names), torch.cat([torch.tensor([-1, -1]), kept]))


@pytest.mark.parametrize("data", [images(), vectors()], ids=["images", "vectors"])
def test_the_manifest_is_the_difference_of_the_bytes(data: Arrays, tmp_path: Path) -> None:
    poisoned = Butcher()(data, seed=0)
    manifest = compare(data, poisoned, "butcher")

    def row(arrays: Arrays, index: int) -> tuple[bytes, int]:
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
def test_the_clean_set_comes_back_bit_for_bit(data: Arrays, tmp_path: Path) -> None:
    poisoned = Butcher()(data, seed=0)
    manifest = compare(data, poisoned, "butcher")
    assert manifest.restore(poisoned.data).fingerprint() == data.fingerprint()
    write_poisoned_set(poisoned.data, data, manifest, tmp_path)
    assert restored_set(tmp_path).fingerprint() == data.fingerprint()
    source = ParquetImages if data.x.dtype == torch.uint8 else ParquetFeatures
    stored = source(str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet"))
    assert stored.load("train").fingerprint() == poisoned.data.fingerprint()
    assert stored.load("test").fingerprint() == data.fingerprint()


def test_what_was_altered_since_is_named(tmp_path: Path) -> None:
    data = images()
    poison = BadNets(Square(2), rate=0.25, target="b")
    poisoned = poison(data, seed=0)
    manifest = compare(data, poisoned, "badnets")
    write_poisoned_set(poisoned.data, data, manifest, tmp_path)
    altered = poisoned.data.x.clone()
    altered[manifest.changed[1], 0, 0, 0] ^= 1
    write_set(Arrays(altered, poisoned.data.y, data.class_names), tmp_path / "train.parquet")
    with pytest.raises(RequestError, match=f"record {int(manifest.changed[1])} is not the one"):
        restored_set(tmp_path)
    (tmp_path / "manifest.jsonl").write_text("nonsense\n")
    with pytest.raises(RequestError, match="no manifest of a poisoned set"):
        restored_set(tmp_path)


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

    def load(self, split: str) -> Arrays:
        return images(80)
