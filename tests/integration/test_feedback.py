"""`robustml feedback`: the bars of slow poisoning, met by the command on synthetic mail."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from corpora import mail_round, write_mails
from pydantic import ValidationError

from integration.files import left
from integration.forks import command
from robustml.results import FeedbackReport

ROUNDS = 12


def report_of(run: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run / "feedback.json").read_text())
    assert json.loads(FeedbackReport.model_validate(report).model_dump_json(by_alias=True)) == report
    with pytest.raises(ValidationError, match="Extra inputs"):
        FeedbackReport.model_validate(report | {"more": 1})
    return report


def recalls(rounds: list[dict[str, Any]]) -> list[float]:
    return [each["spam_recall"] for each in rounds]


def alarms(rounds: list[dict[str, Any]], kind: str) -> list[int]:
    return [each["number"] for each in rounds if each[f"{kind}_alarm"]]


def test_a_slow_campaign_its_control_and_the_way_back(tmp_path: Path) -> None:
    mails = [mail for number in range(ROUNDS + 1) for mail in mail_round(number)]
    train = write_mails(tmp_path / "mails.csv", mails)
    test = write_mails(tmp_path / "later.csv", mail_round(ROUNDS + 1, 1000))
    outcome = command("feedback", f"data.source.train={train}", f"data.source.test={test}", cwd=tmp_path, drawn=True)
    assert outcome.status == 0, outcome.err
    assert left(outcome.run) == {"config.yaml", "feedback.html", "feedback.json"}
    report = report_of(outcome.run)
    attacked, control, rolled_back = (report[key] for key in ("attacked", "control", "rolled_back"))
    # one part a round of the file's 200 mails, half of them spam
    assert [each["trained_on"] for each in attacked] == [200 * (number + 1) for number in range(ROUNDS + 1)]
    assert [each["false_reports"] for each in attacked] == [0, *(round(0.95 * t / 12 * 100) for t in range(1, 13))]
    assert [each["spam"] for each in attacked] == [100] * (ROUNDS + 1)
    assert report["notes"] == []
    assert not any(each["false_reports"] for each in control)

    assert recalls(attacked)[0] - recalls(attacked)[-1] >= 0.4
    assert max(before - after for before, after in pairwise(recalls(attacked))) <= 0.1
    assert recalls(control)[0] - recalls(control)[-1] <= 0.02
    assert alarms(attacked, "previous_round") == []
    assert alarms(control, "previous_round") == alarms(control, "baseline") == []
    first = alarms(attacked, "baseline")[0]
    assert first <= 7
    assert alarms(rolled_back, "baseline") == [first]
    assert recalls(rolled_back)[: first + 1] == recalls(attacked)[: first + 1]
    served = {each["serves"] for each in rolled_back[first + 1 :]}
    assert len(served) == 1
    assert served.pop() < first
    assert recalls(rolled_back)[0] - recalls(rolled_back)[-1] <= 0.02

    said = " ".join(outcome.out.split())
    assert f"The frozen baseline alarms in round {first}." in said
    assert "The release check stays silent." in said
    assert "<svg" in (outcome.run / "feedback.html").read_text()


def test_a_campaign_that_begins_later_on_any_set_of_two_classes(tmp_path: Path) -> None:
    words = ("data=breast_cancer", "spam=malignant", "rounds=4", "first=3", "share=0.5", "shuffle=true")
    words += ("data.train_limit=454",)
    outcome = command("feedback", *words, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    report = report_of(outcome.run)
    assert report["shares"] == [0, 0, 0.25, 0.5]
    assert [each["trained_on"] for each in report["control"]] == [90 * (number + 1) for number in range(5)]
    assert [each["false_reports"] for each in report["attacked"][:3]] == [0, 0, 0]
    assert all(each["false_reports"] for each in report["attacked"][3:])
    assert report["notes"] == ["the last 4 training rows are in no round: parts have 90 rows each"]
    assert report["notes"][0] in outcome.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "data.source.train has no value"),
        ("data=breast_cancer", "spam: there is no class 'spam'"),
        ("data=breast_cancer spam=malignant rounds=0", "rounds must be at least 1"),
        ("data=breast_cancer spam=malignant rounds=500", "too few"),
        ("data=breast_cancer spam=malignant share=1.5", "share must be at most 1"),
        ("data=breast_cancer spam=malignant first=13", "from 1 to 12"),
        ("data=breast_cancer spam=malignant baseline.limit=0", "limit > 0"),
        ("data=breast_cancer spam=malignant share=0.001", "rounds to none in every round"),
    ],
)
def test_wrong_requests(words: str, expected: str, tmp_path: Path) -> None:
    outcome = command("feedback", *words.split(), cwd=tmp_path)
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected in outcome.error
    assert left(tmp_path) == set()
