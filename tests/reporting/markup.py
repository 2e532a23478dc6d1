"""A page as its reader sees it: headings, tables by heading and row, and the text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

HOSTILE = '<script>alert("&1")</script>$x^2$'
VOID = {"meta", "path", "use", "rect", "image", "br"}


class Page(HTMLParser):
    """Refuses tags that do not close in order and whatever would load or run something, and gathers the rest.

    `tables` holds, in the order of the page, the heading above a table and its rows: name to {heading of column: text}.
    `tiles` holds class, name, figure and small print of each; `verdict` class and words of the first;
    `best` the row and the column of every cell with bold letters, by the heading above its table.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.tables: list[tuple[str, dict[str, dict[str, str]]]] = []
        self.columns: list[str] = []
        self.row: list[str] = []
        self.css: list[str] = []
        self.verdict = ("", "")
        self.parts: list[str] = []
        self.bold = False
        self.best: dict[str, set[tuple[str, str]]] = {}
        self.tiles: list[tuple[str, str, str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append((tag, ""))
            self.css.append(dict(attrs).get("class") or "")
        if tag == "table":
            self.tables.append((self.headings[-1] if self.headings else "", {}))
            self.columns = []
            self.best[self.tables[-1][0]] = set()
        if tag == "tr":
            self.row = []
        if tag in ("td", "th"):
            self.bold = False

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()
            self.css.pop()

    def handle_data(self, data: str) -> None:
        if any(tag == "style" for tag, _ in self.open):
            return
        self.text += data
        self.open = [(tag, text + data) for tag, text in self.open]

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        closed, text = self.open.pop()
        assert closed == tag
        css, text = self.css.pop(), " ".join(text.split())
        if tag == "span" and css in ("what", "value", "more"):
            self.parts.append(text)
        if tag == "div" and css.startswith("tile "):
            what, value, more = self.parts[-3:]
            self.tiles.append((css.removeprefix("tile").strip(), what, value, more))
        self.bold = self.bold or tag == "b"
        if tag == "td" and self.bold:
            self.best[self.tables[-1][0]].add((self.row[0], self.columns[len(self.row)]))
        if tag == "b" and self.css[-1].startswith("verdict"):
            self.verdict = (self.css[-1].removeprefix("verdict").strip(), text)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(text)
        if tag in ("th", "td"):
            self.row.append(text)
        if tag == "tr" and not self.columns:
            self.columns = self.row
        elif tag == "tr":
            name, *cells = self.row
            self.tables[-1][1][name] = dict(zip(self.columns[1:], cells, strict=True))

    def table(self, heading: str) -> dict[str, dict[str, str]]:
        """The first table below a heading."""
        return next(rows for above, rows in self.tables if above == heading)


def read_page(path: Path) -> Page:
    """A page that refers to nothing outside itself."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"@import|url\((?!#)", text)
    for reference in page.references:
        assert reference.startswith(("#", "data:image/png;base64,")), reference
        if reference.startswith("#"):
            assert reference[1:] in page.ids
    page.text = " ".join(page.text.split())
    return page
