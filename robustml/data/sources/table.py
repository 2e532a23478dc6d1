"""CSV files to tables, every cell where it stands: separators, encodings, lines and names as they are in the file."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.data.encodings import encoding_of, known_encoding
from robustml.data.understood import Understood
from robustml.errors import RequestError, nearest

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = ",;\t|"
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_SAMPLE = 50
_HEAD, _LONGEST_CELL = 2**16, 2**27
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"0|-?[1-9]\d{0,18}")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


@dataclass(frozen=True, eq=False)
class Table:
    """A CSV file as it was read.

    Args:
        path: the file.
        names: of its columns, as the header has them, without spaces around; one may stand twice.
        frame: the cells, columns by place; numbers where a whole column is numbers, else strings, empty where missing.
        separator: what stands between cells.
        decimal: what stands in numbers between whole and fraction.
        lines: the line of the file on which each row begins.
        understood: what was found or set, for the summary.
    """

    path: Path
    names: tuple[str, ...]
    frame: pd.DataFrame
    separator: str
    decimal: str
    lines: Sequence[int]
    understood: Understood

    def __len__(self) -> int:
        """How many rows there are below the header."""
        return len(self.frame)

    def place(self, column: object) -> int:
        """Where a column stands.

        Raises:
            RequestError: there is no such column, or there are two.
        """
        name = str(column)
        places = [place for place, known in enumerate(self.names) if known == name]
        if len(places) == 1:
            return places[0]
        if places:
            raise RequestError(
                f"{self.path}: {len(places)} columns are called {name!r}; rename all but one of them in line 1"
            )
        numeric = sum(bool(_NUMBER.fullmatch(known)) for known in self.names)
        if 2 * numeric > len(self.names):
            raise RequestError(
                f"{self.path}: no column {name!r}, and the first line looks like data ({', '.join(self.names[:4])}), "
                "not like the names of the columns; put a line of names above it"
            )
        raise RequestError(f"{self.path}: no column {name!r}; {nearest(name, self.names)}")

    def strings(self, place: int) -> list[str]:
        """The cells of a column that was read as strings, without spaces around them."""
        return [str(value).strip() for value in self.frame[place]]

    def labels(self, place: int) -> Sequence[str | int]:
        """The cells of a column of labels: numbers where all of them are whole and written as such, else strings."""
        cells = self.strings(place)
        return [int(cell) for cell in cells] if all(map(_WHOLE.fullmatch, cells)) else cells

    def where(self, row: int) -> str:
        """Names a row by its line in the file, for messages: blank lines and quoted line breaks count too."""
        return f"{self.path}, line {self.lines[row]}"


def read_table(
    path: Path,
    strings: Sequence[object],
    *,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
) -> Table:
    """Read a CSV file, compressed or not; no cell is taken for missing, and no column for an index.

    Args:
        path: the file.
        strings: columns whose cells are kept as they are written, such as labels: "01" is not 1, and "NA" is a name.
        separator: what stands between cells; None finds out which of comma, semicolon, tab and bar it is.
        decimal: what stands between whole and fraction; None is a comma where numbers have one and cells do not.
        encoding: of the file; None reads UTF-8, and UTF-16 and UTF-32 where the file shows it.

    Raises:
        RequestError: the file is missing, empty, in another encoding, or a row has more cells than the header; or an
            option is unknown.
    """
    content = _content(path)
    text, found = _decoded(path, content, encoding)
    if separator is not None and len(separator := {"\\t": "\t", "tab": "\t"}.get(separator, separator)) != 1:
        raise RequestError(f"expected separator as one character, such as ';' or '\\t', got {separator!r}")
    if decimal not in (None, ".", ","):
        raise RequestError(f"expected decimal as '.' or ',', got {decimal!r}")
    import pandas as pd  # a second that start-up can do without: tables alone need it

    try:
        sep = separator or _separator_of(text, strings)
        sample = _sample(text, sep)
        if not sample:
            raise RequestError(f"{path}: not a readable CSV file (it is empty)")
        # a column without a name is called as pandas calls it
        names = tuple(name.strip() or f"Unnamed: {place}" for place, name in enumerate(sample[0]))
        lines, short = _lines(path, text, sep, len(names))
        point = decimal or _decimal_of(path, sample, sep)
        frame = pd.read_csv(
            io.StringIO(text),
            sep=sep,
            decimal=point,
            header=0,
            names=list(range(len(names))),
            index_col=False,
            dtype={place: str for place, name in enumerate(names) if name in map(str, strings)},
            na_filter=False,
            low_memory=False,
            skipinitialspace=True,
        )
    except RequestError:
        raise
    except (ValueError, OSError, OverflowError, csv.Error) as error:  # pandas' parser errors are ValueErrors
        reason = (str(error).splitlines() or [""])[0]
        raise RequestError(f"{path}: not a readable CSV file ({reason})") from error
    if len(frame) != len(lines):
        raise RequestError(
            f"{path}: not a readable CSV file (its quotes allow {len(frame)} rows and {len(lines)}); quote the cells "
            "that hold quotes, and double these"
        )
    facts = {
        "separator": ("','", repr(sep), separator),
        "decimal": ("'.'", repr(point), decimal),
        "encoding": ("utf-8", found, encoding),
    }
    said = {
        name: fact + (" (found)" if given is None else "")
        for name, (usual, fact, given) in facts.items()
        if usual != fact or given is not None
    }
    notes = [f"{len(short)} rows are shorter than the header ({path}, line {line})" for line in short[:1]]
    return Table(path, names, frame, sep, point, lines, Understood(said, notes=tuple(notes)))


def number_in(value: object, decimal: str) -> float | None:
    """The number that a cell holds, infinity too, or None where it holds something else."""
    text = str(value).strip()
    if decimal == ",":
        text = text.replace(".", " ").replace(",", ".")
    if _NUMBER.fullmatch(text) or text.lower().lstrip("+-") in ("inf", "infinity"):
        return float(text)
    return None


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise RequestError(f"no file {path} (looked from {Path.cwd()}); paths are relative to the current folder")
    opener = _OPENERS.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            return bytes(file.read())
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise RequestError(f"{path}: not a readable CSV file ({error})") from error


def _decoded(path: Path, content: bytes, encoding: str | None) -> tuple[str, str]:
    """The text of a file, and the encoding it is in."""
    if content.startswith(b"PK\x03\x04") or content.startswith(b"PAR1"):
        kind = "Parquet" if content.startswith(b"PAR1") else "Excel or zip"
        raise RequestError(f"{path}: not a readable CSV file (it is in the format of {kind}); save it as CSV")
    name = known_encoding(encoding) if encoding is not None else encoding_of(content)
    try:
        return content.decode(name or "utf-8").removeprefix("\ufeff"), name or "utf-8"
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RequestError(
            f"{path}, line {line}: byte {error.start} is not {name or 'UTF-8'}; set data.source.encoding to the "
            "file's, such as latin-1, cp1252 or utf-16"
        ) from error


def streamed_rows(
    path: Path, wanted: Sequence[object], separator: str | None = None, encoding: str | None = None
) -> Iterator[list[str]]:
    """The header of a file and then its rows, read as a stream: however long it is, and where no byte is a letter, too.

    Arguments as of `read_table`; blank lines are no rows.
    """
    if not path.is_file():
        raise RequestError(f"no file {path} (looked from {Path.cwd()}); paths are relative to the current folder")
    with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
        head = file.read(_HEAD)
        name = known_encoding(encoding) if encoding is not None else encoding_of(head) or "utf-8"
        file.seek(0)
        text = io.TextIOWrapper(file, name, errors="surrogateescape", newline="")
        if separator is None:
            separator = _separator_of(head.decode(name, errors="replace").removeprefix("\ufeff"), wanted)
        csv.field_size_limit(_LONGEST_CELL)
        separator = {"\\t": "\t", "tab": "\t"}.get(separator, separator)
        for cells in csv.reader(text, delimiter=separator, skipinitialspace=True):
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield cells


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line it begins on, the header first; blank lines are none."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a text may be longer than the module expects
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    last = 0
    for cells in reader:
        if len(cells) > 1 or (cells and cells[0].strip()):
            yield last + 1, cells
        last = reader.line_num


def _sample(text: str, separator: str) -> list[list[str]]:
    """The header and the first rows."""
    return [cells for _, cells in islice(_records(text, separator), _SAMPLE)]


def _lines(path: Path, text: str, separator: str, width: int) -> tuple[list[int], list[int]]:
    """The lines on which the rows begin, and those of rows that are too short."""
    lines, short = [], []
    for line, cells in islice(_records(text, separator), 1, None):
        if len(cells) > width:
            raise RequestError(
                f"{path}, line {line}: {len(cells)} cells, but the header has {width} names; quote cells that hold "
                f"{separator!r}, name every column, or set data.source.separator"
            )
        lines.append(line)
        if len(cells) < width:
            short.append(line)
    return lines, short


def _separator_of(text: str, wanted: Sequence[object]) -> str:
    """The separator under which the header has the wanted names, all rows are of one length, and that is the most."""

    def evidence(separator: str) -> tuple[int, bool, int]:
        rows = _sample(text, separator)
        header = [name.strip() for name in rows[0]] if rows else []
        named = sum(str(name) in header for name in wanted)
        return named, len(header) > 1 and len({len(row) for row in rows}) == 1, len(header)

    return max(_SEPARATORS, key=evidence)


def _decimal_of(path: Path, sample: list[list[str]], separator: str) -> str:
    if separator == ",":
        return "."
    cells = [cell.strip() for row in sample[1:] for cell in row]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    points = sum("." in cell and bool(_NUMBER.fullmatch(cell)) for cell in cells)
    if commas and not points and all(_THOUSANDS.fullmatch(cell) for cell in commas):
        raise RequestError(
            f"{path}: {commas[0]!r} may be a decimal number or one of thousands; set data.source.decimal to ',' or '.'"
        )
    return "," if len(commas) > points else "."
