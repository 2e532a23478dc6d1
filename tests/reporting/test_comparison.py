"""Runs against each other: ranked, and as a sweep."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustml.errors import RequestError
from robustml.reporting import Run, read_run, write_sweep
from robustml.reporting.formats import NOTHING
from robustml.reporting.pages.ranking import ranking_frame, ranking_text, write_ranking
from robustml.reporting.tables.cells import Table
from robustml.reporting.tables.text import table_text

from .conftest import MakeRun, counted, make_results
from .markup import read_page


@pytest.fixture
def ranked(make_run: MakeRun) -> list[Run]:
    """Three models at one threat, two of them level; one at another threat; one that nobody attacked."""

    def run(name: str, robust: int, attacks: bool = True, weights: str = "", **settings: Any) -> Run:
        results = make_results(experiment=name, n=100, **settings)
        results["model"]["sha256"] = weights or name
        results["per_class"], results["curve"] = [], None
        results["clean_accuracy"] = counted(95, 100)
        for attack in results["attacks"].values():
            attack["robust_accuracy"] = counted(max(robust, 90), 100)
        results["worst_case"]["robust_accuracy"] = counted(robust, 100)
        if not attacks:
            results["attacks"], results["worst_case"]["attacks"] = {}, []
        return read_run(make_run(name, full=False, results=results))

    return [
        run("second", 40),
        run("clean_only", 95, attacks=False),
        run("first", 60),
        run("another_norm", 10, norm="2", eps=0.5),
        run("level", 40, flags=1),
        # The same weights as the first, attacked less.
        run("weak_evaluation", 80, weights="first"),
    ]


def test_the_ranking(ranked: list[Run]) -> None:
    frame = ranking_frame(ranked)
    rows = frame[["run", "rank", "norm"]].itertuples(index=False)
    assert [(name, None if pd.isna(rank) else rank, norm) for name, rank, norm in rows] == [
        ("another_norm", 1, "2"),
        ("first", 1, "inf"),
        ("second", 2, "inf"),
        ("level", 2, "inf"),
        ("clean_only", None, "inf"),
    ]
    first = frame[frame["run"] == "first"].iloc[0]
    # Wilson by hand: 60 of 100 is [0.502, 0.691].
    assert (first["worst_case_low"], first["worst_case_high"]) == pytest.approx((0.502, 0.691), abs=5e-4)
    assert (first["parameters"], first["attacks"], first["n"]) == (121834, "fgsm pgd autoattack", 100)


def test_a_notebook_gets_the_same_text(ranked: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ranking_text(ranked)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert ranking_text(ranked) == expected


def test_terminal_page_and_csv_of_a_ranking_say_the_same(ranked: list[Run], tmp_path: Path) -> None:
    frame = write_ranking(ranked, tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out" / "leaderboard.csv")["run"]) == list(frame["run"])
    page = read_page(tmp_path / "out" / "leaderboard.html")
    assert page.headings[1:] == ["Ranking"]
    rows = page.table("Ranking")
    assert rows["another_norm"]["within"] == "digits, L2 eps 0.5, 100 images"
    assert {name for name, row in rows.items() if row["within"] == "digits, L∞ eps 8/255, 100 images"} == {
        "first", "second", "level", "clean_only"
    }  # fmt: skip
    text = ranking_text(ranked, tmp_path / "out", 200)
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    for name, rank, worst, flags, verdict in (
        ("first", "1", "60.0", "none", "withstands what was tried"),
        ("level", "2", "40.0", "1", "weak under attack"),
        ("clean_only", NOTHING, NOTHING, "none", "not attacked"),
    ):
        row = rows[name]
        assert (row["rank"], row["flags"], row["verdict"]) == (rank, flags, verdict)
        assert row["worst case"].startswith(worst)
        assert lines[name][1] == rank
        assert worst in lines[name]
        assert " ".join(verdict.split()) in " ".join(lines[name])
    assert (tmp_path / "out" / "leaderboard.html").read_text().count('class="leads"') == 1


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


def test_a_sweep_as_csv(sweep: Path) -> None:
    frame = write_sweep(sweep, ["objective", "objective.beta"])
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


def test_the_page_of_a_sweep(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    (sweep / "0" / "results.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        frame = write_sweep(sweep)
    assert list(frame.attrs["failed"]) == ["0", "4", "10"]
    assert "left out 10" in caplog.text
    page = read_page(sweep / "sweep.html")
    assert "3 runs failed" in page.text
    assert "3 of 6 runs finished. Swept: objective, threat.eps." in page.text  # and not the note, which is the same
    assert str(sweep) not in page.text
    # A heat map for each objective, and one chart of curves.
    assert page.tags.count("figure") == 3
    row = page.table("Runs")["objective"]
    assert row == {"1": "pgd", "2": "trades", "3": "trades"}


def test_a_sweep_of_backdoors(make_run: MakeRun, tmp_path: Path) -> None:
    for place, (rate, right) in enumerate(((0.01, 20), (0.05, 80))):
        results = make_results()
        beside = {"clean_accuracy": counted(330, 360), "attack_success_rate": counted(2, 90)}
        results["backdoor"] = {
            "kind": "badnets",
            "rate": rate,
            "attack_success_rate": counted(right, 90),
            "twin": beside,
        }
        run = make_run(f"multi/{place}", results=results)
        (run / "config.yaml").write_text(f"overrides: [poison.rate={rate}]\n")
    write_sweep(tmp_path / "multi")
    page = read_page(tmp_path / "multi" / "sweep.html")
    rows = page.table("Backdoors")
    assert rows["success"]["1"].startswith("88.9%")
    assert rows["twin, success"]["0"].startswith("2.2%")
    assert "share of the training set that is poisoned" in page.text
    written = pd.read_csv(tmp_path / "multi" / "backdoor.csv")
    assert written["attack_success_rate"].tolist() == pytest.approx([20 / 90, 80 / 90])
    assert written["poisoned"].tolist() == [0.01, 0.05]


def test_requests_that_cannot_be_met(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no run of the sweep has 'objectve'; did you mean 'objective'"):
        write_sweep(sweep, ["objectve"])
    with pytest.raises(RequestError, match="not a folder"):
        write_sweep(tmp_path / "absent", ["seed"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no finished run"):
        write_sweep(tmp_path / "empty", ["seed"])


def test_a_sweep_over_seeds_alone(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(f"multi/{seed}", full=False, seed=seed)
    frame = write_sweep(tmp_path / "multi", [])
    assert set(frame["seed"]) == {0, 1}
    assert read_page(tmp_path / "multi" / "sweep.html").table("Runs")["seed"] == {"0": "0", "1": "1"}


def test_long_names_are_listed_once_and_stand_in_the_table_by_number() -> None:
    names = [f"a_run_with_a_long_name_{number}/evaluations/2026-11-28_07-24-38-033856" for number in range(1, 10)]
    table = Table(["run", *"abcdefgh"], [[name, *[f"{place}0.00 of it" for place in range(8)]] for name in names])
    lines = table_text(table, 80).split("\n")
    assert lines[:10] == [*(f"{number}  {name}" for number, name in enumerate(names, start=1)), ""]
    assert max(map(len, lines)) <= 80
    figures = [line.split(maxsplit=1) for line in lines if "0.00 of it" in line]
    assert [first for first, _ in figures] == [*"123456789"] * (len(figures) // 9)
    assert (
        " ".join(rest for first, rest in figures if first == "2").split()
        == " ".join(map(str, table.rows[1][1:])).split()
    )
