"""The release gate: conditions against fabricated results, and the doubts that count against a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustml.errors import RequestError
from robustml.reporting.evaluations import Source, evaluations_of
from robustml.reporting.gate import Condition, Judgement, judge, parse_condition
from robustml.results import Results

from .conftest import MakeRun, counted, make_results

EPS = 8 / 255


def fabricated(**changes: Any) -> dict[str, Any]:
    """100 images: 90 right, 70 under FGSM, 60 under PGD, 58 in the worst case, of the worst class 20 of 50."""
    results = make_results(n=100, eps=EPS)
    results["clean_accuracy"] = counted(90, 100)
    for name, right in (("fgsm", 70), ("pgd", 60), ("autoattack", 60)):
        results["attacks"][name]["robust_accuracy"] = counted(right, 100)
    results["worst_case"]["robust_accuracy"] = counted(58, 100)
    results["per_class"] = [
        {"label": 0, "name": "cat", "n": 50, "clean_accuracy": counted(40, 50), "robust_accuracy": counted(38, 50)},
        {"label": 1, "name": "dog", "n": 50, "clean_accuracy": counted(50, 50), "robust_accuracy": counted(20, 50)},
    ]
    points = [(0.0, 45), (EPS, 35), (2 * EPS, 10)]
    results["curve"] = {
        "attack": "pgd",
        "points": [{"eps": eps, "robust_accuracy": counted(right, 50)} for eps, right in points],
    }
    return results | changes


CORRUPTIONS = {
    "accuracy": {
        "fog": [{"severity": 1, "accuracy": counted(80, 100)}],
        "snow": [{"severity": 1, "accuracy": counted(60, 100)}],
    },
    "mean_accuracy": 0.7,
    "mean_corruption_error": 0.3,
}
CERTIFIED = {
    "method": "interval bounds",
    "norm": "inf",
    "eps": EPS,
    "accuracy": counted(90, 100),
    "certified_accuracy": counted(40, 100),
    "radii": [{"radius": 2 * EPS, "certified_accuracy": counted(5, 100)}],
    "acr": 0.01,
    "seconds": 1.0,
}


def source(results: dict[str, Any], name: str = "results.json") -> Source:
    return Source(name, Results.model_validate(results))


def gate(text: str, *results: dict[str, Any], lower_bound: bool = False) -> Judgement:
    sources = [source(one, f"{place}.json") for place, one in enumerate(results or (fabricated(),))]
    return judge(parse_condition(text), sources, lower_bound=lower_bound)


@pytest.mark.parametrize(
    ("text", "passed", "value"),
    [
        ("clean_accuracy>=0.9", True, 0.9),
        ("clean_accuracy>0.9", False, 0.9),
        ("clean_accuracy==0.9", True, 0.9),
        ("clean_accuracy<=0.9", True, 0.9),
        ("clean_accuracy<0.9", False, 0.9),
        (" robust_accuracy >= 58/100 ", True, 0.58),
        ("robust_accuracy>=0.59", False, 0.58),
        ("robust_accuracy:pgd>=0.6", True, 0.6),
        ("robust_accuracy:fgsm>=0.71", False, 0.7),
        # At the threat's own eps the figures count, not the curve, which is of one attack on half of the images.
        ("robust_accuracy@8/255>=0.58", True, 0.58),
        ("robust_accuracy@8/255:pgd>=0.6", True, 0.6),
        ("robust_accuracy:pgd@8/255>=0.6", True, 0.6),
        (f"robust_accuracy@{EPS * (1 + 1e-11)!r}>=0.58", True, 0.58),
        ("robust_accuracy@0.0314>=0.1", False, None),
        ("robust_accuracy@16/255>=0.2", True, 0.2),
        ("robust_accuracy@16/255:pgd>=0.21", False, 0.2),
        ("robust_accuracy@16/255:fgsm>=0.1", False, None),
        ("robust_accuracy@0>=0.9", True, 0.9),
        ("robust_accuracy:cw>=0.1", False, None),
        ("worst_class_accuracy>=0.8", True, 0.8),
        ("worst_class_robust_accuracy>=0.4", True, 0.4),
        ("worst_class_robust_accuracy@8/255>0.4", False, 0.4),
        ("worst_class_robust_accuracy@4/255>=0.1", False, None),
        ("certified_accuracy>=0.1", False, None),
        ("corruption_accuracy>=0.1", False, None),
        ("attack_success_rate<=0.9", False, None),
    ],
)
def test_conditions(text: str, passed: bool, value: float | None) -> None:
    verdict = gate(text)
    assert (verdict.passed, verdict.value) == (passed, None if value is None else pytest.approx(value))
    assert str(verdict).startswith("pass " if passed else "FAIL ")


@pytest.mark.parametrize(
    ("text", "passed", "value"),
    [
        ("certified_accuracy>=0.4", True, 0.4),
        ("certified_accuracy@16/255>=0.05", True, 0.05),
        ("certified_accuracy@4/255>=0.05", False, None),
        ("corruption_accuracy>=0.7", True, 0.7),
        ("attack_success_rate<=0.05", True, 0.04),
        ("attack_success_rate<=0.03", False, 0.04),
    ],
)
def test_figures_that_other_commands_add(text: str, passed: bool, value: float | None) -> None:
    backdoor = {"attack_success_rate": {"value": 0.04, "n": 500, "ci95": [0.026, 0.061]}}
    verdict = gate(text, fabricated(certified=CERTIFIED, corruptions=CORRUPTIONS, backdoor=backdoor))
    assert (verdict.passed, verdict.value) == (passed, None if value is None else pytest.approx(value))


def test_a_certificate_in_another_norm_is_none() -> None:
    other = CERTIFIED | {"norm": "2"}
    assert gate("certified_accuracy>=0.1", fabricated(certified=other)).value is None


def test_the_source_is_named() -> None:
    assert "worst case of fgsm, pgd, autoattack, n 100, 0.json" in str(gate("robust_accuracy>=0.5"))
    assert "curve of pgd, n 50, 0.json" in str(gate("robust_accuracy@16/255>=0.1"))
    assert "class dog" in str(gate("worst_class_robust_accuracy>=0.1"))
    assert str(gate("robust_accuracy@8/255>=0.5")).startswith("pass robust_accuracy@0.0313725>=0.5 0.58 (")
    missing = str(gate("robust_accuracy@0.0314>=0.1"))
    assert missing == "FAIL robust_accuracy@0.0314>=0.1 missing (no such figure at L∞ eps 0.0314 in 0.json)"


def test_of_several_evaluations_the_worst_counts() -> None:
    weaker, stronger = fabricated(), fabricated(per_class=[])
    stronger["worst_case"] = stronger["worst_case"] | {"robust_accuracy": counted(41, 100)}
    for both in ((weaker, stronger), (stronger, weaker)):
        assert gate("robust_accuracy>=0.41", *both).passed
        failed = gate("robust_accuracy>=0.5", *both)
        assert (failed.passed, failed.value) == (False, 0.41)
        assert f"{both.index(stronger)}.json" in failed.reason
        # And the highest, where a low figure is what the condition asks for.
        assert not gate("robust_accuracy<=0.5", *both).passed
        assert not gate("robust_accuracy==0.58", *both).passed


def test_an_evaluation_in_another_norm_or_at_another_eps_says_nothing() -> None:
    other_eps, other_norm = fabricated(per_class=[]), fabricated(per_class=[])
    other_eps["threat"] = {"norm": "inf", "eps": 0.5}
    other_norm["threat"] = {"norm": "2", "eps": EPS}
    for other in (other_eps, other_norm):
        other["worst_case"] = other["worst_case"] | {"robust_accuracy": counted(1, 100)}
        other["curve"] = None
        assert gate("robust_accuracy>=0.58", fabricated(), other).passed
        assert gate("robust_accuracy@8/255>=0.58", fabricated(), other).passed
    assert gate("robust_accuracy@0.5>=0.02", fabricated(), other_eps).value == 0.01
    assert gate("robust_accuracy@0.5>=0.02", fabricated(), other_norm).value is None


def test_the_interval_counts_where_it_is_asked_for() -> None:
    # Wilson by hand: 58 of 100 is [0.482, 0.672]; 90 of 100 is [0.826, 0.945].
    assert gate("robust_accuracy>=0.48", lower_bound=True).passed
    failed = gate("robust_accuracy>=0.49", lower_bound=True)
    assert (failed.passed, failed.value) == (False, 0.58)
    assert "95% bound 0.482" in failed.reason
    assert gate("clean_accuracy<0.95", lower_bound=True).passed
    assert not gate("clean_accuracy<0.94", lower_bound=True).passed
    assert gate("clean_accuracy==0.9", lower_bound=True).passed
    assert not gate(
        "attack_success_rate<=0.5",
        fabricated(backdoor={"attack_success_rate": counted(1, 3)}),
        lower_bound=True,
    ).passed
    # (0.711 + 0.502) / 2
    corrupted = fabricated(corruptions=CORRUPTIONS)
    assert gate("corruption_accuracy>=0.6", corrupted, lower_bound=True).passed
    assert not gate("corruption_accuracy>=0.61", corrupted, lower_bound=True).passed


def test_an_evaluation_that_is_not_complete_meets_no_lower_limit() -> None:
    partial = fabricated(complete=False)
    for text in ("robust_accuracy>=0.1", "clean_accuracy>0.1", "clean_accuracy==0.9"):
        verdict = gate(text, partial)
        assert not verdict.passed
        assert "not complete" in verdict.reason
    # Its figures can only fall: what is too low already stays so, and an upper limit that is met stays met.
    assert gate("robust_accuracy>=0.7", partial).value == 0.58
    assert gate("robust_accuracy<=0.58", partial).passed
    # Beside a complete one it cannot help, and can harm.
    assert gate("robust_accuracy>=0.58", fabricated(), partial).passed
    partial |= {"worst_case": partial["worst_case"] | {"robust_accuracy": counted(30, 100)}, "per_class": []}
    assert not gate("robust_accuracy>=0.58", fabricated(), partial).passed


def test_without_attacks_there_is_no_robust_accuracy() -> None:
    clean = fabricated(attacks={}, curve=None, per_class=[])
    clean["worst_case"] = {"robust_accuracy": counted(90, 100), "attacks": []}
    assert gate("robust_accuracy>=0.1", clean).value is None
    assert gate("worst_class_robust_accuracy>=0.1", clean).value is None
    assert gate("clean_accuracy>=0.9", clean).passed


def test_no_images_are_a_missing_figure(make_run: MakeRun) -> None:
    assert gate("clean_accuracy>=0", make_results(n=0)).value is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("robust_acuracy>=0.5", "did you mean 'robust_accuracy'"),
        ("robust_accuracy", "robust_accuracy@8/255:pgd>=0.45"),
        ("robust_accuracy=>0.5", "cannot read"),
        ("robust_accuracy=0.5", "=="),
        ("robust_accuracy>=", "cannot read"),
        ("robust_accuracy>=45", "did you mean 0.45"),
        ("robust_accuracy>=-1", r"\[0, 1\]"),
        ("robust_accuracy>=nan", r"\[0, 1\]"),
        ("robust_accuracy@8/0>=0.5", "8/0"),
        ("robust_accuracy@-1>=0.5", "'-1'"),
        ("clean_accuracy@8/255>=0.5", "neither @<eps> nor"),
        ("worst_class_robust_accuracy:pgd>=0.5", "takes one @<eps>"),
        ("robust_accuracy@1@2>=0.5", "one @<eps> and one"),
        ("robust_accuracy:a:b>=0.5", "one :<attack>"),
        ("", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(RequestError, match=hint):
        parse_condition(text)


def test_a_condition_is_printed_as_it_was_understood() -> None:
    assert parse_condition("robust_accuracy@8/255:pgd >= 9/20") == Condition("robust_accuracy", ">=", 0.45, EPS, "pgd")
    assert str(parse_condition("robust_accuracy@8/255:pgd >= 9/20")) == "robust_accuracy@0.0313725:pgd>=0.45"


def test_evaluations_of_the_same_weights_and_data_count(make_run: MakeRun) -> None:
    run = make_run("run", full=False, results=fabricated())

    def evaluation(name: str, **changes: Any) -> None:
        folder = run / "evaluations" / name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(fabricated(**changes)))

    evaluation("same")
    evaluation("last", model=fabricated()["model"] | {"sha256": "another"})
    evaluation("elsewhere", data=fabricated()["data"] | {"fingerprint": "another"})
    (run / "evaluations" / "unfinished").mkdir()
    sources, left_out, broken = evaluations_of(run)
    assert [one.name for one in sources] == ["results.json", "evaluations/same/results.json"]
    assert left_out == [
        "evaluations/elsewhere/results.json: other data",
        "evaluations/last/results.json: other weights (which=last?)",
    ]
    assert broken == []


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"results\.json"):
        evaluations_of(tmp_path)
