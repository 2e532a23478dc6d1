"""The results schema: what it keeps, what it refuses, and how it is written."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from reporting.conftest import counted, make_results

from robustml.errors import RequestError, RunFailed
from robustml.results import Rate, Results, problem_of, rate, read_card, read_results, write_results

MINIMAL = ("schema", "command", "experiment", "seed", "data", "model", "threat", "clean_accuracy")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # 8/10: the textbook example; 0/10 and 10/10: z^2 / (n + z^2) in closed form, with z = 1.959964.
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    found = rate(successes, n)
    assert found.value == successes / n
    assert found.ci95 == pytest.approx((low, high), abs=5e-5)


def test_rate_of_nothing_is_unknown() -> None:
    assert rate(0, 0) == Rate(value=None, n=0, ci95=(0.0, 1.0))
    assert float(rate(1, 2)) == 0.5
    assert math.isnan(float(rate(0, 0)))
    assert (f"{rate(9, 10):.0%}", str(rate(9, 10))) == ("90%", "90.0% (95% interval 59.6 to 98.2, n 10)")


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3)])
def test_rate_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.n"):
        rate(successes, n)


def test_every_count_of_a_small_n_is_valid() -> None:
    for n in range(1, 12):
        for successes in range(n + 1):
            low, high = rate(successes, n).ci95
            assert 0 <= low <= successes / n <= high <= 1


VERSION_0_1 = Path(__file__).parent.parent / "fixtures" / "version_0_1"


def held(content: Any, found: Any) -> bool:
    """Whether all of `content` is in `found`, which may name fields that were left out."""
    if isinstance(content, dict):
        return all(key in found and held(value, found[key]) for key, value in content.items())
    if isinstance(content, list):
        return len(content) == len(found) and all(map(held, content, found))
    return bool(content == found)


def test_round_trip(tmp_path: Path) -> None:
    results = make_results(flags=2)
    write_results(Results.model_validate(results), tmp_path / "results.json")
    again = read_results(tmp_path / "results.json")
    assert held(results, json.loads((tmp_path / "results.json").read_text()))
    write_results(again, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "results.json").read_bytes()
    assert read_results(tmp_path) == again


@pytest.mark.parametrize(
    "path", sorted(VERSION_0_1.rglob("results.json")), ids=lambda path: str(path.parent.relative_to(VERSION_0_1))
)
def test_what_version_0_1_wrote_is_read_and_kept(path: Path, tmp_path: Path) -> None:
    write_results(read_results(path), tmp_path / "results.json")
    written = json.loads(path.read_text())
    if (extraction := written["extraction"]) is not None:
        extraction["defense"] = extraction.pop("defence")
    assert held(written, json.loads((tmp_path / "results.json").read_text()))


def test_a_card_of_version_0_1_is_read() -> None:
    assert read_card(VERSION_0_1 / "clean").clean_accuracy.accuracy.n == 40


def test_minimal_results() -> None:
    found = Results.model_validate({key: value for key, value in make_results().items() if key in MINIMAL})
    assert (found.attacks, found.worst_case, found.curve) == ({}, None, None)


@pytest.mark.parametrize(("norm", "name"), [(float("inf"), "inf"), (2, "2"), (1.0, "1"), ("patch", "patch")])
def test_norm_given_as_a_number(norm: object, name: str) -> None:
    results = make_results()
    results["threat"]["norm"] = norm
    assert Results.model_validate(results).threat.norm == name


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(results: dict[str, Any]) -> None:
        part: Any = results
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema", to=2), "schema must be 1, got 2"),
        (_set("schema", to=None), "schema must be 1, got None"),
        (_set("schema", to=True), "schema must be 1, got True"),
        (_set("clean_accuracy", to={"value": 0.5, "n": 360, "ci95": [0.6, 0.9]}), "outside its ci95"),
        (_set("clean_accuracy", to={"value": 0.5, "n": 360, "ci95": [0.9, 0.1]}), r"ci95 must be \[low, high\]"),
        (_set("clean_accuracy", to={"value": 1.5, "n": 360, "ci95": [0.6, 0.9]}), "clean_accuracy.value"),
        (_set("clean_accuracy", to={"value": None, "n": 360, "ci95": [0, 1]}), "exactly when n is 0"),
        (_set("clean_accuracy", to={"value": 0.5, "n": 0, "ci95": [0, 1]}), "exactly when n is 0"),
        (_set("clean_accuracy", "value", to=float("nan")), "clean_accuracy.value: .* finite number"),
        (_set("attacks", "pgd", "params", "alpha", to=float("inf")), "attacks.pgd.params: .* JSON"),
        (_set("attacks", "pgd", "params", "model", to=object()), "attacks.pgd.params: .* JSON"),
        (_set("novelty", to=1), "novelty: no such field"),
        (_set("attacks", "pgd", "queries", to=7), "attacks.pgd.queries: no such field"),
        (_set("attacks", "pgd", "max_norm", to=-1.0), "attacks.pgd.max_norm"),
        (_set("attacks", "pgd", "robust_accuracy", to=counted(360, 360)), "attacks.pgd has accuracy 1, above"),
        (_set("attacks", "pgd", "robust_accuracy", to=counted(1, 100)), "attacks.pgd has n 100"),
        (_set("attacks", "pgd", "robust_accuracy", to=counted(1, 360)), "worst_case has accuracy .* above"),
        (_set("worst_case", "robust_accuracy", to=counted(300, 300)), "worst_case has n 300"),
        (_set("worst_case", "attacks", to=["fgsm", "cw"]), "names 'cw'"),
        (_set("per_class", 0, "n", to=1), r"per_class\[0\]: n is 1"),
        (_set("per_class", 0, "robust_accuracy", to=counted(1, 1)), r"per_class\[0\] has n 1"),
        (_set("per_class", to=[]), None),
        (lambda results: results["per_class"].pop(), "per_class holds"),
        (_set("curve", "points", 0, "robust_accuracy", to=counted(360, 360)), "curve at eps 0 has accuracy 1"),
        (_set("curve", "points", 0, "robust_accuracy", to=counted(9, 10)), "curve: all points"),
        (_set("cost", "attack_share", to=71.3), "cost.attack_share"),
        (_set("data", to=None), "data"),
    ],
)
def test_refusals(change: Callable[[dict[str, Any]], object], message: str | None) -> None:
    results = copy.deepcopy(make_results())
    change(results)
    if message is None:
        Results.model_validate(results)
        return
    with pytest.raises(ValidationError) as refusal:
        Results.model_validate(results)
    said = problem_of(refusal.value)
    assert re.search(message, said)
    assert "\n" not in said


def test_results_made_without_checks_are_checked_on_writing(tmp_path: Path) -> None:
    results = Results.model_validate(make_results())
    wrong = results.model_copy(update={"clean_accuracy": rate(1, 360)})
    with pytest.raises(RequestError, match="above"):
        write_results(wrong, tmp_path / "results.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ('{"schema": NaN}', "NaN is not a JSON number"), ("[]", "must hold a JSON object, got list")],
)
def test_broken_files(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_results(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read"):
        read_results(tmp_path / "results.json")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_results(Results.model_validate(make_results(seed=1)), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunFailed, match="disk full"):
        write_results(Results.model_validate(make_results(seed=2)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_importing_the_schema_is_light() -> None:
    heavy = "{'torch', 'pandas', 'matplotlib', 'scipy', 'hydra', 'omegaconf', 'numpy'}"
    code = f"import sys, robustml.results; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
