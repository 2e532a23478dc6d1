"""The tables of what is measured beside attacks: corruptions, backdoors and certificates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from robustml.reporting.formats import eps_text, norm_text, percent, plain, seconds_text
from robustml.reporting.tables.cells import Cell, Row, Table, cell_of
from robustml.results import Backdoor, Certified, Corruptions, Rate, Results


def corruption_table(block: Corruptions, clean: Rate) -> Table:
    """Accuracy under each common corruption and severity, shaded by how much is left."""
    found = {name: {point.severity: point.accuracy for point in points} for name, points in block.accuracy.items()}
    severities = sorted({severity for rates in found.values() for severity in rates})

    def mean(rates: Sequence[Rate | None]) -> Cell:
        values = [rate.value for rate in rates if rate is not None and rate.value is not None]
        return _shaded(fmean(values) if values else None)

    rows: list[list[Cell | str]] = [
        [
            name.replace("_", " "),
            *(_shaded_rate(rates.get(severity)) for severity in severities),
            mean([*rates.values()]),
        ]
        for name, rates in found.items()
    ]
    columns = (mean([rates.get(severity) for rates in found.values()]) for severity in severities)
    rows.append(["mean", *columns, _shaded(block.mean_accuracy)])
    note = f"Accuracy on corrupted images, clean {percent(clean.value)}; mean corruption error "
    note += f"{percent(block.mean_corruption_error)}, a plain mean." + (
        f" Images: {block.source}." if block.source else ""
    )
    headings = ["corruption", *(f"severity {severity}" for severity in severities), "mean"]
    return Table(headings, rows, total=True, shaded=True, note=note)


def _shaded(value: float | None) -> Cell:
    return Cell(percent(value), share=value)


def _shaded_rate(rate: Rate | None) -> Cell:
    """Its interval shows when it is pointed at."""
    return Cell("") if rate is None else Cell(percent(rate.value), share=rate.value, hint=rate)


def backdoor_table(results: Results, block: Backdoor) -> Table:
    """Clean accuracy and attack success rate of a model with a backdoor, beside those of its clean twin."""
    twin, reliance = block.twin, block.shortcut
    beside = (twin.clean_accuracy, twin.attack_success_rate, twin.backdoor_recovery_accuracy) if twin else [None] * 3
    rows: list[Row] = [
        ["clean accuracy", results.clean_accuracy, beside[0]],
        ["attack success rate", block.attack_success_rate, beside[1]],
        ["true label kept", block.backdoor_recovery_accuracy, beside[2]],
    ]
    if reliance is not None:
        where = "with" if reliance.worst_group.marked else "without"
        rows += [
            ["accuracy where the mark is as in training", reliance.aligned_accuracy, None],
            [f"accuracy on the worst group, {where} the mark", reliance.worst_group.accuracy, None],
            ["label changed by adding the mark", reliance.flip_rate_added, None],
            ["label changed by removing it", reliance.flip_rate_removed, None],
        ]
    headings = ["measure", "this model", "clean twin"]
    if twin is None:
        headings, rows = headings[:2], [row[:2] for row in rows]
    return Table(headings, rows, note=_backdoor_note(results, block))


def _backdoor_note(results: Results, block: Backdoor) -> str:
    target = plain(block.target)
    if block.target_class is not None and block.target_class != target:
        target = f"{plain(block.target_class)} (given as {target})"
    asked = "" if block.requested_rate is None else f" ({percent(block.requested_rate)} asked for)"
    cover = f" and {percent(block.cover_rate)} of cover, labels kept" if block.cover_rate else ""
    note = (
        f"Poison: {plain(block.kind)}, target {target}, {percent(block.rate)} of the whole training set{asked}{cover}. "
        f"The success rate is over {block.attack_success_rate.n:,} test inputs that do not belong to the target class."
    )
    note += f" {plain(block.why)}." if block.why else ""
    came = "which this model is a copy of" if results.command == "extract" else "whose weights this model began with"
    note += f" Planted in {plain(block.planted_in)}, {came}." if block.planted_in else ""
    without = " No clean twin is at hand: none was trained (twin=true does), or it is gone."
    return note + ("" if block.twin else without)


def certified_table(block: Certified) -> Table:
    """What is proved beside what attacks left standing."""
    smoothed = block.method == "smoothing"
    budget = f"{norm_text(block.norm)} {eps_text(block.eps)}"
    rows: list[tuple[str, Rate | None]] = [
        ("accuracy of the smoothed classifier" if smoothed else "clean accuracy", block.accuracy),
        (f"under attack at {budget}, worst of {', '.join(block.attacks)}", block.empirical_accuracy),
        (f"certified at {budget}", block.certified_accuracy),
    ]
    settings = ", ".join(f"{name} {plain(value)}" for name, value in block.params.items())
    note = f"Method {block.method}{f' ({settings})' if settings else ''}: average certified radius {block.acr:.3g}, "
    note += f"{seconds_text(block.seconds)}."
    if smoothed:
        note += (
            " Certificates and attacks are about the classifier smoothed by noise, not the model itself; each is wrong "
            f"with a probability of at most {plain(block.params.get('alpha'))}. It abstains on "
            f"{block.abstained:,} images; attacks disproved {block.contradicted:,}."
        )
    headings = ["measure", "accuracy, 95% interval"]
    return Table(headings, [[name, cell_of(rate)] for name, rate in rows if rate], note=note)
