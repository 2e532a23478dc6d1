"""Runs or cards against each other: a row each, a column a figure. Every page and table that compares is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TypeVar

from robustml.reporting.formats import percent, plain, threat_text
from robustml.reporting.runs import Run, comparable, labels, one_model, read_run
from robustml.reporting.tables.cells import Cell, Content, Row, Table, bests, cell_of
from robustml.reporting.tables.text import table_text, wrapped
from robustml.reporting.verdict import verdict
from robustml.results import Flag, Rate

Item = TypeVar("Item")

# Whoever attacks wants these high: the highest is nobody's best.
_OF_THE_ATTACKER = ("backdoor", "fidelity")


@dataclass(frozen=True)
class Entry:
    """A run or a card, as a row of a comparison.

    Attributes:
        name: short and distinct.
        verdict: of it.
        facts: what it is, by heading: shown where the entries differ.
        figures: what was measured, by heading.
        counts: what closes the row, by heading.
    """

    name: str
    verdict: Cell
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Content] = field(default_factory=dict)
    counts: Mapping[str, Content] = field(default_factory=dict)


def comparison_table(
    entries: Sequence[Entry],
    *,
    more: Mapping[str, Sequence[Content]] | None = None,
    figures: Sequence[str] | None = None,
    ranked: Iterable[str] | None = None,
    links: Sequence[str] = (),
    narrow: bool = True,
    note: str = "",
) -> Table:
    """A row an entry, a column a figure.

    Args:
        entries: the rows.
        more: further columns after the names, by heading.
        figures: which figures; by default all that any entry has.
        ranked: headings of the figures whose best is marked; None where nothing is compared.
        links: where the names lead, see `Cell`.
        narrow: intervals as ±, not from low to high.
        note: what is said below.
    """
    known = _headings({k: v for k, v in entry.figures.items() if v is not None} for entry in entries)
    shown = [name for name in _headings(entry.figures for entry in entries) if name in (figures or known)]
    columns: dict[str, Sequence[Content]] = dict(more or {})
    if len(entries) > 1 or more:
        columns["verdict"] = [entry.verdict for entry in entries]
    for name in _headings(entry.facts for entry in entries):
        facts = [entry.facts.get(name) for entry in entries]
        if len(set(facts)) > 1 and name not in columns:
            columns[name] = facts
    words = frozenset({"model", "attacks", *(name for name in columns if name != "rank")})
    for name in shown:
        cells = [cell_of(entry.figures.get(name), clean=name == "clean") for entry in entries]
        best: Sequence[bool | None] = [None if ranked is None else False] * len(cells)
        if ranked is not None and name in ranked and name not in _OF_THE_ATTACKER:
            best = bests([_value(cell) for cell in cells])
        columns[name] = [cell_of(cell, best=mark) for cell, mark in zip(cells, best, strict=True)]
    for name in _headings(entry.counts for entry in entries):
        columns[name] = [entry.counts.get(name) for entry in entries]
    names = [Cell(entry.name, link=link) for entry, link in zip(entries, links or [""] * len(entries), strict=True)]
    lead = columns.get("worst case", [])
    # Whoever holds the trigger holds the model: it leads nothing.
    leads = [
        place
        for place, (cell, entry) in enumerate(zip(lead, entries, strict=False))
        if isinstance(cell, Cell) and cell.best and entry.verdict.text != "backdoored"
    ]
    rows = list(zip(names, *columns.values(), strict=True))
    return Table(["run", *columns], rows, words=words, leads=frozenset(leads), narrow=narrow, note=note)


def _headings(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _value(cell: Cell) -> float | None:
    return cell.share if cell.rate is None else cell.rate.value


def asked_rates(run: Run) -> dict[str, Rate]:
    """What was measured beside clean accuracy and attacks, by the heading of its column.

    Corruptions are a mean, not a rate, and are not among them.
    """
    found = {finding.kind: finding.rate for finding in verdict(run.results).findings}
    kinds = {"backdoor": "backdoor", "fidelity": "extraction", "certified": "certified"}
    return {heading: rate for heading, kind in kinds.items() if (rate := found.get(kind)) is not None}


def worst_of(run: Run) -> Rate | None:
    """The worst case; None where nobody attacked, for the clean accuracy is none."""
    return run.results.worst_case.robust_accuracy if run.results.worst_case and run.results.attacks else None


def entries_of_runs(runs: Sequence[Run]) -> list[Entry]:
    """Each run with everything that its results measured; what was asked for leads."""
    attacks = _headings(run.results.attacks for run in runs)
    asked = [name for name in ("backdoor", "fidelity", "certified") if any(name in asked_rates(run) for run in runs)]
    entries = []
    for run, name in zip(runs, labels(runs), strict=True):
        results, found = run.results, verdict(run.results)
        figures: dict[str, Content] = {heading: asked_rates(run).get(heading) for heading in asked}
        if any(other.results.corruptions for other in runs):
            mean = None if results.corruptions is None else results.corruptions.mean_accuracy
            figures["corruptions"] = Cell(percent(mean), share=mean)
        figures["clean"] = results.clean_accuracy
        for attack in attacks:
            figures[attack] = results.attacks[attack].robust_accuracy if attack in results.attacks else None
        if attacks:
            figures["worst case"] = worst_of(run)
        facts = {"model": results.model.name, "data": results.data.name, "threat": threat_text(results.threat)}
        counts = {"n": f"{results.clean_accuracy.n:,}", "flags": str(len(results.flags) or "none")}
        entries.append(Entry(name, Cell(found.word, level=found.level), facts, figures, counts))
    return entries


def ranked_figures(runs: Sequence[Run], entries: Sequence[Entry]) -> list[str]:
    """The figures of which one run can be the best: under attack only within one budget, and never of other data."""
    alike = len({(run.results.data.fingerprint or run.results.data.name, run.results.clean_accuracy.n) for run in runs})
    if alike > 1 or one_model(runs):
        return []
    return _headings(entry.figures for entry in entries) if comparable(runs) else ["clean"]


def summary_table(runs: Sequence[Run], width: int | None = None) -> str:
    """Clean and robust accuracy of each run as plain text.

    Args:
        runs: the runs, one a row.
        width: columns of the terminal; by default what it has.

    Returns:
        Lines without colour codes; accuracies in percent with half of their 95% interval.
    """
    if not runs:
        return "no runs"
    entries = entries_of_runs(runs)
    counts = ["n"] if len({run.results.clean_accuracy.n for run in runs}) > 1 else []
    shown = [
        Entry(one.name, one.verdict, one.facts, one.figures, {k: one.counts[k] for k in counts}) for one in entries
    ]
    notes = _notes(runs)
    if len(runs) == 1:
        notes.insert(0, f"verdict: {verdict(runs[0].results).text}")
    return f"{table_text(comparison_table(shown), width)}\n{wrapped(notes, width)}"


def figures_line(run: Path) -> str:
    """What a run directory measured, in a few words: "clean 97.2%, worst case 64.7%"; what was asked for leads."""
    read = read_run(run)
    figures = entries_of_runs([read])[0].figures
    asked = {name: figure for name, figure in figures.items() if name not in read.results.attacks}
    return ", ".join(f"{name} {cell_of(figure).text}" for name, figure in asked.items() if figure is not None)


def sweep_tables(values: Sequence[Mapping[str, object]], runs: Sequence[Run], width: int | None = None) -> str:
    """What each run of a sweep measured, beside its swept values; and over seeds, mean and standard deviation.

    Args:
        values: of the swept keys of each run, beside `runs`.
        runs: the runs.
        width: columns of the terminal; by default what it has.
    """
    entries = entries_of_runs(runs)
    names = _headings(entry.figures for entry in entries)
    keys = _headings(values) or ["run"]
    flags = ["flags"] if any(run.results.flags for run in runs) else []
    rows: list[Row] = [
        [
            *(_text(found.get(key, entry.name)) for key in keys),
            *(cell_of(entry.figures.get(name), clean=name == "clean") for name in names),
            *(entry.counts[name] for name in flags),
        ]
        for found, entry in zip(values, entries, strict=True)
    ]
    tables = [Table([*keys, *names, *flags], rows, words=frozenset(keys), narrow=True)]
    notes = _notes(runs)[:1]
    if flags:
        notes.append("flags: how many of the evaluator's checks doubt a row; its report says which")
    others = [key for key in keys if key != "seed"]
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for found, entry in zip(values, entries, strict=True):
        groups.setdefault(tuple(_text(found.get(key)) for key in others), []).append(entry)
    if "seed" in keys and any(len(group) > 1 for group in groups.values()):
        heads = [*others, "seeds", *names]
        means = [[*group, str(len(each)), *(_mean(each, name) for name in names)] for group, each in groups.items()]
        tables.append(Table(heads, means, words=frozenset(heads[:1])))
        notes.append("last table: mean ± standard deviation (n - 1) over seeds")
    return "\n\n".join(table_text(table, width) for table in tables) + "\n" + wrapped(notes, width)


def _text(value: object) -> str:
    return plain(value) if isinstance(value, float) else str(value)


def _mean(entries: Sequence[Entry], name: str) -> str | None:
    values = [_value(cell_of(entry.figures.get(name))) for entry in entries]
    known = [100 * value for value in values if value is not None]
    return f"{fmean(known):.1f} ±{stdev(known):.1f}" if len(known) > 1 else None


def _notes(runs: Sequence[Run]) -> list[str]:
    facts = ["accuracy in %, ± half of the 95% interval"]
    if any(run.results.backdoor for run in runs):
        facts.append("backdoor: attack success rate over other classes than its target")
    if any(run.results.extraction for run in runs):
        facts.append("clean: of the copy; fidelity: the victim's label given")
    if any(run.results.corruptions for run in runs):
        facts.append("corruptions: mean accuracy")
    for name, values in (
        ("n ", {f"{run.results.clean_accuracy.n:,}" for run in runs}),
        ("", {threat_text(run.results.threat) for run in runs}),
        ("data ", {run.results.data.name for run in runs}),
        ("model ", {run.results.model.name for run in runs}),
    ):
        facts += [f"{name}{value}" for value in values if len(values) == 1]
    names = labels(runs)
    flags = [note for run, name in zip(runs, names, strict=True) for note in notes_of_flags(run.results.flags, name)]
    return [" · ".join(facts), *flags]


def notes_of_flags(flags: Iterable[Flag], name: str = "") -> list[str]:
    """A line a flag, after the name of its run."""
    start = f"! {name}: " if name else "! "
    return [f"{start}{flag.name}{f' ({flag.attack})' if flag.attack else ''}: {flag.message}" for flag in flags]


def distinct(items: Sequence[Item]) -> list[Item]:
    """Without repetitions, for items that cannot be hashed."""
    return [item for place, item in enumerate(items) if item not in items[:place]]
