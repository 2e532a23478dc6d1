"""What a repair did to a model and to its clean twin, as a table: a row a model."""

from __future__ import annotations

from robustml.reporting.formats import percent, plain, seconds_text
from robustml.reporting.tables.cells import Cell, Content, Row, Table, cell_of
from robustml.results import Rate, Repair, RepairFigures


def repair_table(block: Repair) -> Table:
    """The model before and after, mere fine-tuning, the twin likewise, and whether the backdoor can be called back."""
    attacked = block.before.robust_accuracy is not None
    tuned = None if block.fine_tuning == block.after else block.fine_tuning
    models = {
        "before": block.before,
        f"after {block.method.replace('_', ' ')}": block.after,
        "after mere fine-tuning": tuned,
        "clean twin": block.twin,
        "clean twin, repaired": block.twin_after,
    }
    rows = [_row(name, figures, attacked) for name, figures in models.items() if figures is not None]
    shown = f"called back by {block.reactivation_records} records"
    near = "a trigger near the old one"
    for how, found, of_twin in (
        (shown, block.reactivated_attack_success_rate, block.twin_reactivated_attack_success_rate),
        (near, block.searched_attack_success_rate, block.twin_searched_attack_success_rate),
    ):
        called = {how: found, "  the same of the twin": of_twin}
        rows += [[name, "", rate, *[""] * (1 + attacked)] for name, rate in called.items() if rate is not None]
    rate = "" if block.poison_rate is None else f", {percent(block.poison_rate)} of the training set was poisoned"
    note = (
        f"{block.clean_images:,} clean records, {seconds_text(block.seconds)}{rate}. Recovery: triggered inputs that "
        "are read as their true class. The last rows are of repaired models: what success the backdoor has when it is "
        "called back, beside that on the twin, which never had it."
    )
    headings = ["model", "clean accuracy", "attack success", "recovery"]
    if attacked:
        headings.append("under PGD")
        note += " Under PGD: 10 steps, on at most 200 test records."
    return Table(headings, rows, narrow=True, note=note)


def path_table(block: Repair) -> Table | None:
    """The path of mode connectivity, a row a point; None for other repairs."""
    if block.connection is None:
        return None
    lines = {point.t: point for point in block.connection.line}
    rows: list[Row] = []
    for point in block.connection.curve:
        beside = lines.get(point.t)
        straight = None if beside is None else percent(beside.clean_accuracy.value)
        chosen = ("kept",) if point.t == block.connection.chosen else ()
        rates = (point.clean_accuracy, point.attack_success_rate, point.robust_accuracy)
        rows.append([Cell(plain(point.t), marks=chosen), *(_or_dash(rate) for rate in rates), straight])
    headings = ["t", "clean accuracy", "attack success", "robust accuracy", "clean, straight line"]
    note = "t = 0 is the model, t = 1 the other one. t is chosen on clean records that nothing was trained on."
    return Table(headings, rows, narrow=True, note=note)


def _row(name: str, figures: RepairFigures, attacked: bool) -> Row:
    clean = cell_of(figures.clean_accuracy, clean=True)
    rates = [figures.attack_success_rate, figures.recovery_accuracy, *([figures.robust_accuracy] if attacked else [])]
    return [name, clean, *map(_or_dash, rates)]


def _or_dash(rate: Rate | None) -> Content:
    return rate if rate is not None and rate.n else None
