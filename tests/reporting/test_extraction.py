"""The extraction block: what it refuses, and how it reads in a terminal and on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from robustml.reporting import write_report
from robustml.reporting.formats import NOTHING
from robustml.reporting.tables.extraction import extraction_text
from robustml.results import ExtractionResults, rate

from .conftest import MakeRun, make_results
from .markup import read_page


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
SAID = {
    "fidelity of the copy": ("90.0", "1,000 of 2,000 queries, against Rounding"),
    "undefended: fidelity": ("97.0", "2,000 queries"),
    "honest users: accuracy": ("94.0", "-1.0 points; probabilities moved by 0.25 (L1)"),
    "defense Rounding": ("", "digits 2"),
    "alarm over the attacker": ("", "after 321 queries"),
    "false alarm over honest users": ("", "after 77 queries"),
    "transfer success": (NOTHING, "adversarial examples made on the copy"),
}


def test_terminal_and_page_say_what_was_measured(make_run: MakeRun, tmp_path: Path) -> None:
    text = extraction_text(ExtractionResults.model_validate(content(defense=DEFENSE)), 120)
    results = make_results() | {"extraction": content(defense=DEFENSE)}
    page = read_page(write_report([make_run(full=False, results=results)], tmp_path / "page.html"))
    rows = page.table("Model extraction")
    for name, (share, remark) in SAID.items():
        assert re.search(rf"^{re.escape(name)} +{share}.*{re.escape(remark)}$", text, re.MULTILINE), (name, text)
        assert rows[name]["share, 95% interval"].startswith(share)
        assert rows[name][""] == remark
    assert re.search(r"^fidelity from 50 queries +60\.0.*accuracy 55\.0%$", text, re.MULTILINE)
    assert "strategy <random>" in page.text
    assert "queries answered" in page.text  # the curve
    assert max(map(len, extraction_text(ExtractionResults.model_validate(content()), 80).splitlines())) <= 80


def test_without_a_defense_nothing_is_said_of_one() -> None:
    text = extraction_text(ExtractionResults.model_validate(content(curve=[])))
    assert "honest" not in text
    assert "fidelity from" not in text


@pytest.mark.parametrize(
    "changes", [{"queries": 2001}, {"fidelity": 0.9}, {"fidelity": {"value": 2, "n": 1, "ci95": [0, 1]}}]
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtractionResults.model_validate(content(**changes))
