"""Runs ranked by worst-case accuracy, each contest by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustml.reporting.formats import NOTHING
from robustml.reporting.leaderboard import leaderboard_frame, leaderboard_table, write_leaderboard
from robustml.reporting.runs import Run, read_run

from .conftest import MakeRun, counted, make_results


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
    frame = leaderboard_frame(ranked)
    rows = frame[["run", "rank", "norm", "worst_case"]].itertuples(index=False)
    assert [(name, None if pd.isna(rank) else rank, norm) for name, rank, norm, _ in rows] == [
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


def test_the_text(ranked: list[Run]) -> None:
    lines = leaderboard_table(leaderboard_frame(ranked)).splitlines()
    assert lines[0] == "digits, L2 eps 0.5, 100 images"
    start = lines.index("digits, L∞ eps 8/255, 100 images")
    assert lines[start + 1].split() == [
        "rank",
        "run",
        "model",
        "parameters",
        "clean",
        "robust",
        "attacks",
        "flags",
        "verdict",
    ]
    assert lines[start + 3].split() == [
        "1", "first", "small_cnn", "121,834", "95.0", "60.0", "[50.2,", "69.1]", "fgsm", "pgd", "autoattack", "none",
        "withstands", "what", "was", "tried",
    ]  # fmt: skip
    assert lines[start + 5].split()[:2] == ["2", "level"]
    assert lines[start + 5].split()[-4:] == ["1", "weak", "under", "attack"]
    assert lines[start + 6].split() == [
        NOTHING, "clean_only", "small_cnn", "121,834", "95.0", NOTHING, "none", "none", "not", "attacked",
    ]  # fmt: skip


def test_the_files(ranked: list[Run], tmp_path: Path) -> None:
    frame = write_leaderboard(ranked, tmp_path / "out")
    read = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert list(read["run"]) == list(frame["run"])
    assert read["worst_case"].tolist()[:2] == [0.1, 0.6]
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert page.count("class=leads") == 2
    assert "<script" not in page
    assert "[50.2, 69.1]" in page


def test_a_hostile_name_neither_repaints_the_terminal_nor_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run(full=False, experiment="<b>red\x1b[31m"))
    assert "\x1b" not in leaderboard_table(write_leaderboard([run], tmp_path))
    assert "<b>" not in (tmp_path / "leaderboard.html").read_text()
