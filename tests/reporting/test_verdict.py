"""The one verdict on a model: over every kind of run, and where it is shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustml.reporting import summary_frame, summary_table, write_report, write_sweep
from robustml.reporting.formats import NOTHING
from robustml.reporting.runs import read_run
from robustml.reporting.verdict import unfit, verdict
from robustml.results import Results

from .conftest import MakeRun, counted, make_results
from .markup import read_page


def outcome(
    attacked: int | None = 60,
    n: int = 100,
    clean: int = 90,
    steps: int = 20,
    eps: float = 8 / 255,
    max_norm: float | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Results on n images, `clean` of them right and `attacked` still so under the one attack; None for no attack."""
    results = make_results(n=n, eps=eps)
    attack = {
        "robust_accuracy": counted(attacked or 0, n),
        "max_norm": eps if max_norm is None else max_norm,
        "seconds": 1,
        "params": {"steps": steps},
    }
    left = clean if attacked is None else attacked
    return results | {
        "command": "evaluate",
        "clean_accuracy": counted(clean, n),
        "attacks": {} if attacked is None else {"pgd": attack},
        "worst_case": {"robust_accuracy": counted(left, n), "attacks": [] if attacked is None else ["pgd"]},
        "per_class": [],
        "curve": None,
        **changes,
    }


def backdoor(success: int, twin: int | None = None) -> dict[str, Any]:
    beside = {"clean_accuracy": counted(90, 100), "attack_success_rate": counted(twin or 0, 90)}
    block = {"kind": "badnets", "rate": 0.05, "target": 0, "attack_success_rate": counted(success, 90)}
    return block | {"twin": None if twin is None else beside}


def copied(fidelity: int, constant: int = 10) -> dict[str, Any]:
    return {"method": "Knockoff", "pool": "Noise", "queries": 300, "budget": 300, "fidelity": counted(fidelity, 100),
            "baseline_fidelity": counted(constant, 100), "accuracy": counted(80, 100),
            "victim_accuracy": counted(90, 100), "transfer_success": counted(5, 10)}  # fmt: skip


def certified(share: int, contradicted: int = 0, method: str = "interval bounds") -> dict[str, Any]:
    return {"method": method, "norm": "inf", "eps": 8 / 255, "accuracy": counted(90, 100), "acr": 0.1, "seconds": 1.0,
            "certified_accuracy": counted(share, 100), "contradicted": contradicted}  # fmt: skip


def corrupted(right: int) -> dict[str, Any]:
    points = {"fog": [{"severity": 1, "accuracy": counted(right, 100)}]}
    return {"accuracy": points, "mean_accuracy": right / 100, "mean_corruption_error": 1 - right / 100}


FLAG = {"name": "zero_gradients", "attack": "pgd", "message": "no gradient"}
POISONED = make_results()["data"] | {
    "poison": {"kind": "flip", "rate": 0.1, "poisoned": 9, "changed": 9, "added": 0, "deleted": 0}
}
NOBODY = "nobody attacked: this says nothing about robustness"
KINDS: Mapping[str, tuple[dict[str, Any], str, str, str]] = {
    # what it is: results, level, word, what the first sentence says
    "attacked": (outcome(), "fine", "withstands what was tried", "60.0% of 100 right under the worst of 1 attack"),
    "without a worst case": (outcome(worst_case=None), "fine", "withstands what was tried", "60.0% of 100 right under"),
    "weak": (outcome(30), "caution", "weak under attack", "30.0% of 100 right"),
    "not robust": (outcome(10), "alarm", "not robust", "10.0% of 100 right"),
    "nobody attacked": (outcome(None), "caution", "not attacked", "90.0% of 100 right when nobody attacks"),
    "no images": (make_results(n=0), "caution", "not tested", "no test example"),
    "flagged": (outcome(flags=[FLAG]), "caution", "in doubt", "60.0%"),
    "stopped early": (outcome(complete=False), "caution", "in doubt", "60.0%"),
    "few images": (outcome(60, n=99), "caution", "in doubt", "60.6% of 99"),
    "a single step": (outcome(steps=1), "caution", "in doubt", "60.0%"),
    "a small part of the budget": (outcome(max_norm=0.001), "caution", "in doubt", "60.0%"),
    "no budget": (outcome(90, eps=0.0), "caution", "in doubt", "90.0% of 100 right under the worst of 1 attack"),
    "backdoored": (outcome(backdoor=backdoor(88, 1)), "alarm", "backdoored",
                   "97.8% of 90 inputs of other classes (a clean twin: 1.1%)"),
    "without a twin": (outcome(backdoor=backdoor(88)), "alarm", "backdoored", "97.8%"),
    "inherited": (outcome(backdoor=backdoor(2, 1) | {"inherited": [backdoor(88)]}), "alarm", "backdoored", "97.8%"),
    "rarely": (outcome(backdoor=backdoor(20, 1)), "alarm", "backdoored", "22.2%"),
    "faint": (outcome(backdoor=backdoor(2, 1)), "caution", "backdoor planted, faint", "2.2%"),
    "the twin does it too": (outcome(backdoor=backdoor(88, 88)), "alarm", "backdoored", "97.8%"),
    "trojaned": (outcome(None, command="trojan", backdoor=backdoor(90, 3)), "alarm", "backdoored", "100.0%"),
    "poisoned": (outcome(data=POISONED), "caution", "poisoned data", "poisoned on purpose"),
    "stolen": (outcome(None, command="extract", extraction=copied(93)), "alarm", "copied",
               "a copy made of 300 queries gives the victim's label on 93.0% of 100 test inputs (one constant"),
    "partly stolen": (outcome(None, extraction=copied(30)), "caution", "partly copied", "30.0%"),
    "hardly stolen": (outcome(None, extraction=copied(12)), "caution", "hardly copied", "12.0%"),
    "many of one label": (outcome(None, extraction=copied(93, 92)), "caution", "partly copied", "93.0%"),
    "proved": (outcome(certified=certified(60)), "fine", "certified for the most part", "60.0% certified within L∞"),
    "proved without attack": (outcome(None, certified=certified(60)), "fine", "certified for the most part", "60.0%"),
    "proved in part": (outcome(certified=certified(20)), "caution", "certified in part", "20.0%"),
    "nothing proved": (outcome(certified=certified(0)), "caution", "not certified", "0.0%"),
    "disproved": (outcome(certified=certified(60, 3)), "alarm", "certificates disproved", "disproved 3 certificates"),
    "smoothed": (outcome(certified=certified(60, method="smoothing")), "fine", "certified for the most part",
                 "of the smoothed classifier"),
    "corrupted": (outcome(None, corruptions=corrupted(80)), "caution", "not attacked",
                  "80.0% right on average over 1 common corruption (90.0% without)"),
    "weak in fog": (outcome(corruptions=corrupted(30)), "caution", "weak under corruptions", "60.0%"),
    "corrupted and attacked": (outcome(corruptions=corrupted(80)), "fine", "withstands what was tried", "60.0%"),
}  # fmt: skip


def test_a_sweep_of_budgets_moves_the_verdict_at_the_runs_own_only_where_it_says_something_about_it() -> None:
    def judged(*others: dict[str, Any]) -> str:
        return verdict(*(Results.model_validate(each) for each in (outcome(60, eps=0.1), *others))).text

    alone = judged()
    sweep = [outcome(90, eps=0.0), outcome(70, eps=0.05, max_norm=0.01), outcome(3, eps=0.15)]
    assert judged(*sweep) == alone
    assert "not robust: 5.0% of 100 right" in judged(outcome(5, eps=0.05))
    assert "1 flag" in judged(outcome(3, eps=0.15, flags=[FLAG]))
    unattacked = verdict(*(Results.model_validate(each) for each in (outcome(None, eps=0.1), outcome(90, eps=0.0))))
    assert "the attacker's budget was 0" in unattacked.text


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict(kind: str) -> None:
    content, level, word, sentence = KINDS[kind]
    found = verdict(Results.model_validate(content))
    assert (found.level, found.word) == (level, word)
    assert sentence in found.sentences[0]
    assert (NOBODY in found.doubts) == (kind in {"nobody attacked", "trojaned", "corrupted"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_green_only_where_the_verdict_is(kind: str, make_run: MakeRun, tmp_path: Path) -> None:
    content, level, word, _ = KINDS[kind]
    run = make_run(full=False, results=content)
    page = read_page(write_report([run], tmp_path / "page.html"))
    assert page.verdict == (level, f"{word[0].upper()}{word[1:]}")
    assert ("fine" in {css for css, *_ in page.tiles}) == (level == "fine")
    # What was asked for stands in the first tile.
    figure = verdict(Results.model_validate(content)).findings[0]
    if figure.name and figure.kind != "clean":
        _, name, value, more = page.tiles[0]
        assert (name, value) == (figure.name, f"{100 * (figure.value or 0):.1f}%")
        assert figure.beside in more
    assert f"verdict: {word}: " in summary_table([read_run(run)], width=1000)


def test_every_figure_has_a_column(make_run: MakeRun) -> None:
    kinds = ("backdoored", "stolen", "proved", "corrupted", "attacked")
    runs = [read_run(make_run(name, full=False, results=KINDS[name][0] | {"experiment": name})) for name in kinds]
    text = summary_table(runs, width=300)
    assert text.splitlines()[0].split()[:6] == ["run", "verdict", "backdoor", "fidelity", "certified", "corruptions"]
    rows = {line.split()[0]: line for line in text.splitlines()[2:7]}
    for name, figure in (("backdoored", "97.8"), ("stolen", "93.0"), ("proved", "60.0"), ("corrupted", "80.0")):
        assert figure in rows[name].partition("90.0")[0]
        assert KINDS[name][2] in rows[name]
    frame = summary_frame(runs).set_index("run")
    assert frame.loc["backdoored", "backdoor"] == pytest.approx(88 / 90)
    assert (frame.loc["stolen", "fidelity"], frame.loc["proved", "certified"]) == (0.93, 0.6)
    assert (frame.loc["corrupted", "corruptions"], frame.loc["stolen", "verdict"]) == (0.8, "copied")


def test_evaluations_add_up_to_one_verdict() -> None:
    clean, attacked, planted = (Results.model_validate(KINDS[kind][0]) for kind in
                                ("nobody attacked", "weak", "backdoored"))  # fmt: skip
    assert verdict(clean, attacked).word == "weak under attack"
    assert verdict(clean, attacked).doubts == ()
    together = verdict(clean, attacked, planted)
    assert (together.level, together.word) == ("alarm", "backdoored")
    # Of two attacks the one that left less.
    assert together.findings[1].value == 0.3
    assert unfit(clean) == [NOBODY]
    assert unfit(clean, attacked) == []
    assert "97.8%" in unfit(clean, planted)[0]


@pytest.mark.parametrize(
    ("command", "objective", "said"),
    [
        ("train", {"_target_": "robustml.objectives.Adversarial", "attack": {"steps": 7}}, "training threat 8/255"),
        ("train", {"_target_": "a.AWP", "objective": {"attack": {"steps": 7}}}, "training threat 8/255"),
        ("train", {"_target_": "robustml.objectives.Standard", "label_smoothing": 0.0}, "trained without attacks"),
        ("train", {"_target_": "robustml.objectives.GaussianNoise", "sigma": 0.25}, "trained without attacks"),
        ("evaluate", None, "largest change allowed"),
    ],
)
def test_a_training_threat_is_one_of_training(
    command: str, objective: dict[str, Any] | None, said: str, make_run: MakeRun, tmp_path: Path
) -> None:
    content = outcome(command=command)
    content["cost"]["attack_share"] = 0.004
    run = make_run(full=False, results=content)
    config = {"threat": {"norm": "inf", "eps": "8/255"}} | ({} if objective is None else {"objective": objective})
    (run / "config.yaml").write_text(json.dumps(config))
    assert (read_run(run).train_eps is None) == ("training" not in said)
    page = read_page(write_report([run], tmp_path / "page.html"))
    assert said in page.text
    assert ("training threat" in page.text) == ("training threat" in said)


def test_nobodys_attack_has_no_worst_case(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [read_run(make_run(f"out/{name}", full=False, results=KINDS[name][0] | {"experiment": name}))
            for name in ("attacked", "nobody attacked")]  # fmt: skip
    frame = summary_frame(runs).set_index("run")
    assert frame.loc["attacked", "worst_case"] == 0.6
    assert pd.isna(frame.loc["nobody attacked", "worst_case"])
    assert summary_table(runs, width=300).splitlines()[3].split()[-2:] == [NOTHING, NOTHING]
    swept = write_sweep(tmp_path / "out").set_index(["run", "source"])
    assert swept.loc[("attacked", "worst_case"), "robust_accuracy"] == 0.6
    shutil.rmtree(runs[0].path)
    write_sweep(tmp_path / "out")
    row = read_page(tmp_path / "out" / "sweep.html").table("Runs")["nobody attacked"]
    assert row["clean"].startswith("90.0%")
    alone = swept.loc[("nobody attacked", "worst_case")]
    assert pd.isna(alone["robust_accuracy"])
    assert (alone["clean_accuracy"], alone["n"]) == (0.9, 100)


@pytest.mark.parametrize(
    ("again", "twin", "word"),
    [
        (80, 20, "backdoor hidden, not removed"),
        (30, 20, "backdoor not called back"),  # so much ten records plant in any model
        (30, None, "backdoor not called back"),
        (60, None, "backdoor hidden, not removed"),
    ],
)
def test_a_repair_is_judged_by_what_calls_the_backdoor_back(again: int, twin: int | None, word: str) -> None:
    figures = {"clean_accuracy": counted(90, 100), "attack_success_rate": counted(1, 100)}
    block = {"method": "fine_tuning", "before": figures, "after": figures, "clean_images": 100, "seconds": 1}
    block |= {"reactivated_attack_success_rate": counted(again, 100), "reactivation_records": 10}
    block |= {"twin_reactivated_attack_success_rate": None if twin is None else counted(twin, 100)}
    found = verdict(Results.model_validate(outcome(None) | {"command": "repair", "repair": block}))
    assert found.findings[0].word == word


@pytest.mark.parametrize(
    ("found", "twin", "level"), [(True, False, "alarm"), (True, True, "caution"), (False, False, "caution")]
)
def test_what_is_found_in_the_twin_too_is_no_alarm(found: bool, twin: bool, level: str) -> None:
    figures = {"threshold": 1, "flagged": 5, "of": 100, "seconds": 1}
    detection = figures | {"found": found, "judges": "records", "twin": figures | {"found": twin}}
    results = Results.model_validate(outcome(None) | {"command": "detect", "detection": {"strip": detection}})
    assert verdict(results).findings[0].level == level
    assert bool(unfit(results)) == (level == "alarm")
