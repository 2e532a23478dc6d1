"""What the page of one run shows; a comparison shows the same of each of its runs, the rest folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from robustml.reporting.figures.charts import (
    MOST_CLASSES,
    accuracy_curve,
    class_bars,
    queries_curve,
    training_curves,
)
from robustml.reporting.figures.connection import path_chart
from robustml.reporting.figures.health import health_curves, health_sentence
from robustml.reporting.figures.look import Chart
from robustml.reporting.formats import eps_text, interval_text, norm_text, percent, seconds_text, threat_text
from robustml.reporting.pages.links import beside, link_to_run
from robustml.reporting.pages.pictures import magnification, picture_grid
from robustml.reporting.pages.template import Facts, Section, Tile
from robustml.reporting.runs import Run
from robustml.reporting.sentences import checked_text, run_sentences, selection_sentence, strongest
from robustml.reporting.suspects import SuspectRecord, read_suspects
from robustml.reporting.tables.cells import Table
from robustml.reporting.tables.detection import detection_table, facts_table
from robustml.reporting.tables.extraction import extraction_table
from robustml.reporting.tables.measured import backdoor_table, certified_table, corruption_table
from robustml.reporting.tables.repair import path_table, repair_table
from robustml.reporting.tables.run import attack_table, class_table, prediction_table, selection_table
from robustml.reporting.verdict import Verdict, verdict
from robustml.results import Certified, Curve, CurvePoint, Results

_CSS = {"fine": "", "caution": "alert", "alarm": "alarm"}


@dataclass(frozen=True)
class RunView:
    """A run as its template sees it: sections, charts and tables, empty where the run has nothing to say.

    Attributes:
        run: the run.
        name: what the page calls it.
        anchor: the id of its place on the page.
        page: the file that it is shown in.
    """

    run: Run
    name: str
    anchor: str = ""
    page: Path = Path("report.html")

    @property
    def link(self) -> str:
        """The way to its own page, from another."""
        return link_to_run(self.run.path, self.page)

    @property
    def beside(self) -> Section:
        """Where else something is said of it."""
        table = beside(self.run, self.page)
        return Section("Other pages on this model", [table] if table else [])

    @property
    def results(self) -> Results:
        """Its results.json."""
        return self.run.results

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on it."""
        return verdict(self.results)

    @property
    def sentences(self) -> list[str]:
        """The summary."""
        return run_sentences(self.run)

    @property
    def tiles(self) -> list[Tile]:
        """The key figures: what was asked for leads."""
        results, clean = self.results, self.results.clean_accuracy
        tiles = [
            Tile(
                finding.name,
                finding.shown or percent(finding.value),
                "; ".join(filter(None, (finding.beside, "" if finding.rate is None else interval_text(finding.rate)))),
                finding.value,
                _CSS[finding.level],
            )
            for finding in self.verdict.findings
            if finding.name and finding.kind != "clean"
        ]
        whose = "Clean accuracy of the copy" if results.extraction else "Clean accuracy"
        tiles.append(Tile(whose, percent(clean.value), interval_text(clean), clean.value, "pale"))
        count = len(results.flags)
        names = ", ".join(dict.fromkeys(flag.name.replace("_", " ") for flag in results.flags))
        # No flag is a verdict on the evaluation: green where there is nothing else to say of the model.
        css = "alert" if count else "fine" if self.verdict.level == "fine" else ""
        raised = f"{count} raised" if count else "none raised"
        tiles.append(Tile("Flags", raised, names or checked_text(results), css=css))
        if results.attacks or results.certified is not None:
            budget = f"{norm_text(results.threat.norm)} {eps_text(results.threat.eps)}"
            tiles.append(Tile("Attacker's budget", budget, self.run.budget_remark))
        name = strongest(results)
        if name is not None:
            left = percent(results.attacks[name].robust_accuracy.value)
            tiles.append(Tile("Strongest attack", name, f"leaves {left}; {len(results.attacks)} tried"))
        if results.cost.train_seconds:
            share = results.cost.attack_share
            more = f"{percent(share)} of it crafting attacks" if share is not None else ""
            more = self.run.budget_remark if self.run.budget_remark == "trained without attacks" else more
            tiles.append(Tile("Training time", seconds_text(results.cost.train_seconds), more))
        return tiles

    @property
    def attacks(self) -> Section:
        """Each attack."""
        return Section("Attacks", [attack_table(self.results)] if self.results.attacks else [])

    @property
    def curve(self) -> Section:
        """Accuracy against eps."""
        charts, curve, eps = [], self.results.curve, self.run.train_eps
        if curve is not None and curve.points:
            svg = accuracy_curve([(curve.attack, curve)], [eps] if eps else [], self.results.threat.norm)
            seen = f"{curve.points[0].robust_accuracy.n:,} test {self.run.unit}"
            caption = f"The worst of {', '.join(curve.took_part)} on {seen}; the band is the 95% interval."
            charts.append(Chart(svg, caption))
        return Section("Accuracy as the attacker's budget grows", charts=charts)

    def examples(self, most: int = 8) -> Section:
        """Pictures of attacked images; for other data, the predictions in a table."""
        examples = self.run.examples
        if examples is None:
            return Section("")
        if not examples.images:
            return Section("Examples under attack", [prediction_table(examples, most)])
        factor = magnification(examples)
        times = f", enlarged {factor} times" if factor > 1 else ""
        caption = (
            f"Middle row: what {examples.attack or 'the attack'} changed{times}; grey is no change. ✓ right, ✗ wrong. "
            "Picked to show the attack at work: not a random sample."
        )
        return Section("Images under attack", charts=[Chart(picture_grid(examples, most), caption)])

    @property
    def classes(self) -> Table | None:
        """Accuracy of each class."""
        rows = self.results.per_class
        return class_table(rows, bool(self.results.attacks)) if rows else None

    @cached_property
    def class_chart(self) -> Chart:
        """The same as bars; without an attack there is no worst case to draw."""
        return class_chart(self.results) if self.results.attacks else Chart("")

    @property
    def measured(self) -> Iterator[Section]:
        """What was measured beside attacks."""
        results = self.results
        if results.detection:
            yield Section("Detectors", [detection_table(results.detection), facts_table(results.detection)])
        if results.repair is not None:
            path, tables = results.repair.connection, [repair_table(results.repair), path_table(results.repair)]
            chart = Chart("" if path is None else path_chart(path), "By t; bands are 95% intervals.")
            yield Section("Repair", [table for table in tables if table], charts=[chart])
        if results.corruptions is not None and results.corruptions.accuracy:
            yield corruption_section(results)
        if results.backdoor is not None:
            for block in (results.backdoor, *results.backdoor.inherited):
                yield Section("Backdoor", [backdoor_table(results, block)])
        if results.extraction:
            chart = Chart(queries_curve(results.extraction.curve), "By queries, nested; bands are 95% intervals.")
            yield Section("Model extraction", [extraction_table(results.extraction)], charts=[chart])
        if results.certified is not None:
            yield certified_section(results, results.certified)

    @cached_property
    def suspects(self) -> list[SuspectRecord]:
        """The records under suspicion, with their pictures."""
        found = [name for name, each in (self.results.detection or {}).items() if each.found]
        return read_suspects(self.run.path / "suspects.parquet", found) if found else []

    @cached_property
    def training_chart(self) -> Chart:
        """Training curves."""
        if self.run.metrics is None:
            return Chart("")
        best = self.results.selection.best.epoch if self.results.selection else None
        caption = "Adversarial accuracy is measured on attacked examples."
        return Chart(training_curves(self.run.metrics, best), caption)

    @property
    def selection(self) -> tuple[str, Table] | None:
        """Which epoch was kept, in words and beside the last one."""
        return (selection_sentence(self.results), selection_table(self.results)) if self.results.selection else None

    @property
    def health(self) -> tuple[str, Chart] | None:
        """What was measured on training batches while training went on."""
        if self.run.health is None:
            return None
        chart = Chart(health_curves(self.run.health), "On one training batch each, in eval mode.")
        return health_sentence(self.run.health), chart

    @property
    def facts(self) -> list[Facts]:
        """Cost, data, model and environment, with digests."""
        results, cost = self.results, self.results.cost
        memory, passes = cost.peak_memory_mb, cost.passes_per_sample
        share = None
        if cost.forward_passes is not None and cost.backward_passes is not None and passes:
            share = cost.forward_passes / (cost.forward_passes + cost.backward_passes)
        point = None
        if cost.seconds_per_robust_point is not None and cost.passes_per_robust_point is not None:
            point = f"{seconds_text(cost.seconds_per_robust_point)}, {cost.passes_per_robust_point:,.0f} passes"
        spent = {
            "training": seconds_text(cost.train_seconds) if cost.train_seconds else None,
            "crafting attacks in training": percent(cost.attack_share) if cost.attack_share is not None else None,
            "training speed": f"{cost.samples_per_second:,.0f} {self.run.unit}/s" if cost.samples_per_second else None,
            "passes a sample": f"{share * passes:.3g} forward, {(1 - share) * passes:.3g} backward"
            if share is not None and passes
            else None,
            "a point of robust accuracy": point,
            "peak memory": None if not memory else f"{memory:,.0f} MB" if memory < 4096 else f"{memory / 1024:.1f} GB",
            "attacks of the test": seconds_text(sum(attack.seconds for attack in results.attacks.values()))
            if results.attacks
            else None,
        }
        model = _grouped(results.model.model_dump())
        model["weights sha256"] = model.pop("sha256", None)
        identity = {"experiment": results.experiment, "command": results.command, "seed": results.seed}
        return [
            Facts("Cost", spent),
            Facts("Data", _grouped(results.data.model_dump(exclude_none=True))),
            Facts("Model", model),
            Facts("Run and environment", identity | results.environment.model_dump()),
        ]


def leading_tiles(runs: Sequence[Run], names: Sequence[str]) -> list[Tile]:
    """Of several runs the highest and the lowest of the figure that was asked for of all of them."""
    findings = [{finding.name: finding for finding in verdict(one.results).findings} for one in runs]
    shared = next((name for name in findings[0] if all(name in one for one in findings)), None)
    if shared is None:
        return []
    found = [(name, one.results, each[shared]) for name, one, each in zip(names, runs, findings, strict=True)]
    known = sorted((one for one in found if one[2].value is not None), key=lambda one: one[2].value or 0.0)
    if len(known) < 2:
        return []
    tiles = []
    for which, (name, results, finding) in (("highest", known[-1]), ("lowest", known[0])):
        within = f", {threat_text(results.threat)}" if results.attacks else ""
        seen = "" if finding.rate is None else f"; {interval_text(finding.rate)}"
        tiles.append(
            Tile(
                f"{finding.name}: {which} of {len(known)}",
                percent(finding.value),
                f"{name}{within}{seen}",
                finding.value,
                _CSS[finding.level],
            )
        )
    return tiles


def _grouped(facts: dict[str, Any]) -> dict[str, Any]:
    """Counts with their thousands set apart; elsewhere (a seed, a step count) they are not."""
    return {name: f"{value:,}" if type(value) is int else value for name, value in facts.items()}


def class_chart(results: Results, caption: str = "") -> Chart:
    """The accuracy of each class, clean and in the worst case."""
    count = len(results.per_class)
    worst = f"The {MOST_CLASSES} of {count} classes that hold up worst." if count > MOST_CLASSES else ""
    return Chart(class_bars(results.per_class), " ".join(filter(None, (caption, worst))))


def corruption_section(results: Results) -> Section:
    """Accuracy under common corruptions."""
    assert results.corruptions is not None
    return Section("Common corruptions", [corruption_table(results.corruptions, results.clean_accuracy)])


def certified_section(results: Results, block: Certified) -> Section:
    """What is proved at eps and over growing radii, beside the curve of attacks on the same classifier."""
    points = [CurvePoint(eps=point.radius, robust_accuracy=point.certified_accuracy) for point in block.radii]
    lines = [("certified", Curve(attack=block.method, points=points))]
    if results.curve is not None and block.method != "smoothing":
        lines.append((f"under {results.curve.attack}", results.curve))
    chart = Chart(accuracy_curve(lines, (), block.norm, "radius"), "By radius; the band is the 95% interval.")
    return Section("Certified robustness", [certified_table(block)], charts=[chart])
