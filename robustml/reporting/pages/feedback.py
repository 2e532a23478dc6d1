"""A campaign of false feedback: recall round by round, the monitors' alarms, and the rollback."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from robustml.reporting.figures.look import (
    GREY,
    VERMILLION,
    WIDTH,
    Chart,
    as_svg,
    describe,
    new_axes,
    style,
    styled,
)
from robustml.reporting.formats import NOTHING, percent
from robustml.reporting.pages.links import stamp
from robustml.reporting.pages.template import Tile, write_page
from robustml.reporting.tables.cells import Table
from robustml.reporting.tables.text import table_text, wrapped
from robustml.results import FeedbackFigures, FeedbackReport

# Key of the report, and what people read.
_SIMULATIONS = (("attacked", "attacked"), ("control", "no attacker"), ("rolled_back", "attacked, rolled back"))

Rounds = Sequence[FeedbackFigures]


def feedback_text(report: FeedbackReport, width: int | None = None) -> str:
    """The figures of the three simulations, and a sentence, as plain text.

    Args:
        report: what feedback.json holds.
        width: columns of the terminal; by default what it has.
    """
    return f"{table_text(_table(report), width)}\n\n{wrapped([_sentence(report)], width)}"


def write_feedback_page(report: FeedbackReport, path: Path) -> Path:
    """Write the page on what feedback.json holds, and return its path."""
    chart = Chart(
        _chart(report),
        "Marked: rounds in which the frozen baseline alarms. Bars: spam reported falsely.",
    )
    return write_page(
        path,
        "feedback.html.j2",
        kind="poisoning through feedback",
        kicker=f"Poisoning through feedback · {report.data.name} · seed {report.seed}",
        heading=f"{len(report.shares)} rounds of feedback",
        stamp=stamp([report.data], [report.environment]),
        tiles=_tiles(report),
        lead=_sentence(report),
        chart=chart,
        table=_table(report),
        report=report,
    )


def _tiles(report: FeedbackReport) -> list[Tile]:
    """What the campaign does, what would have been without it, and who noticed."""
    first, last, control = (
        report.attacked[0].spam_recall,
        report.attacked[-1].spam_recall,
        report.control[-1].spam_recall,
    )
    alarm = _alarms(report.attacked, "baseline_alarm")
    caught = alarm != NOTHING
    return [
        Tile(
            f"Recall of {report.spam} after the campaign", percent(last), f"{percent(first)} before it", last,
            "alarm" if last < control - 0.05 else "",
        ),
        Tile(f"Recall of {report.spam} without an attacker", percent(control), "", control, "pale"),
        Tile(
            "Alarms of the frozen baseline", f"round {alarm}" if caught else "none",
            f"release check: {_alarms(report.attacked, 'previous_round_alarm')}", css="" if caught else "alert",
        ),
    ]  # fmt: skip


def _chart(report: FeedbackReport) -> str:
    """Recall of spam in every simulation, that of the rest under attack, and the share reported falsely."""
    spam = report.spam
    attacked = report.attacked
    lines = [(getattr(report, key), "spam_recall", f"{spam}, {name}") for key, name in _SIMULATIONS]
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
        return as_svg(axes, _sentence(report))


def _table(report: FeedbackReport) -> Table:
    spam, simulations = report.spam, [getattr(report, key) for key, _ in _SIMULATIONS]
    rows = [
        (f"recall of {spam}, first round", [percent(rounds[0].spam_recall) for rounds in simulations]),
        (f"recall of {spam}, last round", [percent(rounds[-1].spam_recall) for rounds in simulations]),
        ("most lost in one round (points)", [f"{100 * _largest_step(rounds):.1f}" for rounds in simulations]),
        ("recall of the rest, first round", [percent(rounds[0].ham_recall) for rounds in simulations]),
        ("recall of the rest, last round", [percent(rounds[-1].ham_recall) for rounds in simulations]),
        ("alarms of the release check", [_alarms(rounds, "previous_round_alarm") for rounds in simulations]),
        ("alarms of the frozen baseline", [_alarms(rounds, "baseline_alarm") for rounds in simulations]),
        ("last filter is that of round", [str(rounds[-1].serves) for rounds in simulations]),
    ]
    return Table(["", *(name for _, name in _SIMULATIONS)], [[name, *values] for name, values in rows])


def _largest_step(rounds: Rounds) -> float:
    """The most that the recall of spam lost from one round to the next; 0 where it never fell."""
    recalls = [each.spam_recall for each in rounds]
    return max([0.0, *(before - after for before, after in pairwise(recalls))])


def _alarms(rounds: Rounds, kind: str) -> str:
    """The rounds with that alarm, as people write them: "3", "3 to 12", or a dash."""
    found = [each.number for each in rounds if getattr(each, kind)]
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found)) or NOTHING


def _sentence(report: FeedbackReport) -> str:
    """What became of the filter, who noticed, and what going back did."""
    attacked, control, rolled_back = (getattr(report, key) for key, _ in _SIMULATIONS)
    text = (
        f"The recall of {report.spam} goes from {percent(attacked[0].spam_recall)} to "
        f"{percent(attacked[-1].spam_recall)}, without an attacker to {percent(control[-1].spam_recall)}."
    )
    for kind, name in (("previous_round_alarm", "release check"), ("baseline_alarm", "frozen baseline")):
        first = next((each.number for each in attacked if getattr(each, kind)), None)
        text += f" The {name} {'stays silent' if first is None else f'alarms in round {first}'}."
    back = next((number for number, each in enumerate(rolled_back) if each.serves != number), None)
    if back is not None:
        serves, recall = rolled_back[back].serves, percent(rolled_back[back].spam_recall)
        text += f" Rolled back to round {serves} then, it finds {recall}."
    return text
