"""Synthetic mail: spam and ham that share their words and differ in how often they use them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

START = datetime(2026, 1, 5, 8)
WORDS = 400
# How far the frequencies of a word in spam and in ham lie apart (standard deviation of their log ratio).
CONTRAST = 0.7


class Mail(NamedTuple):
    """One mail, whose label is what an honest reader calls it."""

    time: str
    round: int
    label: str
    text: str


def mail_round(number: int, n: int = 200, seed: int = 0) -> list[Mail]:
    """The `n` mails of one round (a week), oldest first, spam and ham by turns; other rounds are other mails."""
    # The language is the same in every round and for every seed; only what is written in it changes.
    language = np.random.RandomState(0)
    common = 1 / np.arange(1, WORDS + 1)
    lean = language.normal(0, CONTRAST / 2, WORDS)
    random = np.random.RandomState([seed, number])
    mails = []
    for place in range(n):
        label = ("spam", "ham")[place % 2]
        weight = common * np.exp(lean if label == "spam" else -lean)
        words = random.choice(WORDS, 5 + random.poisson(20), p=weight / weight.sum())
        time = START + timedelta(weeks=number, seconds=place * 7 * 86400 // n)
        mails.append(Mail(time.isoformat(), number, label, " ".join(f"word{word:03d}" for word in words)))
    return mails


def write_mails(path: Path, mails: Sequence[Mail]) -> str:
    """A CSV file with the columns time, round, label and text."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Mail._fields)
        writer.writerows(mails)
    return str(path)
