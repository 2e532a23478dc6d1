"""What the results say of a training that collapsed and went on all the same."""

from __future__ import annotations

from pathlib import Path

from robustml.results import Flag
from robustml.training.callbacks.table import read_table


def collapse_flags(health: Path) -> list[Flag]:
    """A flag if health.csv tells of a collapse with which training ended; none without the file.

    A run that recovered, by itself or by a rollback, or stopped ends with healthy weights: its report tells of it, but
    there is nothing to doubt.
    """
    if not health.is_file():
        return []
    rows = read_table(health, ("step", "epoch"), texts=("action",))
    if not rows or rows[-1].get("action") != "warn":
        return []
    collapsed = [row for row in rows if row["action"] == "warn"]
    first = collapsed[0]
    return [
        Flag(
            name="catastrophic_overfitting",
            message=(
                f"at step {first['step']} (epoch {first['epoch']}) of training, {float(first['fgsm_accuracy']):.1%} of "
                f"a training batch withstood FGSM and {float(first['pgd_accuracy']):.1%} a short PGD, and so did "
                f"{len(collapsed) - 1} of the later measurements: weights from then on resist single steps only; "
                "callbacks.catastrophic_overfitting.action=rollback goes back and on"
            ),
        )
    ]
