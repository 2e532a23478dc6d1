"""A poisoned set on disk: Parquet for use elsewhere, its manifest, and what the clean records were.

Images are stored as PNG in the Hub's layout (readable by `datasets`, and here by ``data=parquet``), other inputs as
lists of float32 in a column `features` (``data=features``).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from robustml.data import Arrays, ParquetFeatures, ParquetImages
from robustml.errors import RequestError
from robustml.files import replacing
from robustml.poisoning.manifest import Manifest, record_digest

__all__ = ["restored_set", "write_poisoned_set", "write_set"]

TRAIN, TEST, MANIFEST, ORIGINALS = "train.parquet", "test.parquet", "manifest.jsonl", "originals.parquet"


def write_poisoned_set(train: Arrays, test: Arrays, manifest: Manifest, folder: Path) -> None:
    """Write both parts, the manifest, and the clean records behind all that it lists, into an existing folder."""
    write_set(train, folder / TRAIN)
    write_set(test, folder / TEST)
    write_set(manifest.originals, folder / ORIGINALS)
    manifest.write(folder / MANIFEST)


def write_set(data: Arrays, path: Path) -> None:
    """Write a set as Parquet: columns `image` (PNG) or `features`, and `label` with the names of the classes."""
    labels = pa.array(data.y.tolist(), pa.int64())
    names = {"names": list(data.class_names), "_type": "ClassLabel"}
    if data.x.dtype == torch.uint8:
        pictures = [{"bytes": _png(picture), "path": None} for picture in data.x]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {"image": pa.array(pictures, kind), "label": labels}
        features: dict[str, Any] = {"image": {"_type": "Image"}, "label": names}
    else:
        flat = data.x.flatten(1)
        values = pa.FixedSizeListArray.from_arrays(pa.array(flat.flatten().numpy()), flat.shape[1])
        columns = {"features": values, "label": labels}
        features = {"features": {"_type": "List", "feature": {"dtype": "float32", "_type": "Value"}}, "label": names}
    shape = json.dumps(list(data.x.shape[1:]))
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), "shape": shape}
    with replacing(path) as file:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)


def restored_set(folder: Path) -> Arrays:
    """The clean training set, rebuilt from a folder that `write_poisoned_set` left; every record's digest is checked.

    Raises:
        RequestError: a file is missing or was altered.
    """
    for name in (TRAIN, ORIGINALS, MANIFEST):
        if not (folder / name).is_file():
            raise RequestError(f"{folder} holds no poisoned set: there is no {name}")
    facts, entries = _read_manifest(folder / MANIFEST)
    poisoned = _read_set(folder / TRAIN)
    if len(poisoned) != facts["rows"]:
        raise RequestError(f"{folder / TRAIN} has {len(poisoned)} records, its manifest is of {facts['rows']}")
    touched = torch.zeros(len(poisoned), dtype=torch.bool)
    for entry in entries:
        index = entry["index"]
        if index is None:
            continue
        if record_digest(poisoned.x[index], int(poisoned.y[index])) != entry["sha256"]:
            raise RequestError(f"{folder / TRAIN}: record {index} is not the one in the manifest: it was altered since")
        touched[index] = True
    lost = [entry for entry in entries if entry["original_index"] is not None]
    originals = _read_set(folder / ORIGINALS) if lost else poisoned.sample(0)
    for position, entry in enumerate(lost):
        if record_digest(originals.x[position], int(originals.y[position])) != entry["original_sha256"]:
            raise RequestError(f"{folder / ORIGINALS}: record {position} is not the one in the manifest")
    rows = torch.tensor([entry["original_index"] for entry in lost], dtype=torch.int64)
    is_lost = torch.zeros(facts["clean_rows"], dtype=torch.bool)
    is_lost[rows] = True
    x = torch.empty(facts["clean_rows"], *poisoned.x.shape[1:], dtype=poisoned.x.dtype)
    y = torch.empty(facts["clean_rows"], dtype=torch.int64)
    # The rows that were left alone are in their old order: `compare` has seen to that.
    x[~is_lost], y[~is_lost] = poisoned.x[~touched], poisoned.y[~touched]
    x[rows], y[rows] = originals.x, originals.y
    return Arrays(x, y, poisoned.class_names)


def _read_manifest(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        facts, *entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {"rows": int(facts["rows"]), "clean_rows": int(facts["clean_rows"])}, entries
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is no manifest of a poisoned set: {error}") from error


def _read_set(path: Path) -> Arrays:
    images = "image" in pq.read_schema(path).names
    source = ParquetImages(str(path), str(path)) if images else ParquetFeatures(str(path), str(path))
    return source.load("train")


def _png(picture: torch.Tensor) -> bytes:
    """A picture (C, H, W) of 1 or 3 channels as PNG, which loses nothing."""
    values = picture.permute(1, 2, 0).squeeze(2) if len(picture) == 1 else picture.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(values.contiguous().numpy()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
