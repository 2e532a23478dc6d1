from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from robustml.reporting import read_run, write_report
from robustml.reporting.health import health_curves, health_sentence
from robustml.reporting.story import selection_lines, selection_sentence
from robustml.results import Results, read_results, write_results
from robustml.workflows.measuring.training_flags import collapse_flags

MakeRun = Callable[..., Path]

TABLE = """epoch,step,clean_accuracy,fgsm_accuracy,pgd_accuracy,gradient_alignment,constant_accuracy,healthy,action
0,100,0.7,0.5,0.45,0.95,0.1,1,
0,200,0.8,0.6,0.5,0.9,0.1,1,
1,300,0.9,0.9,0.03,,0.1,0,{first}
1,400,0.95,0.95,0.01,0.1,0.1,0,{second}
"""


def health(folder: Path, first: str, second: str) -> None:
    (folder / "health.csv").write_text(TABLE.format(first=first, second=second))


def test_the_report_draws_the_health_of_a_training_and_says_what_was_done(make_run: MakeRun) -> None:
    folder = make_run()
    without = write_report([folder], folder / "without.html").read_text()
    health(folder, "rollback", "stop")
    page = write_report([folder], folder / "with.html").read_text()
    drawn = "Accuracy under FGSM and under PGD, and gradient alignment"
    assert drawn in page
    assert drawn not in without
    assert "the first was at step 300, and training was rolled back 1 time, stopped 1 time." in page
    table = read_run(folder).health
    assert table is not None
    assert len(table) == 4
    assert health_curves(table).count("<svg") == 1
    assert "there was none" in health_sentence(table.assign(action=""))


def test_a_table_of_another_make_is_passed_over(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "health.csv").write_text("step,pulse\n1,60\n")
    assert read_run(folder).health is None
    assert isinstance(read_run(folder).metrics, pd.DataFrame)


def test_results_are_flagged_where_a_collapse_was_only_warned_of(tmp_path: Path) -> None:
    assert collapse_flags(tmp_path / "health.csv") == []
    health(tmp_path, "rollback", "stop")
    assert collapse_flags(tmp_path / "health.csv") == []
    health(tmp_path, "warn", "")
    assert collapse_flags(tmp_path / "health.csv") == []  # it recovered
    health(tmp_path, "warn", "warn")
    (flag,) = collapse_flags(tmp_path / "health.csv")
    assert flag.name == "catastrophic_overfitting"
    assert "at step 300 (epoch 2) of training, 90.0% of a training batch withstood FGSM and 3.0% a short PGD" in (
        flag.message
    )


def test_best_and_last_are_told_and_robust_overfitting_is_named(make_run: MakeRun) -> None:
    folder = make_run()
    results = read_results(folder)
    assert selection_lines(results) == [
        "best epoch 22: clean 97.2%, adversarial 90.6% on the validation split",
        "last epoch 30: clean 98.3%, adversarial 86.1% on the validation split",
        selection_sentence(results),
    ]
    assert "4.5 points of adversarial validation accuracy were lost again." in selection_sentence(results)
    content = json.loads((folder / "results.json").read_text())
    content["selection"]["best"]["train_adversarial_accuracy"] = 0.93
    content["selection"]["last"]["train_adversarial_accuracy"] = 0.99
    write_results(Results.model_validate(content), folder / "results.json")
    sentence = selection_sentence(read_results(folder))
    assert sentence.endswith("were lost again while that of training rose by 6.0: robust overfitting.")
    content["selection"]["last"] |= {"epoch": 22, "step": 220}
    write_results(Results.model_validate(content), folder / "results.json")
    assert selection_lines(read_results(folder))[0].startswith("best and last epoch 22: clean 97.2%")
    assert len(selection_lines(read_results(folder))) == 1
    content["selection"]["best"]["step"] = 215  # validated in the middle of that epoch, too
    write_results(Results.model_validate(content), folder / "results.json")
    assert selection_lines(read_results(folder))[0].startswith("best epoch 22, step 215: clean 97.2%")


def test_older_results_are_counted_from_1(make_run: MakeRun) -> None:
    folder = make_run()
    content = json.loads((folder / "results.json").read_text())
    content["selection"]["best"] = {"epoch": 0, "clean_accuracy": 0.972}
    write_results(Results.model_validate(content), folder / "results.json")
    for _ in range(2):  # and not once more when they are written again
        best = read_results(folder).selection.best
        assert (best.epoch, best.step) == (1, 0)
        content["selection"]["best"] = best.model_dump()
        write_results(Results.model_validate(content), folder / "results.json")


def test_the_page_tells_passes_a_sample_and_what_a_robust_point_costs(make_run: MakeRun) -> None:
    folder = make_run()
    content = json.loads((folder / "results.json").read_text())
    content["cost"] |= {
        "forward_passes": 1100,
        "backward_passes": 900,
        "passes_per_sample": 20.0,
        "seconds_per_robust_point": 3.5,
        "passes_per_robust_point": 1234.0,
    }
    write_results(Results.model_validate(content), folder / "results.json")
    page = write_report([folder], folder / "report.html").read_text()
    assert "11 forward, 9 backward" in page
    assert "3.5 s, 1,234 passes" in page
