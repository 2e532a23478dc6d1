"""The extraction block: what it refuses, and how it reads in a terminal and on the page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from robustml.reporting.extraction import extraction_section, extraction_table
from robustml.reporting.formats import NOTHING
from robustml.results import ExtractionResults, rate


def shares(right: int) -> dict[str, Any]:
    return rate(right, 100).model_dump()


def content(**changes: Any) -> dict[str, Any]:
    point = {"queries": 50, "fidelity": shares(60), "accuracy": shares(55)}
    return {
        "method": "Knockoff", "params": {"strategy": "<random>", "training": {"steps": 600}}, "pool": "Noise",
        "queries": 1000, "budget": 2000, "fidelity": shares(90), "baseline_fidelity": shares(12),
        "accuracy": shares(85), "victim_accuracy": shares(95), "transfer_success": rate(0, 0).model_dump(),
        "curve": [point, point | {"queries": 1000, "fidelity": shares(90), "accuracy": shares(85)}],
        "defense": None,
    } | changes  # fmt: skip


DEFENSE = {
    "name": "Rounding",
    "params": {"digits": 2},
    "undefended": {"queries": 2000, "fidelity": shares(97), "accuracy": shares(93)},
    "undefended_transfer_success": shares(70),
    "watches": True,
    "alarm_after": 321,
    "honest": {
        "label_accuracy": shares(94), "label_accuracy_change": -0.01, "mean_l1_change": 0.25, "false_alarm_after": 77,
    },
}  # fmt: skip


def test_the_table_says_what_was_measured() -> None:
    table = extraction_table(ExtractionResults.model_validate(content(defense=DEFENSE)))
    lines = table.splitlines()
    assert all(len(line) <= 100 for line in lines)
    for expected in (
        r"fidelity of the copy +90\.0% ± *\d\.\d +1,000 of 2,000 queries, against Rounding",
        r"undefended: fidelity +97\.0%",
        r"honest users: accuracy +94\.0%.*-1\.0 points; probabilities moved by 0\.25",
        r"alarm over the thief +after 321 queries",
        r"false alarm over honest users +after 77 queries",
        r"  from 50 queries +60\.0%.*accuracy 55\.0%",
        rf"transfer success +{NOTHING}",
    ):
        assert any(re.match(expected, line) for line in lines), (expected, table)


def test_without_a_defense_nothing_is_said_of_one() -> None:
    table = extraction_table(ExtractionResults.model_validate(content(curve=[])))
    assert "honest" not in table
    assert "over the budget" not in table


def test_the_section_draws_the_curve_and_escapes_names() -> None:
    page = extraction_section(ExtractionResults.model_validate(content(defense=DEFENSE)))
    assert "Model extraction" in page
    assert page.count("<svg") == 1
    assert "&lt;random&gt;" in page
    assert "<random>" not in page
    assert "<svg" not in extraction_section(ExtractionResults.model_validate(content(curve=[])))


@pytest.mark.parametrize(
    "changes", [{"queries": 2001}, {"fidelity": 0.9}, {"fidelity": {"value": 2, "n": 1, "ci95": [0, 1]}}]
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtractionResults.model_validate(content(**changes))


def test_the_spelling_of_version_0_1_is_read() -> None:
    old = content()
    del old["defense"]
    assert ExtractionResults.model_validate(old | {"defence": DEFENSE}).defense is not None
