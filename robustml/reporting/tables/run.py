"""The tables of one run: its attacks, its classes, the epoch that was kept, and the predictions on a few examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from robustml.reporting.formats import norm_text, percent, plain, seconds_text
from robustml.reporting.sentences import strongest
from robustml.reporting.tables.cells import Cell, Row, Table, cell_of
from robustml.results import ClassResult, Examples, Results, SelectedEpoch


def beyond(max_norm: float, eps: float) -> tuple[str, ...]:
    """The mark of an attack that left its budget; float32 may exceed eps by its rounding."""
    return ("beyond eps",) if max_norm > eps * 1.001 + 1e-6 else ()


def chosen(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are set."""
    return {name: value for name, value in params.items() if value is not None}


def attack_table(results: Results) -> Table:
    """Each attack, the strongest first: what it left standing, how far it went, what it cost; then the worst case."""
    eps, norm = results.threat.eps, norm_text(results.threat.norm)
    top = strongest(results) if len(results.attacks) > 1 else None
    known = {name: attack.robust_accuracy.value for name, attack in results.attacks.items()}
    rows: list[Row] = [
        [
            Cell(name, marks=("strongest",) if name == top else ()),
            attack.robust_accuracy,
            Cell(f"{attack.max_norm:.4g}", marks=beyond(attack.max_norm, eps)),
            seconds_text(attack.seconds),
            Cell("", chips=chosen(attack.params)),
        ]
        for name, attack in sorted(
            results.attacks.items(), key=lambda item: 2.0 if known[item[0]] is None else known[item[0]] or 0.0
        )
    ]
    worst = results.worst_case if results.attacks else None
    if worst is not None:
        note = "still right against every attack" if len(worst.attacks) > 1 else ""
        rows.append(["worst case", worst.robust_accuracy, "", "", Cell("", more=note)])
    change = f"largest change ({norm})"
    allowed = f"Allowed: {norm} eps {plain(eps)}" + (f" = {eps:.4g}." if "/" in plain(eps) else ".")
    headings = ["attack", "robust accuracy, 95% interval", change, "time", "parameters"]
    return Table(headings, rows, words=frozenset({"parameters"}), total=worst is not None, note=allowed)


def class_table(rows: list[ClassResult], attacked: bool) -> Table:
    """Accuracy of each class; without an attack there is no worst case to show."""
    if not attacked:
        return Table(["class", "clean accuracy"], [[row.name, row.clean_accuracy] for row in rows])
    return Table(
        ["class", "label", "n", "clean accuracy", "worst-case accuracy"],
        [
            [row.name, str(row.label), f"{row.n:,}", cell_of(row.clean_accuracy, clean=True), row.robust_accuracy]
            for row in rows
        ],
    )


def selection_table(results: Results) -> Table:
    """The kept epoch beside the last one, on the validation split."""
    assert results.selection is not None

    def row(name: str, epoch: SelectedEpoch) -> list[str]:
        rates = (epoch.clean_accuracy, epoch.adversarial_accuracy, epoch.train_adversarial_accuracy)
        return [name, str(epoch.epoch), *map(percent, rates)]

    headings = ["weights", "epoch", "clean, validation", "adversarial, validation", "adversarial, training"]
    return Table(headings, [row("kept (best)", results.selection.best), row("last", results.selection.last)])


def prediction_table(examples: Examples, most: int) -> Table:
    """The predictions on the first `most` examples, for data that cannot be drawn."""

    def cell(label: int, true: int, sure: float) -> Cell:
        more = f"{100 * sure:.0f}% sure" if math.isfinite(sure) else ""
        return Cell(f"{'✓' if label == true else '✗'} {examples.name(label)}", more=more)

    attacked = "prediction when attacked" + (f" by {examples.attack}" if examples.attack else "")
    headings = ["true class", "prediction", attacked]
    columns = (examples.y, examples.prediction, examples.confidence,
               examples.adversarial_prediction, examples.adversarial_confidence)  # fmt: skip
    rows: list[Row] = [
        [examples.name(int(true)), cell(int(clean), int(true), float(sure)), cell(int(turned), int(true), float(then))]
        for true, clean, sure, turned, then in zip(*(column[:most] for column in columns), strict=True)
    ]
    return Table(headings, rows, words=frozenset(headings))
