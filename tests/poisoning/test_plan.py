"""The plan against a comparison of the two sets written independently, and what can be rebuilt from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from poisons import Both, poisoned
from torch import Generator, Tensor

from robustml.data import DataModule, ParquetFeatures, ParquetImages, Records
from robustml.errors import RequestError
from robustml.poisoning import (
    BadNets,
    Chain,
    Poison,
    PoisonPlan,
    SinglePixel,
    Square,
    apply_plan,
    planned,
    poison_training,
    read_plan,
    write_plan,
)
from robustml.poisoning.choose import seed_for
from robustml.poisoning.files import read_set, restored_set, write_poisoned_set, write_set


def images(count: int = 40, classes: int = 4) -> Records:
    generator = Generator().manual_seed(1)
    x = torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8, generator=generator)
    return Records(x, torch.arange(count) % classes, tuple("abcdefgh"[:classes]))


def vectors(count: int = 40) -> Records:
    return Records(
        torch.rand(count, 2, 7, generator=Generator().manual_seed(2)), torch.arange(count) % 3, ("a", "b", "c")
    )


class Butcher:
    """Deletes every fifth row, changes every seventh label, adds two rows and swaps in an input."""

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        kept = records.take(torch.tensor([row for row in range(len(records)) if row % 5]))
        x, y = kept.x.clone(), kept.y.clone()
        y[::7] = (y[::7] + 1) % len(records.class_names)
        x[3] = 1 - x[3] if x.dtype == torch.float32 else 255 - x[3]
        changed = kept.changed(torch.arange(len(kept)), x, y)
        return planned(self, records, changed.extended(records.x[:2], records.y[:2]))


def row(records: Records, index: int) -> tuple[bytes, int]:
    return records.x[index].numpy().tobytes(), int(records.y[index])


def digest(record: tuple[bytes, int]) -> str:
    return hashlib.sha256(record[0] + np.int64(record[1]).tobytes()).hexdigest()


@pytest.mark.parametrize("data", [images(), vectors()], ids=["images", "vectors"])
def test_the_plan_is_the_difference_of_the_bytes(data: Records, tmp_path: Path) -> None:
    plan = Butcher().plan(data, seed=0)
    poisoned = plan.apply(data)
    old = {int(identity): row(data, place) for place, identity in enumerate(data.ids)}
    new = {int(identity): row(poisoned, place) for place, identity in enumerate(poisoned.ids)}
    expected = {}
    for identity in sorted({*old, *new}):
        before, after = old.get(identity), new.get(identity)
        if before != after:
            change = "added" if before is None else "deleted" if after is None else "changed"
            expected[identity] = (
                change,
                before and before[1],
                after and after[1],
                before and digest(before),
                after and digest(after),
                None if before is None else data.ids.tolist().index(identity),
            )
    write_plan(plan, tmp_path / "poison.parquet")
    table = pq.read_table(tmp_path / "poison.parquet").to_pylist()
    keys = ("change", "original_label", "label", "original_sha256", "sha256", "place")
    assert {entry["id"]: tuple(entry[key] for key in keys) for entry in table} == expected
    assert {change for change, *_ in expected.values()} == {"changed", "added", "deleted"}
    for entry in table:
        before, after = old.get(entry["id"]), new.get(entry["id"])
        assert entry["before"] == (before and before[0])
        assert entry["after"] == (None if after is None or (before and before[0] == after[0]) else after[0])
    counts = plan.summary.changed + plan.summary.added + plan.summary.deleted
    assert len(plan) == len(table) == counts
    assert plan.summary.rate == len(table) / len(data)


@pytest.mark.parametrize("data", [images(), vectors()], ids=["images", "vectors"])
def test_the_clean_set_comes_back_bit_for_bit(data: Records, tmp_path: Path) -> None:
    plan = Butcher().plan(data, seed=0)
    poisoned = plan.apply(data)
    write_poisoned_set(poisoned, data, plan, tmp_path)
    assert restored_set(tmp_path).fingerprint() == data.fingerprint()
    source = ParquetImages if data.x.dtype == torch.uint8 else ParquetFeatures
    stored = source(str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet"))
    assert stored.load("train").fingerprint() == poisoned.fingerprint()
    assert stored.load("test").fingerprint() == data.fingerprint()
    assert torch.equal(read_set(tmp_path / "train.parquet").ids, poisoned.ids)


class Stored:
    """A poisoned set on disk, to be tampered with."""

    def __init__(self, folder: Path, data: Records) -> None:
        self.folder, self.clean = folder, data
        self.plan = Butcher().plan(data, seed=0)
        self.made = self.plan.apply(data)
        write_poisoned_set(self.made, data, self.plan, folder)
        self.path = folder / "poison.parquet"

    def entries(self, change: Callable[[pa.Table], pa.Table]) -> None:
        """Other entries under the same head."""
        table = pq.read_table(self.path)
        pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), self.path)

    def cell(self, column: str, place: int, value: object) -> None:
        """Another value in one entry."""

        def changed(table: pa.Table) -> pa.Table:
            values = table[column].to_pylist()
            values[place] = value
            return table.set_column(table.column_names.index(column), table.schema.field(column),
                                    pa.array(values, table.schema.field(column).type))  # fmt: skip

        self.entries(changed)

    def head(self, **values: object) -> None:
        """Other values in the head; None takes one out."""
        table = pq.read_table(self.path)
        facts = json.loads(table.schema.metadata[b"robustml.poison"]) | values
        text = json.dumps({key: value for key, value in facts.items() if value is not None})
        pq.write_table(table.replace_schema_metadata({"robustml.poison": text}), self.path)

    def records(self, change: Callable[[Tensor, Tensor], object], name: str = "train.parquet") -> None:
        """Other records in a part, written as `robustml poison` writes them."""
        data = self.made if name == "train.parquet" else self.clean
        x, y = data.x.clone(), data.y.clone()
        change(x, y)
        write_set(Records(x, y, data.class_names, ids=data.ids), self.folder / name)

    def rewritten(self, **values: Any) -> None:
        """Another plan, whose own digests fit."""
        write_plan(replace(self.plan, **values, test_sha256=self.clean.fingerprint()), self.path)

    @property
    def unlisted(self) -> int:
        """A record of the poisoned set that the plan does not name."""
        return next(place for place in range(10, 30) if self.made.ids[place] not in self.plan.after.ids)

    @property
    def listed(self) -> int:
        """One that it names."""
        return int((self.made.ids == self.plan.after.ids[1]).nonzero())


def _flip_bit(x: Tensor, place: int) -> None:
    flat = x.view(len(x), -1)
    flat[place, 0] = 1 - flat[place, 0] if x.dtype == torch.float32 else flat[place, 0] ^ 1


def _swap(x: Tensor, y: Tensor, one: int, other: int) -> None:
    for part in (x, y):
        part[[one, other]] = part[[other, one]]


def _relabel(y: Tensor, place: int) -> None:
    y[place] = (y[place] + 1) % 3


ALTERED = "was altered|is no plan of a poison"
OTHER = "does not fit"
TAMPERED: dict[str, tuple[Callable[[Stored], object], str]] = {
    "no entries": (lambda s: s.entries(lambda table: table[:0]), ALTERED),
    "the last entry lost": (lambda s: s.entries(lambda table: table[:-1]), ALTERED),
    "an entry twice": (lambda s: s.entries(lambda table: pa.concat_tables([table, table[-1:]])), ALTERED),
    "entries in another order": (lambda s: s.entries(lambda t: pa.concat_tables([t[1:2], t[:1], t[2:]])), ALTERED),
    "a column less": (lambda s: s.entries(lambda table: table.drop_columns("sha256")), ALTERED),
    "another id": (lambda s: s.cell("id", 0, 2**41), ALTERED),
    "another label": (lambda s: s.cell("label", 0, (int(s.plan.after.y[0]) + 1) % 3), ALTERED),
    "a label that no class has": (lambda s: s.cell("label", 0, 99), ALTERED),
    "another change": (lambda s: s.cell("change", 0, "deleted"), ALTERED),
    "an unknown change": (lambda s: s.cell("change", 0, "moved"), ALTERED),
    "another place": (lambda s: s.cell("place", 0, 3), ALTERED),
    "a place that cannot be": (lambda s: s.cell("place", 0, -1), ALTERED),
    "no place": (lambda s: s.cell("place", 0, None), ALTERED),
    "another digest": (lambda s: s.cell("sha256", 0, "0" * 64), ALTERED),
    "no bytes before": (lambda s: s.cell("before", 0, None), ALTERED),
    "other bytes after": (lambda s: s.cell("after", 0, bytes(len(s.made.x[0].numpy().tobytes()))), ALTERED),
    "no digest in the head": (lambda s: s.head(entries_sha256=None), ALTERED),
    "fewer rows in the head": (lambda s: s.head(rows=12), ALTERED),
    "more rows in the head": (lambda s: s.head(rows=10**12), f"{ALTERED}|{OTHER}"),
    "no number of rows": (lambda s: s.head(rows="many"), ALTERED),
    "another shape": (lambda s: s.head(shape=[10**9]), ALTERED),
    "more than the head may hold": (lambda s: s.head(surprise=1), ALTERED),
    "another clean set": (lambda s: s.head(clean_sha256="sha256:0"), "not the one that was poisoned"),
    "another poisoned set": (lambda s: s.head(poisoned_sha256="sha256:0"), OTHER),
    "other figures": (lambda s: s.head(summary={"kind": "flip"}), ALTERED),
    "no metadata": (lambda s: pq.write_table(pq.read_table(s.path).replace_schema_metadata({}), s.path), ALTERED),
    "nonsense": (lambda s: s.path.write_bytes(b"nonsense"), ALTERED),
    "cut short": (lambda s: s.path.write_bytes(s.path.read_bytes()[:-100]), ALTERED),
    "one bit": (lambda s: s.path.write_bytes(s.path.read_bytes().replace(b"PAR1", b"PAR2")), ALTERED),
    "fewer records before": (
        lambda s: s.rewritten(before=s.plan.before.take(torch.arange(9)), places=s.plan.places[:9]), OTHER
    ),
    "a listed record": (lambda s: s.records(lambda x, y: _flip_bit(x, s.listed)), "record train .* is not the one"),
    "an unlisted record": (lambda s: s.records(lambda x, y: _flip_bit(x, s.unlisted)), OTHER),
    "an unlisted label": (lambda s: s.records(lambda x, y: _relabel(y, s.unlisted)), OTHER),
    "unlisted records swapped": (lambda s: s.records(lambda x, y: _swap(x, y, s.unlisted, s.unlisted + 1)), OTHER),
    "one record less": (lambda s: write_set(s.made.take(torch.arange(len(s.made) - 1)), s.folder / "train.parquet"),
                        OTHER),
    "the test part": (lambda s: s.records(lambda x, y: _flip_bit(x, 3), "test.parquet"), "test.parquet does not fit"),
    "no Parquet": (lambda s: (s.folder / "train.parquet").write_bytes(b"PAR1"), "not a readable Parquet file"),
    "no plan": (lambda s: s.path.unlink(), "no complete poisoned set"),
    "class names": (
        lambda s: write_set(Records(s.made.x, s.made.y, tuple("zyxw"[: len(s.clean.class_names)]), ids=s.made.ids),
                            s.folder / "train.parquet"),
        "of other classes",
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


def test_a_plan_is_applied_to_its_own_set_alone() -> None:
    data = images()
    plan = Butcher().plan(data, seed=0)
    other = Records(data.x.clone(), data.y, data.class_names)
    other.x[0, 0, 0, 0] ^= 1
    with pytest.raises(RequestError, match="record train 0 is not the one that the plan was made for"):
        plan.apply(other)
    with pytest.raises(RequestError, match="other classes"):
        plan.apply(vectors())
    module = DataModule(Both(data), name="both", val_size=0)
    module.setup()
    unnamed = next(place for place in range(40) if place not in plan.before.ids.tolist())
    module.train.x[unnamed] ^= 1
    with pytest.raises(RequestError, match="records that the plan does not name were added, lost, altered"):
        apply_plan(module, plan)


def test_a_poison_cannot_lie_about_its_rows() -> None:
    data, order = images(), torch.arange(40)
    for lie, what in (
        (data.take(order.flip(0)), "in their order"),
        (data.take(order.clamp_max(5)), "each once"),
        (data.extended(data.x[:1], data.y[:1]).take((order + 40) % 41), "at the end"),
    ):
        with pytest.raises(RequestError, match=what):
            planned(Butcher(), data, lie)
    with pytest.raises(RequestError, match="every record once"):
        planned(Butcher(), data.take(order // 2), data)


def test_a_chain_is_one_poison_after_the_other() -> None:
    data = images()
    first, second = BadNets(Square(1), rate=0.1, target=0), BadNets(Square(2), rate=0.2, target="c")
    plan = Chain({"first": first, "butcher": Butcher(), "second": second}).plan(data, seed=3)
    by_hand = data
    for name, poison in (("first", first), ("butcher", Butcher()), ("second", second)):
        by_hand = poisoned(poison, by_hand, seed=seed_for(3, name))
    assert plan.apply(data).fingerprint() == by_hand.fingerprint()
    assert plan.restore(by_hand).fingerprint() == data.fingerprint()
    assert plan.summary.added == 2
    assert Chain({"first": first, "second": second}).backdoor is second
    assert len(Chain({"one": first, "two": first}).plan(data, seed=0)) == 8, "two of one kind draw different rows"
    with pytest.raises(RequestError, match="needs poisons"):
        Chain({})


@pytest.mark.parametrize("chained", [False, True])
def test_only_poisons_that_say_so_reach_the_validation_part(chained: bool, tmp_path: Path) -> None:
    everywhere: Poison = SinglePixel(target=0, pixel=[2, 2])
    if chained:
        everywhere = Chain({"pixel": everywhere, "badnets": BadNets(Square(1), rate=0.1, target=1)})
    for poison, reaches in ((everywhere, True), (BadNets(Square(1), rate=0.1), False)):
        data = DataModule(Both(images(80)), name="given", val_size=8)
        data.setup()
        val, test = data.val, data.test.fingerprint()
        plan = poison_training(data, poison, seed=0)
        assert data.poison == plan.summary
        assert data.test.fingerprint() == test
        assert val is not None
        assert data.val is not None
        assert torch.equal(data.val.y, val.y), "BadNets would have changed labels"
        changed = (data.val.x != val.x).flatten(1).any(dim=1)
        assert changed.any() == reaches
        assert (data.val.y[changed] == 0).all()
        write_plan(plan, tmp_path / "poison.parquet")
        again = DataModule(Both(images(80)), name="given", val_size=8)
        apply_plan(again, read_plan(tmp_path / "poison.parquet"))
        assert again.fingerprints() == data.fingerprints()
