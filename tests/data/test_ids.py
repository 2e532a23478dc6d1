"""A record keeps the id that it was read under, whatever is done to the set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data.tiny import noise, png, write_parquet, write_texts
from robustml.data import (
    BreastCancer,
    Csv,
    DataModule,
    Digits,
    ExtraImages,
    ImageFolder,
    Lineage,
    ParquetImages,
    Records,
    Source,
    Subset,
    Texts,
    Tones,
    cached,
    groups_of,
    record_name,
    resampled,
)
from robustml.data.splits import Split
from robustml.evaluation import evaluate
from robustml.results import Examples
from robustml.threats import LpBall


def csv(folder: Path) -> Source:
    lines = [f"{row},{row * row},{'ab'[row % 2]}" for row in range(40)]
    lines[5] = f",25,{'ab'[5 % 2]}"
    (folder / "table.csv").write_text("\n".join(["one,two,label", *lines]))
    return Csv(str(folder / "table.csv"), missing="drop_rows")


def pictures(folder: Path) -> Source:
    for row, pixels in enumerate(noise(20, 4, 4)):
        path = folder / "set" / "ab"[row % 2] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))
    return ImageFolder(str(folder / "set"))


def parquet(folder: Path) -> Source:
    return ParquetImages(write_parquet(folder / "a.parquet", [png(one) for one in noise(30, 4, 4)], [0, 1, 2] * 10))


def texts(folder: Path) -> Source:
    return Texts(write_texts(folder / "t.parquet", [f"word{row % 7} again" for row in range(30)], [0, 1] * 15))


SOURCES: dict[str, Callable[[Path], Source]] = {
    "digits": lambda folder: Digits(),
    "breast_cancer": lambda folder: BreastCancer(),
    "tones": lambda folder: Tones(train=12, test=6),
    "csv": csv,
    "folder": pictures,
    "parquet": parquet,
    "texts": texts,
    "subset": lambda folder: Subset(Digits(), ["3", "8"]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_an_id_names_the_row_of_the_file_and_is_the_same_in_every_load(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    parts = {split: [cached(source, split) for _ in range(2)] for split in ("train", "test")}  # type: ignore[arg-type]
    for first, again in parts.values():
        assert torch.equal(first.ids, again.ids)
        assert len(set(first.ids.tolist())) == len(first)
    rows = torch.cat([first.ids for first, _ in parts.values()])
    if name not in ("tones", "subset"):
        assert len(set(rows.tolist())) == len(rows), "both parts are of one file, and no row of it is in both"
    assert name != "csv" or 5 not in rows.tolist(), "the row that is left out leaves its number behind"


def test_the_row_is_that_of_the_file(tmp_path: Path) -> None:
    images = noise(30, 4, 4)
    for split in ("train", "test"):
        part = parquet(tmp_path).load(split)  # type: ignore[arg-type]
        assert np.array_equal(part.x[:, 0].numpy(), images[part.ids.numpy()])


class Given:
    """Row `i` is filled with `i`."""

    def load(self, split: Split) -> Records:
        x = torch.arange(60, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
        return Records(x, torch.arange(60) % 3, ("a", "b", "c"))


def filled(records: Records) -> list[int]:
    """The row that each record was, which its input tells."""
    return [int(value) for value in records.x[:, 0, 0, 0]]


def test_ids_survive_the_split_samples_reordering_balance_and_loaders() -> None:
    data = DataModule(Given(), name="given", val_size=12, train_limit=30, test_limit=20, extra=ExtraImages(Given()))
    data.setup()
    assert data.val is not None
    assert data.extra is not None
    known: set[int] = set()
    for name, part in (("train", data.train), ("train", data.val), ("test", data.test), ("extra", data.extra.records)):
        assert [record_name(one) for one in part.ids.tolist()] == [f"{name} {row}" for row in filled(part)]
        assert not known & set(part.ids.tolist())
        known |= set(part.ids.tolist())
    shuffled = data.train.take(torch.randperm(30)).renamed(("c", "b", "a")).to("cpu")
    balanced = resampled(shuffled, groups_of(shuffled.y, (shuffled.ids > 20).long()), seed=0, size="largest")
    for records in (shuffled, balanced, data.loader("train", limit=10).records):
        assert records.ids.tolist() == filled(records)
    assert torch.equal(data.loader("test").ids, data.test.ids)


def test_records_that_are_added_have_ids_of_their_own() -> None:
    records = Given().load("train")
    x, y = records.x[:2], records.y[:2]
    twice = records.extended(x, y).extended(x, y)
    assert [record_name(one) for one in twice.ids[-4:].tolist()] == ["added 0", "added 1", "added 2", "added 3"]
    assert torch.equal(twice.ids[:60], records.ids)
    assert twice.fingerprint() == Records(twice.x, twice.y, twice.class_names).fingerprint(), "ids are no content"


def test_verdicts_examples_and_what_a_run_saw_name_records_by_their_ids(tmp_path: Path) -> None:
    data = DataModule(Given(), name="given", val_size=12, test_limit=24)
    data.setup()
    lineage = Lineage.from_bytes(Lineage.of(data).to_bytes())
    assert data.val is not None
    assert torch.equal(lineage.ids, torch.cat([data.train.ids, data.val.ids, data.test.ids]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    ball = LpBall("inf", 0.3)
    loader = data.loader("test", batch_size=7)
    brighter = {"brighter": lambda model, x, y, generator=None: (x + 0.3).clamp(0, 1)}
    found = evaluate(model, loader, brighter, ball, progress=tmp_path / "verdicts.jsonl", examples=4)
    entries = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()[1:]]
    assert [one for entry in entries for one in entry["ids"]] == data.test.ids.tolist()
    assert found.verdicts.ids is not None
    assert found.verdicts.ids.tolist() == data.test.ids.tolist()
    examples = found.examples
    assert examples is not None
    assert examples.ids is not None
    rows = [data.test.ids.tolist().index(one) for one in examples.ids.tolist()]
    assert np.allclose(examples.x, data.test.x[rows].numpy() / 255)
    examples.save(tmp_path / "examples.npz")
    again = Examples.read(tmp_path / "examples.npz")
    assert again is not None
    assert np.array_equal(again.ids, examples.ids)
