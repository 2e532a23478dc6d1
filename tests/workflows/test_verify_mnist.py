"""Real MNIST, a copy of it: what was done to which record is what is said, in seconds."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustml.data import HubImages
from robustml.workflows.integrity.manifest import make_manifest
from robustml.workflows.integrity.verify import verify_data

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("ROBUSTML_DATA" not in os.environ, reason="ROBUSTML_DATA names no folder with MNIST"),
]


def test_records_of_mnist_are_named(tmp_path: Path) -> None:
    shutil.copytree(Path(os.environ["ROBUSTML_DATA"]) / "mnist", tmp_path / "mnist")
    source, path = HubImages("ylecun/mnist", root=str(tmp_path)), tmp_path / "mnist" / "train.parquet"
    path.chmod(0o644)
    made = make_manifest(source, tmp_path / "m", name="mnist", decoded=False)
    assert (made.parts["train"].records, made.parts["test"].records) == (60_000, 10_000)
    assert made.parts["test"].classes["7"] == 1028

    def said() -> dict[str, str]:
        return {one.record: one.what for one in verify_data(source, tmp_path / "m", unsigned=True).records}

    assert said() == {}
    whole, table, chance = path.read_bytes(), pq.read_table(path), random.Random(0)
    for _ in range(5):  # bits of pictures, which lie there as they are
        row = chance.randrange(60_000)
        picture = table["image"][row].as_py()["bytes"]
        at, content = whole.index(picture) + chance.randrange(len(picture)), bytearray(whole)
        content[at] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        assert said() == {f"train {row}": "input"}
    rows = list(range(60_000))
    rows[100], rows[50_000] = rows[50_000], rows[100]
    rows.insert(20_000, 7)
    del rows[40_000]  # the record 39,999, since one was put in before it
    labels = table["label"].to_pylist()
    labels[5] = (labels[5] + 1) % 10
    pq.write_table(table.set_column(1, table.schema.field("label"), pa.array(labels)).take(pa.array(rows)), path)
    assert said() == {
        "train 5": f"label {(labels[5] - 1) % 10} -> {labels[5]}",
        "train 100": "swapped with train 50000",
        "train 50000": "swapped with train 100",
        "train 20000": "inserted; a copy of train 7",
        "train 39999": "deleted",
    }
