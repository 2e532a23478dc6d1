"""How a page is made: a template, the values that fill it, and nothing that it would have to load or run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from robustml.files import write_text
from robustml.reporting.figures.look import Chart
from robustml.reporting.formats import interval_text, plain
from robustml.reporting.tables.cells import Table


@dataclass(frozen=True)
class Section:
    """A heading with tables, a note and charts below it; what is empty draws nothing."""

    title: str
    tables: Iterable[Table] = ()
    note: str = ""
    charts: Iterable[Chart] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to draw."""
        return any((*self.tables, *self.charts))


@dataclass(frozen=True)
class Tile:
    """One large figure in a box: what it is, the figure, small print, a bar of `share`, a class of the style."""

    what: str
    value: str
    more: str = ""
    share: float | None = None
    css: str = ""


@dataclass(frozen=True)
class Facts:
    """A card of names and values; those that are None are left out."""

    title: str
    values: Mapping[str, Any]

    @property
    def known(self) -> dict[str, str]:
        """The others, as text."""
        return {name: plain(value) for name, value in self.values.items() if value is not None}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "plain": plain,
        "interval_text": interval_text,
        "sentence": lambda text: f"{text[0].upper()}{text[1:]}" if text else "",
    }
    return environment


def write_page(
    path: Path, template: str, /, *, stamp: str = "", back: str = "", tiles: Iterable[Tile] = (), **values: Any
) -> Path:
    """Fill a template of this folder, every value escaped, and write the page.

    Args:
        path: the file.
        template: name of the template.
        stamp: data, date and commit, below the heading.
        back: the way to the page of the run that this is of.
        tiles: the key figures, the most important one first.
        values: what it shows; a name that it uses and that is missing here is an error.

    Returns:
        `path`.
    """
    return write_text(path, render(template, stamp=stamp, back=back, tiles=list(tiles), **values))


def render(template: str, /, **values: Any) -> str:
    """A template of this folder, filled; every value is escaped."""
    return _environment().get_template(template).render(values)
