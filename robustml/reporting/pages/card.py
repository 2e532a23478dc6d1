"""The page of a card: one model in full, or several side by side; it says what card.json says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustml.errors import RequestError
from robustml.files import write_text
from robustml.reporting.card import Gathered, gather
from robustml.reporting.figures.charts import accuracy_bars
from robustml.reporting.figures.look import Chart
from robustml.reporting.formats import NOTHING, interval_text, percent, seconds_text, threat_text
from robustml.reporting.pages.links import link_to, link_to_run, stamp
from robustml.reporting.pages.report import curves_by_norm
from robustml.reporting.pages.run import certified_section, class_chart, corruption_section
from robustml.reporting.pages.template import Facts, Section, Tile, write_page
from robustml.reporting.runs import labels
from robustml.reporting.sentences import CHECKED
from robustml.reporting.tables.card import entries_of_cards, evidence_table, figure_table, settings_table, threat_table
from robustml.reporting.tables.cells import Table
from robustml.reporting.tables.comparison import comparison_table, distinct
from robustml.results import CARD_SCHEMA, Card, Curve, Rate, Threat


def write_cards(folders: Sequence[Path], out: Path) -> list[Card]:
    """Write card.json and card.html of one run, or a list and a page side by side of several.

    Args:
        folders: run directories.
        out: the folder to write into; made if absent.

    Returns:
        The cards, in the order of the folders. Nothing is written unless all of them can be made.

    Raises:
        RequestError: no run is given, one cannot be read, or `out` is a file.
        RunFailed: the weights of a run are not those that were measured.
    """
    if not folders:
        raise RequestError("a card needs at least one run directory, got none")
    return write_gathered([gather(folder) for folder in folders], out)


def write_gathered(found: Sequence[Gathered], out: Path, left_out: Mapping[str, str] | None = None) -> list[Card]:
    """Write what `write_cards` writes, of cards that are gathered already.

    Args:
        found: at least one.
        out: the folder to write into; made if absent.
        left_out: runs of which no card could be made, and why; the page names them.

    Raises:
        RequestError: `out` is a file.
    """
    if out.is_file():
        raise RequestError(f"{out} is a file; card.json and card.html go into a folder")
    contents = [gathered.card.model_dump(by_alias=True, mode="json") for gathered in found]
    text = json.dumps(contents if len(contents) > 1 else contents[0], indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / "card.json", text + "\n")
    _write_page(found, labels([gathered.run for gathered in found]), out / "card.html", left_out)
    return [gathered.card for gathered in found]


def _write_page(
    found: Sequence[Gathered], names: Sequence[str], path: Path, left_out: Mapping[str, str] | None = None
) -> Path:
    views = [
        CardView(one, name, f"model-{place}", path)
        for place, (one, name) in enumerate(zip(found, names, strict=True), 1)
    ]
    cards = [view.card for view in views]
    environments = [one.environment for card in cards for one in card.evidence]
    origin = stamp([card.data for card in cards], environments)
    made: dict[str, Any] = {
        "kind": "robustness card",
        "stamp": origin,
        "left_out": left_out or {},
        "schema": CARD_SCHEMA,
    }
    first = views[0]
    if len(views) == 1:
        facts = (first.card.data.name, first.card.model.name, f"seed {first.card.seed}")
        kicker = " · ".join(("Robustness card", *facts))
        return write_page(path, "card.html.j2", kicker=kicker, heading=names[0], view=first, **made)
    data = dict.fromkeys(card.data.name for card in cards)
    curves = [curve for view in views for curve in view.curves]
    return write_page(
        path,
        "compare_cards.html.j2",
        kicker=f"Robustness cards · {', '.join(data)}",
        heading=f"{len(found)} models side by side",
        lead="",
        tiles=_leading(cards, names),
        sections=[
            Section("Side by side", [_table(views)], charts=[_bars(cards, names)]),
            Section("Accuracy as the attacker's budget grows", charts=curves_by_norm(curves)),
        ],
        views=views,
        **made,
    )


def _table(views: Sequence[CardView]) -> Table:
    """Of other data, no figure is better or worse; a mean over other corruptions is another figure."""
    cards = [view.card for view in views]
    entries = entries_of_cards(cards, [view.name for view in views])
    alike = len({card.data.fingerprint or card.data.name for card in cards}) == 1
    kinds = [
        {(name, point.severity) for name, points in block.corruptions.accuracy.items() for point in points}
        for card in cards
        if (block := card.corruptions) is not None
    ]
    ranked = [
        name
        for name in dict.fromkeys(name for entry in entries for name in entry.figures)
        if alike
        and (name != "corruptions, mean" or len(distinct(kinds)) == 1)
        and not name.startswith("largest change")
    ]
    note = "Bold: the best of its figure. Where 95% intervals overlap, the order may be chance."
    if not alike:
        note = "The models were measured on different data, so that their figures do not compare."
    links = [f"#{view.anchor}" for view in views]
    return comparison_table(entries, ranked=ranked, links=links, narrow=False, note=note).across


def _leading(cards: Sequence[Card], names: Sequence[str]) -> list[Tile]:
    """The model that holds up best, where all were attacked on the same data within one budget."""
    if len(distinct([(card.threat, card.data.fingerprint or card.data.name) for card in cards])) > 1:
        return []
    found = [
        (figure.accuracy, name)
        for card, name in zip(cards, names, strict=True)
        if card.own_threat is not None and (figure := card.own_threat.worst_case) is not None
    ]
    best = max(found, key=lambda one: one[0].value or 0.0, default=None)
    return [_tile(f"Highest worst case, {threat_text(cards[0].threat)}", best[0], f"{best[1]}; ")] if best else []


def _bars(cards: Sequence[Card], names: Sequence[str]) -> Chart:
    """Clean and worst-case accuracy of each model, where all were attacked within one budget."""
    if len(distinct([card.threat for card in cards])) > 1:
        return Chart("")
    worst = [card.own_threat.worst_case if card.own_threat is not None else None for card in cards]
    rows = [
        (name, card.clean_accuracy.accuracy, one.accuracy if one is not None else None)
        for name, card, one in zip(names, cards, worst, strict=True)
    ]
    return Chart(accuracy_bars(rows), f"Worst case within {threat_text(cards[0].threat)}.")


@dataclass(frozen=True)
class CardView:
    """A card as its template sees it.

    Attributes:
        gathered: the card, and what its page shows beyond it.
        name: what the page calls it.
        anchor: the id of its place on the page.
        page: the file that it is shown in.
    """

    gathered: Gathered
    name: str
    anchor: str
    page: Path

    @property
    def link(self) -> str:
        """The way to the report of the run."""
        return link_to_run(self.gathered.run.path, self.page)

    @property
    def card(self) -> Card:
        """All of card.json."""
        return self.gathered.card

    @property
    def tiles(self) -> list[Tile]:
        """The verdict in large figures."""
        card, own = self.card, self.card.own_threat
        level = None if card.verdict is None else card.verdict.level
        tiles = []
        if card.backdoor is not None:
            success = card.backdoor.backdoor.attack_success_rate
            css = "alarm" if level == "alarm" else "alert"
            tiles.append(_tile("Attack success rate of the backdoor", success, css=css))
        what = f"Worst case under attack, {threat_text(card.threat)}"
        if own is None:
            tiles.append(Tile(what, NOTHING, "not attacked within this budget"))
        elif own.worst_case is not None:
            less = "; less in another evaluation, see the flags" if own.lower else ""
            tiles.append(_tile(what, own.worst_case.accuracy, after=less, css="alert" if own.lower else ""))
        elif own.upper_bounds:
            bound = min((figure.accuracy for figure in own.upper_bounds), key=lambda rate: rate.value or 0.0)
            more = "upper bound: no evaluation within this budget is complete"
            tiles.append(Tile(what, f"at most {percent(bound.value)}", more, css="alert"))
        tiles.append(_tile("Clean accuracy", card.clean_accuracy.accuracy))
        for proof in card.certified[:1]:
            block = proof.certified
            what = f"Certified, {threat_text(Threat(norm=block.norm, eps=block.eps))}"
            tiles.append(_tile(what, block.certified_accuracy, f"{block.method}; "))
        if own is not None and own.worst_class is not None:
            worst = own.worst_class
            tiles.append(_tile("Worst class under attack", worst.accuracy, f"class {worst.name}; "))
        if card.corruptions is not None:
            mean = card.corruptions.corruptions
            count = sum(map(len, mean.accuracy.values()))
            tiles.append(Tile("Common corruptions, mean", percent(mean.mean_accuracy), f"{count} kinds and severities"))
        names = ", ".join(dict.fromkeys(flag.name.replace("_", " ") for flag in card.flags))
        raised = f"{len(card.flags)} raised" if card.flags else "none raised"
        css = "alert" if card.flags else "fine" if level == "fine" else ""
        return [*tiles, Tile("Flags", raised, names or CHECKED, css=css)]

    @property
    def figures(self) -> Section:
        """Every figure with the file that it is from."""
        return Section("All figures", [figure_table(self.card)])

    @property
    def attacks(self) -> list[tuple[Section, Table]]:
        """The attacks within each budget, and their settings."""
        return [
            (
                Section(f"Attacks within {threat_text(figures.threat)}", [threat_table(self.card, figures)]),
                settings_table(self.card, figures),
            )
            for figures in self.card.threats
        ]

    @property
    def curves(self) -> list[tuple[str, Curve, str, float | None]]:
        """Name, curve, norm and the training budget of that norm."""
        eps, norm = self.gathered.run.train_eps, self.card.threat.norm
        return [(self.name, one.curve, one.norm, eps if one.norm == norm else None) for one in self.card.curves]

    @property
    def curve(self) -> Section:
        """Accuracy against eps, alone on a page."""
        curves = [("", curve, norm, eps) for _, curve, norm, eps in self.curves]
        return Section("Accuracy as the attacker's budget grows", charts=curves_by_norm(curves))

    @property
    def classes(self) -> Section:
        """The classes of the evaluation that the worst case is from, or else of the clean accuracy."""
        own = self.card.own_threat
        found = own.worst_case if own is not None and own.worst_case is not None else self.card.clean_accuracy
        results = self.gathered.sources[found.source].results
        return Section("By class", charts=[class_chart(results, f"From {found.source}.")])

    @property
    def measured(self) -> Iterator[tuple[str, Section]]:
        """Corruptions and certificates, as the reports of their own evaluations show them."""
        sources = self.gathered.sources
        if self.card.corruptions is not None:
            yield "corruptions", corruption_section(sources[self.card.corruptions.source].results)
        for place, proof in enumerate(self.card.certified):
            yield f"certified{place or ''}", certified_section(sources[proof.source].results, proof.certified)

    @property
    def evidence(self) -> Table:
        """The files, each with the page beside it."""
        run = self.gathered.run.path
        pages = {one.name: (run / one.name).with_name("report.html") for one in self.card.evidence}
        return evidence_table(self.card, {name: link_to(page, self.page) for name, page in pages.items()})

    @property
    def facts(self) -> list[Facts]:
        """Model, data, run and environments."""
        card, cost = self.card, self.card.cost
        model = card.model.model_dump()
        model["weights sha256, verified"] = model.pop("sha256")
        run = {
            "experiment": card.experiment,
            "seed": card.seed,
            "training": seconds_text(cost.train_seconds) if cost.train_seconds else None,
            "crafting attacks in training": percent(cost.attack_share) if cost.attack_share is not None else None,
        }
        undated = {"date": None, "commit": None}
        environments = distinct([evidence.environment.model_copy(update=undated) for evidence in card.evidence])
        return [
            Facts("Model", model),
            Facts("Data", card.data.model_dump(exclude_none=True)),
            Facts("Run", run),
            *(
                Facts(f"Environment, {place}" if place > 1 else "Environment", environment.model_dump())
                for place, environment in enumerate(environments, start=1)
            ),
        ]


def _tile(what: str, rate: Rate, before: str = "", after: str = "", css: str = "") -> Tile:
    seen = interval_text(rate) + (f", n {rate.n:,}" if rate.n else "")
    return Tile(what, percent(rate.value), f"{before}{seen}{after}", rate.value, css)
