"""The report of one run and of several: self-contained, escaped, and every figure as the results have it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robustml.errors import RequestError
from robustml.reporting import read_run, summary_frame, summary_table, write_report
from robustml.reporting.figures.health import health_sentence
from robustml.reporting.formats import NOTHING, eps_text, eps_texts, parse_eps, percent, seconds_text
from robustml.reporting.sentences import run_sentences, selection_lines, selection_sentence
from robustml.results import Results, read_results, write_results

from .conftest import MakeRun, counted, make_results, write_examples
from .markup import HOSTILE, read_page
from .test_verdict import backdoor, certified, corrupted

HEALTH = """epoch,step,clean_accuracy,fgsm_accuracy,pgd_accuracy,gradient_alignment,constant_accuracy,healthy,action
0,100,0.7,0.5,0.45,0.95,0.1,1,
0,200,0.8,0.6,0.5,0.9,0.1,1,
1,300,0.9,0.9,0.03,,0.1,0,{first}
1,400,0.95,0.95,0.01,0.1,0.1,0,{second}
"""


def test_every_figure_of_the_results_is_on_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    results = make_results(flags=2) | {"certified": certified(60), "corruptions": corrupted(80)}
    results["backdoor"] = backdoor(88, 1)
    results["cost"] |= {"forward_passes": 1100, "backward_passes": 900, "passes_per_sample": 20.0,
                        "seconds_per_robust_point": 3.5, "passes_per_robust_point": 1234.0}  # fmt: skip
    run = make_run(results=results)
    (run / "health.csv").write_text(HEALTH.format(first="rollback", second="stop"))
    path = write_report([run], tmp_path / "report.html")
    page = read_page(path)
    attacks = page.table("Attacks")
    for name, attack in {**results["attacks"], "worst case": results["worst_case"]}.items():
        rate = attack["robust_accuracy"]
        row = next(row for title, row in attacks.items() if title.startswith(name))
        low, high = (100 * bound for bound in rate["ci95"])
        shown = f"{100 * rate['value']:.1f}% {low:.1f} to {high:.1f}"
        assert row["robust accuracy, 95% interval"].startswith(shown)
    classes = page.table("By class")
    for row in results["per_class"]:
        assert classes[row["name"]]["n"] == str(row["n"])
        for column, key in (("clean accuracy", "clean_accuracy"), ("worst-case accuracy", "robust_accuracy")):
            assert classes[row["name"]][column].startswith(f"{100 * row[key]['value']:.1f}%")
    assert page.table("Backdoor")["attack success rate"] == {
        "this model": "97.8% 92.3 to 99.4", "clean twin": "1.1% 0.2 to 6.0",
    }  # fmt: skip
    assert page.table("Common corruptions")["fog"] == {"severity 1": "80.0%", "mean": "80.0%"}
    assert page.table("Certified robustness")["certified at L∞ 8/255"]["accuracy, 95% interval"].startswith("60.0%")
    assert page.table("Training")["last"]["adversarial, validation"] == "86.1%"
    for said in ("gradient masking (pgd): a random search beats the gradient", "2 raised", "beta: 6.0", "3fa9c1d2",
                 "11 forward, 9 backward", "3.5 s, 1,234 passes", "training threat 8/255", "epoch 22",
                 "the first was at step 300, and training was rolled back 1 time, stopped 1 time."):  # fmt: skip
        assert said in page.text, said
    assert str(tmp_path) not in page.text
    assert path.read_text() == write_report([run], tmp_path / "again.html").read_text()


def test_the_minimum_leaves_no_holes(make_run: MakeRun, tmp_path: Path) -> None:
    keep = ("schema", "command", "experiment", "seed", "data", "model", "threat", "clean_accuracy")
    results = {key: value for key, value in make_results().items() if key in keep}
    page = read_page(write_report([make_run(full=False, results=results)], tmp_path))
    assert page.headings == ["trades_linf", "Cost and facts", "Data", "Model", "Run and environment"]
    assert page.tables == []
    assert "It was not attacked" in page.text
    assert "none raised" in page.text
    nothing = read_page(write_report([make_run("none", n=0)], tmp_path / "none.html"))
    assert "nothing can be said" in nothing.text
    assert "nan" not in nothing.text.lower()


def test_several_runs_side_by_side(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("a"), make_run("b", experiment="standard", strength=0.02, flags=1), make_run("c", full=False, n=0)]
    page = read_page(write_report(runs, tmp_path / "report.html", title="Before & after"))
    assert page.headings[0] == "Before & after"
    assert {"run-1", "run-2", "run-3"} <= set(page.ids)
    assert "Sanity checks raised flags for standard" in page.text
    assert str(tmp_path) not in page.text
    compared = page.table("Summary")  # of more figures than runs: a column a run
    worst = read_results(runs[1]).worst_case.robust_accuracy
    assert compared["worst case"]["standard"].startswith(f"{100 * worst.value:.1f}%")
    assert (compared["flags"]["standard"], compared["n"]["trades_linf (c)"]) == ("1", "0")


def test_hostile_names_are_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    results = make_results(classes=(HOSTILE, "b"), experiment=HOSTILE, flags=1)
    results["data"]["name"] = results["model"]["name"] = results["flags"][0]["message"] = HOSTILE
    results["attacks"][HOSTILE] = results["attacks"].pop("pgd")
    results["attacks"][HOSTILE]["params"] = {HOSTILE: [HOSTILE]}
    results["worst_case"]["attacks"] = list(results["attacks"])
    results["curve"]["attack"] = results["selection"]["monitor"] = HOSTILE
    run = make_run(results=results)
    (run / "config.yaml").write_text(f"# {HOSTILE}\n")
    write_examples(run, names=(HOSTILE, "b"))
    for runs in ([run], [run, make_run("b", experiment=HOSTILE)]):
        page = read_page(write_report(runs, tmp_path / "page.html"))
        assert page.headings[-1] != HOSTILE
        assert HOSTILE in page.text


def test_missing_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least one"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(RequestError, match="absent is not a run directory"):
        write_report([tmp_path / "absent"], tmp_path / "report.html")


def test_examples_that_are_no_images(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    write_examples(run, shape=(20,))
    page = read_page(write_report([run], tmp_path / "report.html"))
    assert next(iter(page.table("Examples under attack").values())).keys() == {
        "prediction", "prediction when attacked by pgd",
    }  # fmt: skip
    assert "clean test examples" in page.text
    assert "image" not in page.tags


def test_a_table_of_another_make_is_passed_over(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "health.csv").write_text("step,pulse\n1,60\n")
    assert read_run(folder).health is None
    (folder / "health.csv").write_text(HEALTH.format(first="warn", second="stop"))
    table = read_run(folder).health
    assert table is not None
    assert "warned 1 time, stopped 1 time" in health_sentence(table)
    assert "there was none" in health_sentence(table.assign(action=""))


def test_the_terminal_says_what_the_numbers_are(make_run: MakeRun) -> None:
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
    assert "n 100 · L∞ eps 8/255" in " ".join(table.split())
    assert summary_table([]) == "no runs"


def test_rows_fit_the_terminal(make_run: MakeRun) -> None:
    runs = [read_run(make_run(str(k), full=False, experiment=f"an_experiment_{k}" * k, flags=2)) for k in (1, 2, 3)]
    for count, width in ((3, 60), (3, 80), (3, 100), (3, 200), (1, 40), (2, 60)):
        table = summary_table(runs[:count], width)
        assert max(map(len, table.splitlines())) <= width
        for attack in ("fgsm", "pgd", "autoattack", "worst case", "! an_experiment_1: gradient_masking (pgd)"):
            assert attack in " ".join(table.split())


def test_control_codes_do_not_reach_the_terminal(make_run: MakeRun) -> None:
    table = summary_table([read_run(make_run(full=False, experiment="[red]red\x1b[31m\nalert[/red] :boom:"))], 200)
    assert "\x1b" not in table
    assert "[red]red alert[/red] :boom:" in table


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


def test_sentences_follow_the_numbers(make_run: MakeRun) -> None:
    weak = " ".join(run_sentences(read_run(make_run("weak", full=False, strength=0.02, flags=1))))
    assert "no better than guessing among 10 classes" in weak
    assert "1 flag was raised" in weak
    strong = " ".join(run_sentences(read_run(make_run("strong", full=False, strength=0.9, norm="2", eps=0.5))))
    assert "by a Euclidean length of up to 0.5 (L2)" in strong
    assert "remain right" in strong
    assert "No sanity check raised a flag" in strong


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
    seconds = [seconds_text(value) for value in (0.25, 3.21, 45.2, 312.4, 8000.0)]
    assert seconds == ["0.25 s", "3.2 s", "45 s", "5 min", "2 h 13 min"]
