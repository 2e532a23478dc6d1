"""A multirun folder as a table and a page."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pandas as pd
import pytest

from robustml.errors import RequestError
from robustml.reporting.sweep import collect_sweep

from .conftest import MakeRun
from .test_html import checked


@pytest.fixture
def sweep(make_run: MakeRun, tmp_path: Path) -> Path:
    """Two objectives at two training budgets; runs 4 and 10 failed."""
    folder = tmp_path / "sweep"
    settings = [("pgd", "4/255", 0.5), ("pgd", "8/255", 0.8), ("trades", "4/255", 0.6), ("trades", "8/255", 0.85)]
    for place, (objective, eps, strength) in enumerate(settings):
        run = make_run(f"sweep/{place}", train_eps=eps, strength=strength)
        with (run / "config.yaml").open("a") as config:
            config.write(f"overrides: [objective={objective}, threat.eps={eps}, +note=x]\n")
    for name in ("4", "10"):
        path = folder / name / "config.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("objective: x\n")
    (folder / "config.yaml").write_text("a: 1\n")
    return folder


def test_csv(sweep: Path) -> None:
    frame = collect_sweep(sweep, ["objective", "objective.beta"])
    written = pd.read_csv(sweep / "sweep.csv", dtype={"run": str})
    columns = ["run", "objective", "objective.beta", "seed", "train_eps", "test_eps", "attack", "source", "n",
               "clean_accuracy", "robust_accuracy", "ci_low", "ci_high"]  # fmt: skip
    assert list(written.columns) == columns
    assert list(frame.columns) == columns
    # For each of 4 runs: 3 attacks, the worst case, 9 points of the curve.
    assert len(written) == 4 * 13
    assert dict(zip(written["run"], written["objective"], strict=True)) == {
        "0": "pgd", "1": "pgd", "2": "trades", "3": "trades",
    }  # fmt: skip
    assert set(written["objective.beta"]) == {6.0}
    results = json.loads((sweep / "3" / "results.json").read_text())
    row = written[(written["run"] == "3") & (written["source"] == "worst_case")].iloc[0]
    rate = results["worst_case"]["robust_accuracy"]
    assert (row["robust_accuracy"], row["n"], row["ci_low"], row["ci_high"]) == pytest.approx(
        (rate["value"], rate["n"], *rate["ci95"])
    )
    assert row["train_eps"] == pytest.approx(8 / 255)
    assert row["clean_accuracy"] == pytest.approx(results["clean_accuracy"]["value"])
    points = written[(written["run"] == "0") & (written["source"] == "curve")]
    assert list(points["test_eps"]) == pytest.approx([k * 2 / 255 for k in range(9)])


def test_failed_runs_are_reported(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    (sweep / "0" / "results.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        frame = collect_sweep(sweep)
    assert list(frame.attrs["failed"]) == ["0", "4", "10"]
    assert "left out 10" in caplog.text
    text, _ = checked(sweep / "sweep.html")
    assert "3 runs failed" in text
    assert "3 of 6 runs finished" in text
    assert str(sweep) not in text


def test_page(sweep: Path) -> None:
    collect_sweep(sweep)
    text, page = checked(sweep / "sweep.html")
    # A heat map for each objective, and one chart of curves.
    assert page.tags.count("figure") == 3
    assert "objective=trades" in text
    assert "note" not in text.partition("Swept:")[2].partition("</p>")[0]


def test_requests_that_cannot_be_met(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no run of the sweep has 'objectve'; did you mean 'objective'"):
        collect_sweep(sweep, ["objectve"])
    with pytest.raises(RequestError, match="not a folder"):
        collect_sweep(tmp_path / "absent", ["seed"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no finished run"):
        collect_sweep(tmp_path / "empty", ["seed"])


def test_a_sweep_over_seeds_alone(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(f"multi/{seed}", full=False, seed=seed)
    frame = collect_sweep(tmp_path / "multi", [])
    assert set(frame["seed"]) == {0, 1}
    checked(tmp_path / "multi" / "sweep.html")
