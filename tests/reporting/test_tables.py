"""The summary in the terminal and as a frame."""

from __future__ import annotations

import pytest

from robustml.reporting.formats import NOTHING, eps_text, eps_texts, parse_eps, percent, seconds_text
from robustml.reporting.runs import read_run
from robustml.reporting.tables import summary_frame, summary_table

from .conftest import MakeRun, counted, make_results


def test_the_table_says_what_the_numbers_are(make_run: MakeRun) -> None:
    results = make_results(n=100)
    results["per_class"], results["curve"] = [], None
    results["clean_accuracy"] = counted(98, 100)
    for name, right in (("fgsm", 90), ("pgd", 80), ("autoattack", 80)):
        results["attacks"][name]["robust_accuracy"] = counted(right, 100)
    results["worst_case"]["robust_accuracy"] = counted(79, 100)
    table = summary_table([read_run(make_run(full=False, results=results))])
    lines = table.splitlines()
    assert lines[0].split() == ["run", "clean", "fgsm", "pgd", "autoattack", "worst", "case"]
    # Wilson by hand: 98/100 is [0.930, 0.994], 90/100 is [0.826, 0.945], 80/100 is [0.711, 0.867].
    assert lines[2].split() == [
        "trades_linf", "98.0", "±3.2", "90.0", "±6.0", "80.0", "±7.8", "80.0", "±7.8", "79.0", "±7.9",
    ]  # fmt: skip
    assert "n 100 · L∞ eps 8/255" in lines[-1]
    assert "\x1b" not in table


def test_rows_fit_the_terminal(make_run: MakeRun) -> None:
    runs = [read_run(make_run(str(k), full=False, experiment=f"an_experiment_{k}" * k, flags=2)) for k in (1, 2, 3)]
    for width in (60, 100):
        table = summary_table(runs, width)
        assert max(map(len, table.splitlines())) <= width
        for attack in ("fgsm", "pgd", "autoattack", "worst case", "! an_experiment_1: gradient_masking (pgd)"):
            assert attack in table


def test_control_codes_do_not_reach_the_terminal(make_run: MakeRun) -> None:
    table = summary_table([read_run(make_run(full=False, experiment="red\x1b[31m\nalert"))])
    assert "\x1b" not in table
    assert "red alert" in table


def test_no_runs_and_no_examples(make_run: MakeRun) -> None:
    assert summary_table([]) == "no runs"
    assert NOTHING in summary_table([read_run(make_run(full=False, n=0))])


def test_different_threats_and_attacks_have_their_own_columns(make_run: MakeRun) -> None:
    other = make_results(experiment="l2", norm="2", eps=0.5)
    del other["attacks"]["fgsm"]
    other["worst_case"]["attacks"] = ["pgd", "autoattack"]
    runs = [read_run(make_run("a", full=False)), read_run(make_run("b", full=False, results=other))]
    table = summary_table(runs)
    assert "L2 eps 0.5" in table
    assert "L∞ eps 8/255" in table
    frame = summary_frame(runs)
    assert list(frame["norm"]) == ["inf", "2"]
    assert frame["robust_accuracy/fgsm"].isna().tolist() == [False, True]
    assert frame.loc[0, "clean_accuracy"] == runs[0].results.clean_accuracy.value


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0, 2 / 255, 8 / 255], ["0", "2/255", "8/255"]),
        ([0, 0.1, 0.3], ["0", "0.1", "0.3"]),
        ([0.2], ["0.2"]),
        ([0, 128 / 255], ["0", "0.502"]),
        ([0.0313725], ["8/255"]),
    ],
)
def test_eps_axis(values: list[float], texts: list[str]) -> None:
    assert eps_texts(values) == texts


def test_formats() -> None:
    assert parse_eps("8/255") == 8 / 255
    assert parse_eps(0.3) == 0.3
    assert [parse_eps(value) for value in ("x", None, "1/0", True, "${threat.eps}")] == [None] * 5
    assert eps_text(8 / 255) == "8/255"
    assert (percent(0.9785), percent(None), percent(float("nan"))) == ("97.9%", NOTHING, NOTHING)
    assert [seconds_text(value) for value in (0.25, 3.21, 45.2, 312.4, 8000.0)] == [
        "0.25 s",
        "3.2 s",
        "45 s",
        "5 min",
        "2 h 13 min",
    ]
