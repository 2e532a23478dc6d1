"""A filter that learns from its users' reports, and an attacker among the users, written as a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from robustml.data import DataModule, Records
from robustml.errors import RequestError
from robustml.poisoning import Cusum, FeedbackRound, Mailbox, PreviousRound, linear_filter, simulate_feedback
from robustml.poisoning.choose import class_label, seeded
from robustml.poisoning.pixels import in_unit_range
from robustml.reporting.pages.feedback import feedback_text, write_feedback_page
from robustml.results import FeedbackFigures, FeedbackReport, write_checked
from robustml.say import say
from robustml.workflows.integrity.guarding import guarded
from robustml.workflows.measuring.judging import environment
from robustml.workflows.settings import write_settings


def feedback(
    data: DataModule,
    *,
    spam: str | int = "spam",
    rounds: int = 12,
    share: float = 0.95,
    first: int = 1,
    shuffle: bool = False,
    previous_round: PreviousRound | None = None,
    baseline: Cusum | None = None,
    seed: int = 0,
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
) -> FeedbackReport:
    """Run a campaign, its control, and the campaign with rollback; write what came of each.

    The training part is cut, in its order, into one part for the filter before any feedback and one a round; every
    round is measured on the test part.

    Args:
        data: mail, one vector a record; without a validation part.
        spam: the class, by name or number, that the filter is there to find.
        rounds: of feedback.
        share: of the spam of the last round that the attacker reports as the other class; grows evenly.
        first: the round that the campaign begins in.
        shuffle: draw the parts in another order than the set's, which for mail is time.
        previous_round: the release check.
        baseline: the frozen baseline.
        seed: of all that is drawn.
        out: gets config.yaml, feedback.json and feedback.html.
        settings: what config.yaml is to hold.

    Returns:
        What feedback.json holds.

    Raises:
        RequestError: there is no such class, too little mail, or nothing would be reported falsely.
    """
    guarded(data).setup()
    out, shares = Path(out), _shares(rounds, first, share)
    label = class_label(data.test, spam, "spam")
    trusted, *later = _cut(data.train, label, rounds, seed if shuffle else None)
    monitors: dict[str, Any] = {"previous_round": previous_round or PreviousRound(), "baseline": baseline or Cusum()}

    def simulate(shares: list[float], *, roll_back: bool = False) -> list[FeedbackRound]:
        test = _mailbox(data.test, label)
        options: dict[str, Any] = {"seed": seed, "roll_back": roll_back, "learner": linear_filter, **monitors}
        return simulate_feedback(trusted, later, test, shares=shares, **options)

    attacked = simulate(shares)
    report = FeedbackReport(
        seed=seed,
        data=data.summary(),
        environment=environment(torch.device("cpu")),
        spam=data.class_names[label],
        shares=shares,
        notes=_notes(attacked, shares, len(data.train)),
        attacked=attacked,
        control=simulate([0.0] * len(shares)),
        rolled_back=simulate(shares, roll_back=True),
    )
    write_settings(dict(settings or {}), out / "config.yaml")
    write_checked(report, out / "feedback.json")
    page = write_feedback_page(report, out / "feedback.html")
    say("\n" + feedback_text(report) + "\n")
    for note in report.notes:
        say(f"note: {note}")
    say(f"report: {page}")
    say(f"run: {out}")
    return report


def _shares(count: int, first: int, last: float) -> list[float]:
    """What share of the spam of each round is reported falsely: it grows evenly from the first round that has some."""
    if type(count) is not int or count < 1:
        raise RequestError(f"rounds must be at least 1, got {count!r}")
    if type(first) is not int or not 1 <= first <= count:
        raise RequestError(f"first is the round that the campaign begins in, from 1 to {count} here; got {first!r}")
    if isinstance(last, bool) or not isinstance(last, int | float) or not 0 <= last <= 1:
        raise RequestError(f"share is that of the spam of the last round, in [0, 1]; got {last!r}")
    return [last * max(0, number - first + 1) / (count - first + 1) for number in range(1, count + 1)]


def _cut(train: Records, spam: int, rounds: int, shuffle_by: int | None) -> list[Mailbox]:
    """The training part cut into equal parts, in its order or a drawn one: the trusted mail, and that of each round."""
    count = rounds + 1
    if len(train) < count:
        raise RequestError(
            f"{len(train)} training rows are too few for the trusted part and {rounds} rounds of at least "
            "one: lower rounds="
        )
    order = torch.arange(len(train))
    if shuffle_by is not None:
        order = torch.randperm(len(train), generator=seeded(shuffle_by, "feedback order"))
    size = len(train) // count
    return [_mailbox(train.take(order[start : start + size]), spam) for start in range(0, size * count, size)]


def _notes(attacked: Sequence[FeedbackFigures], shares: list[float], rows: int) -> list[str]:
    """Where the campaign is not quite what was asked for, and why.

    Raises:
        RequestError: nothing was reported falsely, although a share was asked for.
    """
    sent, false = ([getattr(each, name) for each in attacked[1:]] for name in ("spam", "false_reports"))
    if any(shares) and not any(false):
        raise RequestError(
            f"share={max(shares):g} of the spam of a round, {max(sent)} mails at most, rounds to none in every round: "
            "raise it, or lower rounds="
        )
    notes = []
    aimed = zip(sent, shares, strict=True)
    if without := [number for number, (count, share) in enumerate(aimed, 1) if share and not count]:
        notes.append(f"no spam came in rounds {', '.join(map(str, without))}, so none was reported falsely there")
    if unused := rows % len(attacked):
        notes.append(f"the last {unused} training rows are in no round: parts have {rows // len(attacked)} rows each")
    return notes


def _mailbox(part: Records, spam: int) -> Mailbox:
    """Rows as vectors (D,) in [0, 1], and which of them are spam."""
    return Mailbox(list(in_unit_range(part.x).flatten(1).numpy()), (part.y == spam).tolist())
