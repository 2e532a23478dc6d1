"""A campaign of false feedback on a page: recall round by round, the monitors' alarms, and the rollback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from robustml.files import write_text
from robustml.reporting.formats import NOTHING, percent

__all__ = ["feedback_table", "write_feedback_page"]

# Key of the report, and what people read.
_SIMULATIONS = (("attacked", "attacked"), ("control", "no attacker"), ("rolled_back", "attacked, rolled back"))

Rounds = Sequence[Mapping[str, Any]]


def feedback_table(report: Mapping[str, Any]) -> str:
    """The figures of the three simulations, and a sentence, as plain text.

    Args:
        report: what feedback.json holds.
    """
    rows = [("", *(name for _, name in _SIMULATIONS))]
    rows += [(name, *values) for name, values in _figures(report)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"{row[0]:<{widths[0]}}"
        + "".join(f"   {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join([*lines, "", _sentence(report)])


def write_feedback_page(report: Mapping[str, Any], path: Path) -> Path:
    """Write the page.

    Args:
        report: what feedback.json holds.
        path: the file to write.

    Returns:
        `path`.
    """
    from robustml.reporting.page import document, figure, section

    kicker = f"Poisoning through feedback · {report['data']['name']} · seed {report['seed']}"
    head = "".join(f"<th class=number>{escape(name)}</th>" for _, name in _SIMULATIONS)
    rows = ""
    for name, values in _figures(report):
        cells = "".join(f"<td class=number>{escape(value)}</td>" for value in values)
        rows += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
    note = (
        f"A linear filter for {report['spam']} is retrained on all feedback so far after every round and measured on "
        f"{report['data']['test']:,} rows set aside. Recall of the rest is the share of other rows that it lets "
        "through. The release check compares a round with the one before; the frozen baseline sums up what was lost "
        "against round 0 (CUSUM)."
    )
    body = [
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{len(report["shares"])} rounds of feedback</h1></header>',
        f'<p class="lead">{escape(_sentence(report))}</p>',
        section(
            "Recall, round by round",
            figure(_chart(report), "Marked: rounds in which the frozen baseline alarms. Bars: spam reported falsely."),
        ),
        section(
            "Figures",
            f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>',
            f'<p class="note">{escape(note)}</p>',
        ),
    ]
    return write_text(path, document("Poisoning through feedback", body))


def _figures(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What the table says of the simulations, in their order: a name, and a cell for each."""
    spam = report["spam"]
    simulations: list[Rounds] = [report[key] for key, _ in _SIMULATIONS]
    return [
        (f"recall of {spam}, first round", [percent(rounds[0]["spam_recall"]) for rounds in simulations]),
        (f"recall of {spam}, last round", [percent(rounds[-1]["spam_recall"]) for rounds in simulations]),
        ("most lost in one round (points)", [f"{100 * _largest_step(rounds):.1f}" for rounds in simulations]),
        ("recall of the rest, first round", [percent(rounds[0]["ham_recall"]) for rounds in simulations]),
        ("recall of the rest, last round", [percent(rounds[-1]["ham_recall"]) for rounds in simulations]),
        ("alarms of the release check", [_alarms(rounds, "previous_round_alarm") for rounds in simulations]),
        ("alarms of the frozen baseline", [_alarms(rounds, "baseline_alarm") for rounds in simulations]),
        ("last filter is that of round", [str(rounds[-1]["serves"]) for rounds in simulations]),
    ]


def _largest_step(rounds: Rounds) -> float:
    """The most that the recall of spam lost from one round to the next; 0 where it never fell."""
    recalls = [float(each["spam_recall"]) for each in rounds]
    return max([0.0, *(before - after for before, after in pairwise(recalls))])


def _alarms(rounds: Rounds, kind: str) -> str:
    """The rounds with that alarm, as people write them: "3", "3 to 12", or a dash."""
    found = [each["number"] for each in rounds if each[kind]]
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found)) or NOTHING


def _sentence(report: Mapping[str, Any]) -> str:
    """What became of the filter, who noticed, and what going back did."""
    attacked, control, rolled_back = (report[key] for key, _ in _SIMULATIONS)
    text = (
        f"The recall of {report['spam']} goes from {percent(attacked[0]['spam_recall'])} to "
        f"{percent(attacked[-1]['spam_recall'])}, without an attacker to {percent(control[-1]['spam_recall'])}."
    )
    for kind, name in (("previous_round_alarm", "release check"), ("baseline_alarm", "frozen baseline")):
        first = next((each["number"] for each in attacked if each[kind]), None)
        text += f" The {name} {'stays silent' if first is None else f'alarms in round {first}'}."
    back = next((number for number, each in enumerate(rolled_back) if each["serves"] != number), None)
    if back is not None:
        serves, recall = rolled_back[back]["serves"], percent(rolled_back[back]["spam_recall"])
        text += f" Rolled back to round {serves} then, it finds {recall}."
    return text


def _chart(report: Mapping[str, Any]) -> str:
    """Recall of spam in the three simulations, that of the rest under attack, and the share reported falsely."""
    from robustml.reporting.figures import (
        GREY,
        VERMILLION,
        as_svg,
        legend_above,
        new_figure,
        percent_axis,
        style,
        styled,
    )

    spam = report["spam"]
    lines = [(report[key], "spam_recall", f"{spam}, {name}") for key, name in _SIMULATIONS]
    lines.append((report["attacked"], "ham_recall", "the rest, attacked"))
    with styled():
        drawing = new_figure(960, 420)
        axes = drawing.add_subplot()
        numbers = [each["number"] for each in report["attacked"]]
        done = [each["false_reports"] / max(each["spam"], 1) for each in report["attacked"][1:]]
        axes.bar(numbers[1:], done, color=GREY, alpha=0.18, width=0.6, label=f"{spam} reported falsely")
        for place, (rounds, key, label) in enumerate(lines):
            axes.plot(numbers, [each[key] for each in rounds], label=label, **style((1, 0, 2, 3)[place]))
        alarms = [each for each in report["attacked"] if each["baseline_alarm"]]
        axes.plot(
            [each["number"] for each in alarms], [each["spam_recall"] for each in alarms], linestyle="", marker="o",
            markersize=12, markerfacecolor="none", markeredgecolor=VERMILLION, label="alarm of the frozen baseline",
        )  # fmt: skip
        axes.set_xticks(numbers)
        axes.set_xlabel("round")
        axes.set_ylabel("share found or let through")
        percent_axis(axes)
        legend_above(axes, 3)
        return as_svg(drawing, _sentence(report))
