"""Recall round by round while feedback is poisoned."""

from __future__ import annotations

from collections.abc import Sequence

from robustml.reporting.figures.look import GREY, VERMILLION, WIDTH, as_svg, describe, new_axes, style, styled
from robustml.results import FeedbackFigures, FeedbackReport


def recall_chart(report: FeedbackReport, simulations: Sequence[tuple[str, str]], description: str) -> str:
    """Recall of spam in every simulation, that of the rest under attack, and the share reported falsely.

    Args:
        report: what feedback.json holds; the first of its simulations is the attacked one.
        simulations: key in the report and name of each.
        description: what it shows, for those who cannot see it.
    """
    spam = report.spam
    attacked: list[FeedbackFigures] = getattr(report, simulations[0][0])
    lines = [(getattr(report, key), "spam_recall", f"{spam}, {name}") for key, name in simulations]
    lines.append((attacked, "ham_recall", "the rest, attacked"))
    with styled():
        axes = new_axes(WIDTH, 400)
        numbers = [each.number for each in attacked]
        done = [each.false_reports / max(each.spam, 1) for each in attacked[1:]]
        axes.bar(numbers[1:], done, color=GREY, alpha=0.18, width=0.6, label=f"{spam} reported falsely")
        for place, (rounds, key, label) in enumerate(lines):
            axes.plot(numbers, [getattr(each, key) for each in rounds], label=label, **style((1, 0, 2, 3)[place]))
        alarms = [each for each in attacked if each.baseline_alarm]
        axes.plot(
            [each.number for each in alarms], [each.spam_recall for each in alarms], linestyle="", marker="o",
            markersize=12, markerfacecolor="none", markeredgecolor=VERMILLION, label="alarm of the frozen baseline",
        )  # fmt: skip
        axes.set_xticks(numbers)
        describe(axes, "round", "share found or let through", 2)
        return as_svg(axes, description)
