"""What a stranger may have written: configs, arrays and run directories, read with bounds and without side effects.

Nothing here runs what a file names, makes room for what a file claims, or follows a link out of a run directory.
"""

from __future__ import annotations

import csv
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from robustml.errors import RequestError
from robustml.files import opened, read_text

_LARGEST_CONFIG, _MOST_NODES, _DEEPEST = 2**20, 10_000, 40
# Packed arrays may grow by so much, or up to so many bytes; pictures shrink to a tenth, emptiness to a thousandth.
_UNPACKED, _SMALL = 100, 64 * 2**20


def read_yaml(path: Path) -> Any:
    """What a YAML file holds: dicts, lists and plain values; nothing that YAML could make of it otherwise.

    Raises:
        RequestError: see `read_text`; or it is no YAML, holds a key twice, is nested too deeply or too large for a
            config once its references to itself (``&a``, ``*a``) are written out, or holds anything but texts, numbers,
            truth values and nothing.
    """
    import yaml

    text = read_text(path, _LARGEST_CONFIG)
    too_much = f"{path} is none of ours: it has more than {_MOST_NODES} values, or is nested more than {_DEEPEST} deep"

    class Plain(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        nodes = depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            before, anchor = self.nodes, self.peek_event().anchor
            if self.check_event(yaml.AliasEvent):
                # of a part that is not at its end yet there is no size: it holds itself
                self.nodes += sizes.get(anchor, _MOST_NODES)
            self.nodes, self.depth = self.nodes + 1, self.depth + 1
            if self.depth > _DEEPEST or self.nodes > _MOST_NODES:
                raise RequestError(too_much)
            node = super().compose_node(parent, index)
            self.depth -= 1
            sizes.setdefault(anchor, self.nodes - before)
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(keys) != len(node.value) or len(set(keys)) != len(keys):
                raise RequestError(f"{path} is none of ours: a key stands there twice, or is no word")
            return super().construct_mapping(node, deep)  # type: ignore[no-any-return]

    sizes: dict[str | None, int] = {}
    try:
        return _plain(yaml.load(text, Plain), _DEEPEST)
    except RequestError:
        raise
    except _Nested as error:
        raise RequestError(too_much) from error
    except _NotPlain as error:
        raise RequestError(f"{path} is none of ours: it holds a {error}, expected texts, numbers and lists") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


class _Nested(Exception):
    pass


class _NotPlain(Exception):
    pass


def _plain(node: Any, depth: int) -> Any:
    """A copy in which nothing is shared, of plain values only."""
    if depth < 0:
        raise _Nested
    if isinstance(node, dict):
        return {_key(key): _plain(value, depth - 1) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value, depth - 1) for value in node]
    if node is not None and not isinstance(node, str | int | float):
        raise _NotPlain(type(node).__name__)
    if isinstance(node, int) and node.bit_length() > 64:
        raise _NotPlain(f"number of {node.bit_length()} bits")
    return node


def _key(key: Any) -> str | int:
    if not isinstance(key, str | int):
        raise _NotPlain(f"key that is a {type(key).__name__}")
    return key


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Any]:
    """The arrays of an .npz file, none of them an array of objects, each as long as the file says.

    Args:
        path: the file.
        names: those to read, where they are there; all of them by default.

    Raises:
        RequestError: it cannot be read, is damaged, or claims to hold far more than so few bytes can.
    """
    import numpy as np

    with opened(path) as file:
        try:
            packed = os.fstat(file.fileno()).st_size
            with zipfile.ZipFile(file) as members:
                unpacked = sum(member.file_size for member in members.infolist())
                if unpacked > max(_SMALL, _UNPACKED * packed):
                    raise RequestError(f"{path} is refused: {packed:,} bytes that unpack to {unpacked:,}")
                for member in members.infolist():
                    if names is None or member.filename.removesuffix(".npy") in names:
                        _check_header(members, member)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if names is None or name in names}
        except RequestError:
            raise
        # What a damaged archive makes numpy, zipfile and zlib raise; a header of any text is evaluated as a literal.
        except (OSError, ValueError, TypeError, KeyError, EOFError, SyntaxError, RuntimeError, MemoryError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RequestError(f"{path} cannot be read as arrays: {reason}") from error
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error) as error:
            raise RequestError(f"{path} cannot be read as arrays: {error}") from error


def _check_header(members: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header claims another size than its member has, before room is made for it."""
    from numpy.lib import format as npy

    with members.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds objects, which could run code")
        # In Python's integers: in numpy's, a product may come round to a small number again.
        claimed, held = math.prod(map(int, shape)) * max(1, dtype.itemsize), member.file_size - file.tell()
        if claimed != held:
            raise ValueError(f"{member.filename} claims {claimed:,} bytes and holds {held:,}")


def read_rows(path: Path, columns: Collection[str], texts: Collection[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file, as it stands there.

    Args:
        path: the file.
        columns: those that each row must have something in.
        texts: those that may hold text; whatever stands in another one is a number.

    Raises:
        RequestError: see `read_text`; or it is no such table, which names the line.
    """
    table = csv.DictReader(io.StringIO(read_text(path), newline=""))
    rows = []
    try:
        if lacking := [name for name in columns if name not in (table.fieldnames or ())]:
            raise ValueError(f"there is no column {lacking[0]}")
        for row in table:
            wrong = [name for name in columns if not row.get(name)]
            if wrong or None in row or None in row.values():
                raise ValueError(f"{wrong[0]} is missing" if wrong else "it has another number of values than columns")
            [float(value) for name, value in row.items() if value and name not in texts]
            rows.append(row)
    except (ValueError, csv.Error) as error:
        raise RequestError(f"{path} is damaged in line {table.line_num}: {error}") from error
    return rows


def own_files(folder: Path) -> None:
    """Refuse a folder that leads elsewhere: a link out of it, or anything that is neither a file nor a folder.

    Looks at the folder itself and its `checkpoints`, where commands read and write.

    Raises:
        RequestError: names the first such entry.
    """
    home = Path(folder).resolve()
    for place in (home, home / "checkpoints"):
        for entry in sorted(place.iterdir()) if place.is_dir() else []:
            if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(home):
                raise RequestError(
                    f"{entry} is refused: it is a link that leads out of the run directory, which somebody else may "
                    "have put there; copy what it points at into its place"
                )
            if not (entry.is_file() or entry.is_dir()):
                raise RequestError(f"{entry} is refused: it is neither a file nor a folder")
