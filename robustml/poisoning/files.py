"""A poisoned set on disk: Parquet for use elsewhere, its manifest, and what the clean records were.

Images are stored as PNG in the Hub's layout (readable by `datasets`, and here by ``data=parquet``), other inputs as
lists of float32 in a column `features` (``data=features``). The manifest is written last: a folder without one is of a
command that was interrupted.
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

from robustml.data import ParquetFeatures, ParquetImages, Records
from robustml.errors import RequestError
from robustml.files import replacing
from robustml.poisoning.manifest import Manifest

__all__ = ["MANIFEST", "ORIGINALS", "TEST", "TRAIN", "read_set", "write_poisoned_set", "write_set"]

TRAIN, TEST, MANIFEST, ORIGINALS = "train.parquet", "test.parquet", "manifest.jsonl", "originals.parquet"


def write_poisoned_set(train: Records, test: Records, manifest: Manifest, folder: Path) -> None:
    """Write both parts, the clean records behind all that the manifest lists, and at last the manifest."""
    write_set(train, folder / TRAIN)
    write_set(test, folder / TEST)
    write_set(manifest.originals, folder / ORIGINALS)
    manifest.write(folder / MANIFEST, test_sha256=test.fingerprint(), originals_sha256=manifest.originals.fingerprint())


def write_set(data: Records, path: Path) -> None:
    """Write a set as Parquet: columns `image` (PNG) or `features`, and `label` with the names of the classes.

    Raises:
        RequestError: pictures of another number of channels than PNG can hold without loss.
    """
    if data.x.dtype == torch.uint8 and data.x.shape[1] not in (1, 3):
        raise RequestError(f"pictures are stored as PNG, of 1 or 3 channels; these have {data.x.shape[1]}")
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


def read_set(path: Path) -> Records:
    """A set that `write_set` wrote.

    Raises:
        RequestError: it is missing, damaged, or of another kind.
    """
    try:
        images = "image" in pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from error
    source = ParquetImages(str(path), str(path)) if images else ParquetFeatures(str(path), str(path))
    return source.load("train")


def _png(picture: torch.Tensor) -> bytes:
    """A picture (C, H, W) of 1 or 3 channels as PNG, which loses nothing."""
    values = picture.permute(1, 2, 0).squeeze(2) if len(picture) == 1 else picture.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(values.contiguous().numpy()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
