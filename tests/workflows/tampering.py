"""A small set of real pictures in Parquet, and what can be done to its files."""

from __future__ import annotations

import faulthandler
import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from data.tiny import png
from sklearn.datasets import load_digits

from robustml.data import ParquetImages

NAMES = [str(digit) for digit in range(10)]


def digits(count: int, first: int = 0) -> tuple[list[bytes], list[int]]:
    """Scikit-learn's digits as PNG files, all of them different, and their labels."""
    data = load_digits()
    pictures = [png((image * 15.9).astype(np.uint8)) for image in data.images[first : first + count]]
    return pictures, data.target[first : first + count].tolist()


def write(path: Path, pictures: Sequence[bytes], labels: Sequence[int], compression: str = "snappy") -> Path:
    """A Parquet file of several groups and pages, as the Hub lays them out."""
    table = pa.table({"image": [{"bytes": one, "path": None} for one in pictures], "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    statistics = compression != "none"  # where there are none, nothing says how many pictures are mere paths
    pq.write_table(
        table, path, compression=compression, row_group_size=64, data_page_size=2048, write_statistics=statistics
    )
    return path


def made(folder: Path, count: int = 160, compression: str = "none") -> ParquetImages:
    """A set of `count` training and 40 test pictures in `folder`."""
    train = write(folder / "train.parquet", *digits(count), compression)
    test = write(folder / "test.parquet", *digits(40, 1000), compression)
    return ParquetImages(str(train), str(test))


def flip(path: Path, bit: int) -> None:
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def rewritten(path: Path, change: Callable[[list[bytes], list[int]], None]) -> None:
    """Write the file again, packed otherwise, once its pictures and labels are changed in place."""
    table = pq.read_table(path)
    pictures, labels = [one["bytes"] for one in table["image"].to_pylist()], table["label"].to_pylist()
    change(pictures, labels)
    write(path, pictures, labels, "gzip")


def content(path: Path) -> list[object] | None:
    """What pyarrow reads of a file, row by row, in a process of its own; None where it cannot, or dies of it."""
    reader, writer = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(path, writer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    writer.close()
    try:
        rows: list[object] | None = reader.recv()
    except EOFError:
        rows = None
    process.join()
    return rows


def _send(path: Path, writer: Connection) -> None:
    faulthandler.disable()
    try:
        table = pq.read_table(path)
        images = [None if one is None else (one["bytes"], one["path"]) for one in table["image"].to_pylist()]
        writer.send(list(zip(images, table["label"].to_pylist(), strict=True)))
    except Exception:  # whatever a broken file makes it raise
        writer.send(None)
