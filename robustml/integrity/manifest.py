"""Manifests of sets: what every record was, by its digests, written and read without holding the set.

A manifest is a folder: manifest.json (`robustml.results.integrity.Manifest`), and records.parquet with a row a
record: its part, its row there, the name of its own file, its label, the SHA-256 of each field (null where it has
none), and its leaf in the Merkle tree of the part: the RFC 6962 leaf hash of the JSON array [name, label, {field: hex
digest}], without blanks, keys sorted, all but ASCII escaped, and fields that are null left out.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from robustml.errors import RequestError
from robustml.files import read_json, replacing, sha256
from robustml.integrity.merkle import Tree, leaf_hash
from robustml.integrity.names import check_names
from robustml.integrity.signing import SIGNATURE
from robustml.progress import track
from robustml.results.integrity import Manifest, ManifestFile, ManifestPart
from robustml.results.reading import checked, write_checked

MANIFEST, RECORDS = "manifest.json", "records.parquet"
# Of a folder with millions of pictures; a set in few files needs a few KiB.
_LARGEST = 2**30
_ROWS_A_BYTE, _BATCH = 8, 16384


class Entry(Protocol):
    """A record, as `robustml.data.sources.stored.Stored` is one."""

    @property
    def row(self) -> int:
        """Of its part."""
        ...

    @property
    def name(self) -> str:
        """Of its own file, or ""."""
        ...

    @property
    def fields(self) -> dict[str, bytes | None]:
        """What it consists of."""
        ...


class PartOf(NamedTuple):
    """A part that a manifest is to be made of.

    Args:
        records: all of them, in order; looked at once.
        path: what it is read from, below the folder that all parts lie in.
        classes: in label order, where they are known before the records are.
        decoded: its fingerprint as it is loaded.
    """

    records: Iterable[Entry]
    path: str | None = None
    classes: Sequence[str] | None = None
    decoded: str | None = None


class Digests(NamedTuple):
    """The records of a part.

    Args:
        rows: of each.
        names: of their own files.
        labels: their classes.
        fields: the digests of each field but the label, in the order of the records.
        leaves: in the Merkle tree.
    """

    rows: list[int]
    names: list[str]
    labels: list[str | None]
    fields: dict[str, list[bytes | None]]
    leaves: list[bytes]


class Digested(NamedTuple):
    """One record by its digests."""

    row: int
    name: str
    label: str | None
    fields: dict[str, bytes | None]

    @property
    def leaf(self) -> bytes:
        """In the Merkle tree of its part."""
        fields = {name: one.hex() for name, one in self.fields.items() if one is not None}
        return leaf_hash(json.dumps([self.name, self.label, fields], sort_keys=True, separators=(",", ":")).encode())


def digested(record: Entry) -> Digested:
    """A record by its digests."""
    fields = {
        name: None if content is None else hashlib.sha256(content).digest()
        for name, content in record.fields.items()
        if name != "label"
    }
    label = record.fields.get("label")
    return Digested(record.row, record.name, None if label is None else label.decode(errors="surrogateescape"), fields)


def write_manifest(
    folder: Path,
    parts: Mapping[str, PartOf],
    files: Sequence[ManifestFile] = (),
    *,
    name: str,
    source: str = "",
    licence: str = "",
    revision: str = "",
) -> Manifest:
    """Make a manifest, anew or in place of an older one, whose series it goes on with; a signature there is taken away.

    Args:
        folder: where to.
        parts: by name, in order.
        files: what they are read from.
        name: of the set.
        source: where it comes from, in your own words; so are the licence and the revision.
        licence: under which it may be used.
        revision: which state of it this is.

    Raises:
        RequestError: the folder holds something else, a part is empty, its records have several kinds of fields, or a
            file's name is one that a manifest must not hold.
        RunFailed: it cannot be written.
    """
    series, serial = _going_on(folder)
    for part in parts:
        check_names((file.path for file in files if file.part == part), f"the {part} part")
    with suppress(FileNotFoundError):
        (folder / SIGNATURE).unlink()
    tree, written = Tree(), dict[str, ManifestPart]()
    with replacing(folder / RECORDS) as file:
        for part, made in _write_records(file, parts):
            written[part] = made
            tree.add(leaf_hash(part.encode() + b"\0" + bytes.fromhex(made.root.removeprefix("sha256:"))))
    manifest = Manifest(
        name=name,
        series=series,
        serial=serial,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=source,
        licence=licence,
        revision=revision,
        parts=written,
        root=f"sha256:{tree.root().hex()}",
        files=list(files),
        records_sha256=sha256(folder / RECORDS),
    )
    write_checked(manifest, folder / MANIFEST)
    return manifest


def _going_on(folder: Path) -> tuple[str, int]:
    if (folder / MANIFEST).is_file():
        before = read_manifest(folder)
        return before.series, before.serial + 1
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} holds something else than a manifest; name another folder: out=<dir>")
    return secrets.token_hex(16), 1


def _write_records(file: IO[bytes], parts: Mapping[str, PartOf]) -> Iterator[tuple[str, ManifestPart]]:
    """Write the table, and give what is to be said of each part once it is written."""
    import pyarrow as pa
    from pyarrow import parquet

    streams, columns = {}, dict[str, None]()
    for part, given in parts.items():
        records = iter(given.records)
        if (first := next(records, None)) is None:
            raise RequestError(f"the {part} part holds no record: there is nothing to make a manifest of")
        streams[part] = chain([first], records)
        columns |= dict.fromkeys(field for field in first.fields if field != "label")
    kinds = {"part": pa.string(), "row": pa.int64(), "name": pa.string(), "label": pa.binary()}
    kinds |= {f"sha256.{field}": pa.binary(32) for field in columns} | {"leaf": pa.binary(32)}
    schema = pa.schema(list(kinds.items()))
    with parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=["part", "label"]) as writer:
        for part, stream in streams.items():
            tree, counts, count = Tree(), dict.fromkeys(parts[part].classes or (), 0), 0
            rows: list[dict[str, Any]] = []
            for record in track(map(digested, stream), f"digests of {part}"):
                if strange := record.fields.keys() - columns.keys():
                    raise RequestError(
                        f"{part} {record.row} has the field {min(strange)!r}, which the first record has not; give "
                        "every record the same fields"
                    )
                tree.add(leaf := record.leaf)
                count += 1
                if record.label is not None:
                    counts[record.label] = counts.get(record.label, 0) + 1
                rows.append(_row(part, record, leaf))
                if len(rows) == _BATCH:
                    writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
                    rows = []
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            known = parts[part].classes
            yield (
                part,
                ManifestPart(
                    path=parts[part].path,
                    records=count,
                    classes={
                        readable(name): counts[name] for name in (counts if known is not None else sorted(counts))
                    },
                    fields=list(columns),
                    root=f"sha256:{tree.root().hex()}",
                    decoded=parts[part].decoded,
                ),
            )


def _row(part: str, record: Digested, leaf: bytes) -> dict[str, Any]:
    row = {"part": part, "row": record.row, "name": record.name, "leaf": leaf}
    row["label"] = None if record.label is None else record.label.encode(errors="surrogateescape")
    return row | {f"sha256.{field}": digest for field, digest in record.fields.items()}


def readable(name: str) -> str:
    """A text with its bytes that are no UTF-8 spelt out."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder, as far as it is told without its signature.

    Raises:
        RequestError: there is none, it is damaged, names files that it must not, or lies beside the records of another.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise RequestError(f"no manifest in {folder}: expected {MANIFEST}, as robustml data manifest writes it")
    manifest = checked(Manifest, read_json(path, _LARGEST), str(path))
    for part in manifest.parts:
        check_names((file.path for file in manifest.files if file.part == part), path)
    return manifest


def read_records(folder: Path, manifest: Manifest, part: str) -> Digests:
    """The records of a part.

    Raises:
        RequestError: records.parquet is missing, damaged, or not that of the manifest.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path, fields = folder / RECORDS, manifest.parts[part].fields
    if sha256(path) != manifest.records_sha256:
        raise RequestError(f"{path} is not the table that {MANIFEST} was written with; make the manifest anew")
    try:
        with parquet.ParquetFile(path) as table:
            if table.metadata.num_rows > _ROWS_A_BYTE * path.stat().st_size:
                raise RequestError(f"{path} is refused: it claims to hold {table.metadata.num_rows:,} rows")
            columns = table.read(["part", "row", "name", "label", "leaf", *(f"sha256.{field}" for field in fields)])
        columns = columns.filter(pa.compute.equal(columns["part"], part))
        read: dict[str, list[Any]] = {name: columns[name].to_pylist() for name in columns.column_names}
        labels = [None if one is None else one.decode(errors="surrogateescape") for one in read["label"]]
        if len(labels) != manifest.parts[part].records:
            raise RequestError(f"{path} holds {len(labels)} records of {part}, not {manifest.parts[part].records}")
        digests = {field: read[f"sha256.{field}"] for field in fields}
        return Digests(read["row"], read["name"], labels, digests, read["leaf"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
