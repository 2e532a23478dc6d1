"""Slow poisoning through feedback: users report mail, an attacker reports spam as "not spam", the filter is retrained.

Bursztein 2018, "Attacks against machine learning: an overview" (elie.net), tells of such campaigns against Gmail's
filter: masses of spam reported as not spam by accounts of the spammers' own; Nelson et al. 2008, "Exploiting Machine
Learning to Subvert Your Spam Filter" (LEET), measured what retraining on an attacker's mail does. Every round is
measured on mail that was set aside, and two monitors watch the figures: one compares a round with the one before, as
release checks do, and a patient attacker stays below its threshold; the other holds a frozen baseline and sums up what
was lost against it (CUSUM; Page 1954, "Continuous Inspection Schemes", Biometrika 41).

The filter is a bag of words and a logistic regression, or, where mail comes as vectors, a logistic regression alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field

from robustml.errors import RequestError
from robustml.poisoning.checks import check_number
from robustml.poisoning.choose import choose
from robustml.results import FeedbackFigures


class Mailbox(NamedTuple):
    """Some mails: their texts, or vectors of words (D,) of one length, and which of them are spam."""

    texts: Sequence[Any]
    spam: Sequence[bool]


@dataclass(frozen=True)
class PreviousRound:
    """Alarms when a figure falls by more than `drop` from one round to the next.

    Args:
        drop: in (0, 1); the default is ten points.

    Raises:
        RequestError: a drop that is none.
    """

    drop: float = 0.1

    def __post_init__(self) -> None:
        expected = "of PreviousRound is a drop in (0, 1)"
        check_number(self.drop, "drop", expected, 0, above=True)
        if self.drop >= 1:
            raise RequestError(f"drop {expected}; got {self.drop}")

    def __call__(self, history: Sequence[float]) -> bool:
        """Whether the last of the figures, oldest first, is an alarm."""
        return len(history) > 1 and history[-2] - history[-1] > self.drop


@dataclass(frozen=True)
class Cusum:
    """Alarms when the losses against the first round, summed up, exceed a limit.

    Args:
        slack: a loss that is forgiven in every round, >= 0: what the figure varies by, anyway.
        limit: what the sum of all beyond that may reach, > 0.

    Raises:
        RequestError: a slack or limit out of range.
    """

    slack: float = 0.02
    limit: float = 0.1

    def __post_init__(self) -> None:
        check_number(self.slack, "slack", "of Cusum must be slack >= 0", 0)
        check_number(self.limit, "limit", "of Cusum must be limit > 0", 0, above=True)

    def __call__(self, history: Sequence[float]) -> bool:
        """Whether the sum exceeds the limit after the last of the figures, oldest first."""
        return self.sums(history)[-1] > self.limit

    def sums(self, history: Sequence[float]) -> list[float]:
        """The sum after each figure: it grows by the loss beyond the slack, shrinks by the gain, and stops at 0."""
        sums = [0.0]
        for figure in history[1:]:
            sums.append(max(0.0, sums[-1] + history[0] - figure - self.slack))
        return sums


class FeedbackRound(FeedbackFigures):
    """What feedback.json holds of a round, and `model`, the filter: its `predict` says which mails are spam."""

    model: Any = Field(exclude=True, repr=False)


def simulate_feedback(
    trusted: Mailbox,
    feedback: Sequence[Mailbox],
    test: Mailbox,
    *,
    shares: Sequence[float],
    seed: int,
    roll_back: bool = False,
    previous_round: PreviousRound | None = None,
    baseline: Cusum | None = None,
    learner: Callable[[], Any] | None = None,
) -> list[FeedbackRound]:
    """Retrain a filter on feedback, round after round, while an attacker reports some of the spam as "not spam".

    Args:
        trusted: the mail that the filter of round 0 is trained on, spam and other.
        feedback: the mail of each round, with its true labels, which honest users report.
        test: what every round is measured on, set aside, spam and other.
        shares: what share of its spam is reported as not spam, for each round of `feedback`, in [0, 1]: exactly
            ``round(share * spam)`` mails. Growing shares are the slow campaign, zeros its control.
        seed: draws which.
        roll_back: after an alarm of the baseline, the filter of the last trusted round serves again and feedback is set
            aside. Trusted is the last round before the sum that raised the alarm began to grow.
        previous_round: the monitor that compares with the round before; the default one if None.
        baseline: the monitor that compares with round 0; the default one if None.
        learner: makes an untrained filter, with scikit-learn's `fit` and `predict`, for every round anew; for texts if
            None, `linear_filter` for vectors.

    Returns:
        Round 0, and one round for each of `feedback`.

    Raises:
        RequestError: not one share in [0, 1] a round, mails without a label each, or trusted or test mail of one kind.
    """
    _check(trusted, feedback, test, shares)
    monitors = previous_round or PreviousRound(), baseline or Cusum()
    texts, labels = list(trusted.texts), list(trusted.spam)
    untrained = learner or _text_filter
    rounds = [_retrained([], sum(trusted.spam), 0, untrained().fit(texts, labels), len(labels), test, monitors)]
    gone_back_to: FeedbackRound | None = None
    for number, (mail, share) in enumerate(zip(feedback, shares, strict=True), start=1):
        spam = torch.tensor(mail.spam, dtype=torch.bool).nonzero().squeeze(1)
        count = round(share * len(spam))
        if gone_back_to is not None:
            rounds.append(gone_back_to.model_copy(update={"number": number, "spam": len(spam), "false_reports": count}))
            continue
        false = set(choose(spam, count, seed, f"feedback/{number}").tolist())
        texts.extend(mail.texts)
        labels += [is_spam and row not in false for row, is_spam in enumerate(mail.spam)]
        rounds.append(_retrained(rounds, len(spam), count, untrained().fit(texts, labels), len(labels), test, monitors))
        if roll_back and rounds[-1].baseline_alarm:
            gone_back_to = last_trusted(rounds, monitors[1])
    return rounds


def last_trusted(rounds: Sequence[FeedbackRound], baseline: Cusum) -> FeedbackRound:
    """The last round before the losses against round 0 began to sum up, whose filter to go back to.

    Args:
        rounds: from round 0 on, as `simulate_feedback` returns them.
        baseline: the monitor that watched them.
    """
    sums = zip(*(baseline.sums(figures) for figures in _figures(rounds)), strict=True)
    return [a_round for a_round, losses in zip(rounds, sums, strict=True) if not any(losses)][-1]


def _figures(rounds: Sequence[FeedbackRound]) -> tuple[list[float], list[float]]:
    """What the monitors watch: the recalls of spam and of other mail, oldest first."""
    return [a_round.spam_recall for a_round in rounds], [a_round.ham_recall for a_round in rounds]


def _check(trusted: Mailbox, feedback: Sequence[Mailbox], test: Mailbox, shares: Sequence[float]) -> None:
    if len(shares) != len(feedback) or not all(0 <= share <= 1 for share in shares):
        raise RequestError(f"expected {len(feedback)} shares in [0, 1], one for each round of feedback, got {shares}")
    for mail in (trusted, *feedback, test):
        if len(mail.texts) != len(mail.spam):
            raise RequestError(f"every mail needs a label, got {len(mail.texts)} texts and {len(mail.spam)} labels")
    for mail, what in ((trusted, "trusted"), (test, "test")):
        if len(set(mail.spam)) < 2:
            raise RequestError(f"the {what} mail must hold spam and other mail, but all of it is of one kind")


def linear_filter() -> Any:
    """An untrained logistic regression, of mails as vectors (N, D)."""
    from sklearn.linear_model import LogisticRegression  # takes a second, and only this needs it

    return LogisticRegression(max_iter=1000)


def _text_filter() -> Any:
    """The same of texts: on how often each word occurs."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(CountVectorizer(), linear_filter())


def _retrained(
    before: Sequence[FeedbackRound],
    spam_sent: int,
    false_reports: int,
    model: Any,
    trained_on: int,
    test: Mailbox,
    monitors: tuple[PreviousRound, Cusum],
) -> FeedbackRound:
    """The round after `before`, with a filter trained on all mail so far."""
    found, spam = np.asarray(model.predict(test.texts)), np.asarray(test.spam)
    unwatched = FeedbackRound(
        number=len(before),
        spam=spam_sent,
        false_reports=false_reports,
        trained_on=trained_on,
        spam_recall=float(found[spam].mean()),
        ham_recall=float(1 - found[~spam].mean()),
        previous_round_alarm=False,
        baseline_alarm=False,
        serves=len(before),
        model=model,
    )
    figures = _figures([*before, unwatched])
    step, baseline = (any(monitor(history) for history in figures) for monitor in monitors)
    return unwatched.model_copy(update={"previous_round_alarm": step, "baseline_alarm": baseline})
