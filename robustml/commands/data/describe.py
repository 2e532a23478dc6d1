"""`robustml data describe data=...`: what was understood of a set, in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robustml.data import DataModule, Records


def describe(config: DictConfig) -> None:
    """Load the set of the config, as a run would, and print what was made of it."""
    from robustml.commands.hydra.composing import build_data

    data = build_data(config)
    sections = (_parts(data), _classes(data), _columns(data), _kept(data))
    say("\n" + "\n\n".join(section for section in sections if section))


def _parts(data: DataModule) -> str:
    rows = [("part", "rows", "shape", "values", "digest")]
    for name, part in _named(data):
        low, high = (f"{value:g}" for value in (part.x.min().item(), part.x.max().item()))
        shape = "x".join(map(str, part.x.shape[1:]))
        rows.append((name, f"{len(part)}", shape, f"{low} to {high} ({str(part.x.dtype)[6:]})", part.fingerprint()))
    return _table(rows) + f"\nall parts together: {data.fingerprint}"


def _classes(data: DataModule) -> str:
    parts = _named(data)
    counts = [part.y.bincount(minlength=data.num_classes).tolist() for _, part in parts]
    rows = [("class", *(name for name, _ in parts))]
    rows += [(name, *(f"{each[place]}" for each in counts)) for place, name in enumerate(data.class_names)]
    return _table(rows)


def _columns(data: DataModule) -> str:
    """Where the source is a table: its columns as the files have them, and where their values lie once scaled."""
    tables = []
    for name, understood in data.understood.items():
        if not understood.columns or (name != "train" and understood.columns == data.understood["train"].columns):
            continue
        part = data.train if name == "train" else data.test
        low, high = part.x.min(dim=0).values.tolist(), part.x.max(dim=0).values.tolist()
        rows = [(f"column ({name})", "least", "greatest", "different", "missing", "scaled")]
        rows += [
            (each.name, f"{each.low:g}", f"{each.high:g}", f"{each.distinct}", f"{each.missing}", f"{a:.3g} to {b:.3g}")
            for each, a, b in zip(understood.columns, low, high, strict=True)
        ]
        tables.append(_table(rows))
        if understood.ignored:
            tables.append(_table([(f"ignored ({name})", "why"), *understood.ignored.items()]))
    return "\n\n".join(tables)


def _kept(data: DataModule) -> str:
    from robustml.data.cache import entry_of

    lines = []
    for part in data.understood:
        entry = entry_of(data.source, "train" if part == "train" else "test")
        where = "read anew each time" if entry is None else str(entry)
        lines.append((part, where))
    return _table([("decoded", "kept in"), *lines])


def _named(data: DataModule) -> list[tuple[str, Records]]:
    parts = [("train", data.train), ("validation", data.val), ("test", data.test)]
    return [(name, part) for name, part in parts if part is not None]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words in columns as wide as their longest word."""
    from robustml.data.understood import printable

    shown = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)


def main() -> None:
    """Compose describe.yaml."""
    hydra_command(describe, "describe")


if __name__ == "__main__":
    main()
