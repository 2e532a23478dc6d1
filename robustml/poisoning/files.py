"""A poisoned set on disk: Parquet for use elsewhere, and the plan that made it and takes it back.

Images are stored as PNG in the Hub's layout (readable by `datasets`, and here by ``data=parquet``), other inputs as
lists of float32 in a column `features` (``data=features``); a column `id` holds the ids. The plan is written last: a
folder without one is of a command that was interrupted.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from robustml.data import ParquetFeatures, ParquetImages, Records
from robustml.errors import RequestError
from robustml.files import replacing
from robustml.poisoning.plan import PoisonPlan
from robustml.poisoning.plan_file import read_plan, write_plan
from robustml.progress import track

TRAIN, TEST, PLAN = "train.parquet", "test.parquet", "poison.parquet"


def write_poisoned_set(train: Records, test: Records, plan: PoisonPlan, folder: Path) -> None:
    """Write both parts, and at last the plan that takes the training part back."""
    write_set(train, folder / TRAIN)
    write_set(test, folder / TEST)
    write_plan(replace(plan, test_sha256=test.fingerprint()), folder / PLAN)


def restored_set(folder: Path) -> Records:
    """The clean training set, rebuilt from a folder that `write_poisoned_set` left.

    Checked are the plan's entries against its digests; every record that it names, before and after; the poisoned set
    and the test part as wholes; and the set that comes out. Digests that lie beside the files they are of prove that no
    part was lost or altered by itself, not who wrote them.

    Raises:
        RequestError: a file is missing, was altered, or is not of the others.
    """
    for name in (TRAIN, TEST, PLAN):
        if not (folder / name).is_file():
            raise RequestError(
                f"{folder} holds no complete poisoned set: there is no {name}; the command that writes it finishes it"
            )
    plan = read_plan(folder / PLAN)
    train, test = read_set(folder / TRAIN), read_set(folder / TEST)
    try:
        clean = plan.restore(train)
    except RequestError as error:
        raise RequestError(f"{folder / TRAIN} does not fit its plan: {error}") from error
    for part, name, expected in ((train, TRAIN, plan.poisoned_sha256), (test, TEST, plan.test_sha256)):
        if part.fingerprint() != expected:
            raise RequestError(f"{folder / name} does not fit the plan: it was altered, or its records moved")
    return clean


def write_set(data: Records, path: Path) -> None:
    """Write a set as Parquet: columns `image` (PNG) or `features`, `label` with the names of the classes, and `id`.

    Raises:
        RequestError: pictures of another number of channels than PNG can hold without loss.
    """
    if data.x.dtype == torch.uint8 and data.x.shape[1] not in (1, 3):
        raise RequestError(f"pictures are stored as PNG, of 1 or 3 channels; these have {data.x.shape[1]}")
    if data.x.dtype == torch.uint8:
        pictures = [{"bytes": _png(picture), "path": None} for picture in track(data.x, "writing pictures")]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns, features = {"image": pa.array(pictures, kind)}, dict[str, Any](image={"_type": "Image"})
    else:
        flat = data.x.flatten(1)
        columns = {"features": pa.FixedSizeListArray.from_arrays(pa.array(flat.flatten().numpy()), flat.shape[1])}
        features = {"features": {"_type": "List", "feature": {"dtype": "float32", "_type": "Value"}}}
    columns["label"] = pa.array(data.y.tolist(), pa.int64())
    features["label"] = {"names": list(data.class_names), "_type": "ClassLabel"}
    columns["id"] = pa.array(data.ids.numpy())
    features["id"] = {"dtype": "int64", "_type": "Value"}
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
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from error
    source = (ParquetImages if "image" in names else ParquetFeatures)(str(path), str(path))
    records = source.load("train")
    if "id" not in names:  # of version 0.1
        return records
    ids = pq.read_table(path, columns=["id"])["id"]
    if ids.type != pa.int64() or ids.null_count:
        raise RequestError(f"{path}: its ids are no whole numbers: the file is not of robustml poison")
    return replace(records, ids=torch.tensor(ids.to_pylist(), dtype=torch.int64))


def _png(picture: torch.Tensor) -> bytes:
    """A picture (C, H, W) of 1 or 3 channels as PNG, which loses nothing."""
    values = picture.permute(1, 2, 0).squeeze(2) if len(picture) == 1 else picture.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(values.contiguous().numpy()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
