"""What a page says of its own origin, and how it leads to other pages: by relative links, which outlive a move."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from robustml.errors import RequestError, printable
from robustml.reporting.formats import percent, threat_text
from robustml.reporting.runs import Run, lying
from robustml.reporting.tables.cells import Cell, Content, Table
from robustml.reporting.verdict import verdict
from robustml.results import DataFacts, Environment, Results, read_results

# From a point of a sweep below a run to what lies beside that run.
_MOST_UP = 5


def stamp(data: Sequence[DataFacts | None], environments: Sequence[Environment | None]) -> str:
    """Data, date and commit in one line; what nobody wrote down is left out."""
    sets = dict.fromkeys(_data_text(one) for one in data if one is not None)
    dates = sorted({one.date for one in environments if one is not None and one.date})
    commits = dict.fromkeys(one.commit for one in environments if one is not None and one.commit)
    parts = ["data " + "; ".join(sets)] if sets else []
    parts += [" to ".join(dict.fromkeys(map(_date_text, (dates[0], dates[-1]))))] if dates else []
    return " · ".join([*parts, *(["commit " + ", ".join(commits)] if commits else [])])


def _data_text(data: DataFacts) -> str:
    named = (("train", data.train), ("validation", data.val), ("test", data.test))
    counts = ", ".join(f"{count:,} {name}" for name, count in named if count)
    return f"{data.name} ({counts})" if counts else data.name


def _date_text(date: str) -> str:
    try:
        return datetime.fromisoformat(date).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return printable(date)


def link_to(target: Path, page: Path) -> str:
    """The way from a page to a file; "" where it is not there, or so far that it would spell out foreign folders."""
    if not target.is_file() or target.resolve() == page.resolve():
        return ""
    way = Path(os.path.relpath(target.resolve(), page.resolve().parent)).as_posix()
    # "./" keeps a colon in a name from being read as a scheme.
    return "" if way.count("../") > _MOST_UP else quote(way if way.startswith("../") else f"./{way}")


def link_to_run(run: Path, page: Path) -> str:
    """The way from a page to that of a run, or to a card where it has no report."""
    return link_to(run / "report.html", page) or link_to(run / "card.html", page)


def beside(run: Run, page: Path) -> Table | None:
    """The run that an evaluation is of, the clean twin, the card, and what was measured below a run."""
    rows = list(_above(run, page))
    folders = ("evaluations", "sweeps", "trojans", "extractions", "shortcuts", "detections", "repairs")
    for folder in (run.path / name for name in folders):
        swept = sorted(folder.rglob("sweep.html"))
        rows += [[Cell(f"{file.parent.name}", link=link_to(file, page)), "sweep", ""] for file in swept]
        for file in sorted({*folder.rglob("results.json")}):
            if any(one.parent in file.parents for one in swept):
                continue
            try:
                rows.append(_row(file.parent.relative_to(run.path).as_posix(), read_results(file), file.parent, page))
            except RequestError:
                continue
        rows += [
            [Cell(file.parent.name, link=link_to(file, page)), "search for shortcuts", ""]
            for file in sorted(folder.rglob("shortcuts.html"))
        ]
    headings = ["page", "what it is", "its figure"]
    return Table(headings, rows, words=frozenset({"what it is"})) if rows else None


def _above(run: Run, page: Path) -> Iterator[Sequence[Content]]:
    for parent in list(run.path.resolve().parents)[1:3]:
        if (parent / "results.json").is_file() and link_to_run(parent, page):
            yield _row(parent.name, read_results(parent / "results.json"), parent, page, "the run that this is of: ")
            break
    if (link := link_to(run.path / "card.html", page)) and page.name != "card.html":
        yield [Cell("card", link=link), "all that was measured of this model", ""]
    block = run.results.backdoor
    if block is not None and block.twin is not None and block.twin.run is not None:
        twin = lying(block.twin.run, run.path)
        if twin is not None and (twin / "results.json").is_file():
            yield _row("clean twin", read_results(twin / "results.json"), twin, page)


def _row(name: str, results: Results, folder: Path, page: Path, before: str = "") -> Sequence[Content]:
    finding = verdict(results).findings[0]
    at = threat_text(results.threat) if results.attacks or results.certified else "no attack"
    value: Content = finding.rate
    if value is None:
        value = Cell(finding.shown or percent(finding.value), share=finding.value)
    what = f"{before}{results.command}, {at}: {finding.name[:1].lower()}{finding.name[1:]}"
    return [Cell(printable(name), link=link_to_run(folder, page)), what, value]
