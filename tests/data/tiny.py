"""Tiny images and Parquet files, written on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(pixels: np.ndarray, mode: str | None = None, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, kind)
    return stream.getvalue()


def noise(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8)


def write_parquet(
    path: Path, images: list[bytes | None], labels: list[object], names: list[str] | None = None, label: str = "label"
) -> str:
    """A file of the Hub's layout, with its metadata where `names` are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [{"bytes": content, "path": None} for content in images], label: labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return str(path)


def write_texts(path: Path, texts: list[str | None], labels: list[int], names: list[str] | None = None) -> str:
    """Texts in a file of the Hub's layout, with its metadata where `names` are given."""
    table = pa.table({"text": texts, "label": labels})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return str(path)
