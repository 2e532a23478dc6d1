"""The card of a model: which file each figure is from, what is refused and left out, and the page."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustml.commands.card import main
from robustml.errors import RequestError, RunFailed
from robustml.reporting.card import gather
from robustml.reporting.formats import NOTHING
from robustml.reporting.pages.card import write_cards
from robustml.reporting.tables.card import card_text
from robustml.results import Card, read_card, read_cards

from .conftest import MakeRun, counted, make_results
from .markup import HOSTILE, read_page

EPS = 8 / 255
WEIGHTS = b"these are the weights"
# printf 'these are the weights' | sha256sum
DIGEST = "sha256:1f37de1efe65eafa62eecff07876ee832138e32600cb5e50a041b51648f402e3"


COPY = {
    "method": "Copycat", "pool": "digits", "queries": 50, "budget": 60, "fidelity": counted(90, 100),
    "baseline_fidelity": counted(10, 100), "accuracy": counted(80, 100), "victim_accuracy": counted(85, 100),
    "transfer_success": counted(3, 85),
}  # fmt: skip
SEEN = {
    "strip": {"found": True, "threshold": 1.0, "flagged": 9, "of": 300, "seconds": 1.0, "judges": "records"},
    "mm_bd": {"found": False, "threshold": 1.0, "flagged": 0, "of": 10, "seconds": 1.0, "judges": "model"},
}


def figures(n: int, clean: int, attacks: Mapping[str, int], worst: int | None = None, **changes: Any) -> dict[str, Any]:
    """An evaluation of the weights: how many of n images are right, clean and under each attack.

    Of the two classes, "cat" has a tenth of the images, all of them right when nobody attacks and none under attack.
    """
    results = make_results(n=n, eps=changes.pop("eps", EPS), norm=changes.pop("norm", "inf"))
    worst = min(attacks.values(), default=clean) if worst is None else worst
    cats = n // 10
    robust_cats = 0 if attacks else cats
    results["model"]["sha256"] = DIGEST
    results["command"] = "evaluate"
    results["clean_accuracy"] = counted(clean, n)
    results["attacks"] = {
        name: {"robust_accuracy": counted(right, n), "max_norm": 0.9 * EPS, "seconds": 1.0, "params": {"steps": 7}}
        for name, right in attacks.items()
    }
    results["worst_case"] = {"robust_accuracy": counted(worst, n), "attacks": list(attacks)}
    results["per_class"] = [
        {"label": 0, "name": "cat", "n": cats, "clean_accuracy": counted(cats, cats),
         "robust_accuracy": counted(robust_cats, cats)},
        {"label": 1, "name": "dog", "n": n - cats, "clean_accuracy": counted(clean - cats, n - cats),
         "robust_accuracy": counted(worst - robust_cats, n - cats)},
    ]  # fmt: skip
    results["curve"] = None
    return results | changes


def evaluation(run: Path, name: str, results: dict[str, Any], overrides: list[str] | None = None) -> str:
    """Add an evaluation to a run; the name that the card calls it by."""
    folder = run / "evaluations" / name
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    if overrides is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump({"overrides": overrides}))
    return f"evaluations/{name}/results.json"


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    """A run that was attacked on 100 images: 90 right, 60 under PGD."""
    return finished(make_run)


def finished(make_run: MakeRun, name: str = "run", **changes: Any) -> Path:
    folder = make_run(name, results=figures(100, 90, {"fgsm": 70, "pgd": 60}) | {"command": "train"} | changes)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def carded(run: Path) -> Card:
    return gather(run).card


def test_each_figure_is_from_the_most_images_and_of_equals_the_lowest(run: Path) -> None:
    evaluation(run, "1_weak", figures(400, 370, {"fgsm": 220}))
    strong = evaluation(run, "2_strong", figures(400, 370, {"pgd": 205, "apgd": 201}, worst=200))
    clean = evaluation(run, "3_clean", figures(1000, 930, {}))
    timid = figures(10, 9, {"noise": 8})
    timid["attacks"]["noise"]["max_norm"] = 0.01
    evaluation(run, "5_timid", timid)
    small = evaluation(run, "4_small", figures(50, 45, {"cw": 24}))
    card = carded(run)
    assert (card.clean_accuracy.source, card.clean_accuracy.accuracy.value) == (clean, 0.93)
    own = card.own_threat
    assert own is not None
    assert own.worst_case is not None
    assert (own.worst_case.source, own.worst_case.accuracy.n, own.worst_case.accuracy.value) == (strong, 400, 0.5)
    # Wilson by hand: 200 of 400 is [0.4512, 0.5488].
    assert own.worst_case.accuracy.ci95 == pytest.approx((0.4512, 0.5488), abs=5e-5)
    assert {other.source for other in own.others} == {
        "results.json", "evaluations/1_weak/results.json", "evaluations/5_timid/results.json", small,
    }  # fmt: skip
    assert [(row.attack, row.robust_accuracy.n, row.max_norm) for row in own.attacks] == [
        ("apgd", 400, 0.9 * EPS), ("pgd", 400, 0.9 * EPS), ("fgsm", 400, 0.9 * EPS),
        ("pgd", 100, 0.9 * EPS), ("fgsm", 100, 0.9 * EPS), ("cw", 50, 0.9 * EPS), ("noise", 10, 0.01),
    ]  # fmt: skip
    assert own.max_norm == 0.9 * EPS
    # 24 of 50 is below 200 of 400, but no more than chance would have it.
    assert card.flags == []


def test_the_worst_classes(run: Path) -> None:
    card = carded(run)
    assert card.worst_class is not None
    # 80 of 90 dogs and 10 of 10 cats are right; under attack, no cat.
    assert (card.worst_class.name, card.worst_class.accuracy.n) == ("dog", 90)
    own = card.own_threat
    assert own is not None
    assert own.worst_class is not None
    assert (own.worst_class.name, own.worst_class.accuracy.value, own.worst_class.accuracy.n) == ("cat", 0.0, 10)


def test_other_budgets_and_norms_stand_by_themselves(run: Path) -> None:
    evaluation(run, "l2", figures(100, 90, {"pgd": 20}, norm="2", eps=0.5))
    # 8/255 as a file may have rounded it.
    evaluation(run, "rounded", figures(100, 90, {"apgd": 55}, eps=0.0313725490))
    evaluation(run, "small_eps", figures(100, 90, {"pgd": 80}, eps=2 / 255))
    card = carded(run)
    found = [
        (part.threat.norm, round(255 * part.threat.eps, 1), part.worst_case and part.worst_case.accuracy.value)
        for part in card.threats
    ]
    assert found == [("inf", 8, 0.55), ("inf", 2, 0.8), ("2", 127.5, 0.2)]


def test_an_evaluation_that_was_broken_off_is_a_bound_and_never_the_figure(run: Path) -> None:
    stopped = evaluation(run, "stopped", figures(100, 90, {"apgd": 58}, complete=False))
    longer = evaluation(run, "longer", figures(5000, 4500, {"apgd": 3900}, complete=False))
    card = carded(run)
    own = card.own_threat
    assert own is not None
    assert own.worst_case is not None
    assert (own.worst_case.source, own.worst_case.accuracy.value) == ("results.json", 0.6)
    assert [(bound.source, bound.accuracy.value) for bound in own.upper_bounds] == [(longer, 0.78), (stopped, 0.58)]
    assert card.clean_accuracy.source == "results.json"
    # The one above the figure says nothing; the other, of the same images, says that the figure is too high.
    assert [(flag.name, flag.sources) for flag in card.flags] == [("lower_elsewhere", [stopped])]
    assert "not complete" in card.flags[0].message
    lines = card_text(card, 120).splitlines()
    assert any(line.startswith("at most, L∞ eps 8/255") and "58.0%" in line for line in lines)


def test_nothing_but_evaluations_that_were_broken_off(make_run: MakeRun, tmp_path: Path) -> None:
    run = finished(make_run, complete=False)
    (card,) = write_cards([run], run)
    assert card.own_threat is not None
    assert card.own_threat.worst_case is card.own_threat.rounded_accuracy is card.own_threat.worst_class is None
    # Of all images, whatever came after.
    assert card.clean_accuracy.accuracy.value == 0.9
    assert "at most 60.0%" in {value for _, _, value, _ in read_page(run / "card.html").tiles}


def test_a_lower_figure_on_fewer_images_counts_unless_it_may_be_chance(run: Path) -> None:
    # Wilson by hand: 2 of 20 is [0.028, 0.301], 60 of 100 is [0.502, 0.691], 10 of 20 is [0.299, 0.701].
    evaluation(run, "smaller", figures(20, 18, {"pgd": 10}))
    assert (own := carded(run).own_threat) is not None
    assert own.worst_case is not None
    assert own.worst_case.source == "results.json"
    small = evaluation(run, "small", figures(20, 18, {"autoattack": 2}))
    card = carded(run)
    assert card.own_threat is not None
    assert card.own_threat.worst_case is not None
    assert card.own_threat.worst_case.source == small
    assert card.flags == []


def test_other_weights_and_other_data_are_left_out(run: Path) -> None:
    last = figures(1000, 900, {"pgd": 500})
    last["model"]["sha256"] = "sha256:" + "0" * 64
    evaluation(run, "last", last)
    elsewhere = figures(1000, 900, {"pgd": 500})
    elsewhere["data"]["fingerprint"] = "sha256:" + "1" * 64
    evaluation(run, "elsewhere", elsewhere)
    card = carded(run)
    assert [line.partition(":")[0] for line in card.left_out] == [
        "evaluations/elsewhere/results.json", "evaluations/last/results.json",
    ]  # fmt: skip
    assert [evidence.name for evidence in card.evidence] == ["results.json"]
    assert card.clean_accuracy.accuracy.n == 100


def test_changed_weights_get_no_card(run: Path) -> None:
    (run / "model.safetensors").write_bytes(WEIGHTS + b"!")
    with pytest.raises(RunFailed, match=r"model\.safetensors was changed after the run"):
        write_cards([run], run)
    assert not (run / "card.json").exists()
    assert not (run / "card.html").exists()
    (run / "model.safetensors").unlink()
    with pytest.raises(RequestError, match=r"has no model\.safetensors"):
        gather(run)


def test_one_changed_run_among_several_leaves_nothing_behind(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [finished(make_run, "a"), finished(make_run, "b")]
    (runs[1] / "model.safetensors").write_bytes(b"others")
    with pytest.raises(RunFailed):
        write_cards(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_without_a_digest_cannot_be_verified(make_run: MakeRun) -> None:
    run = finished(make_run, model={"name": "m", "sha256": None})
    with pytest.raises(RequestError, match="names no digest"):
        gather(run)


def test_accuracy_after_rounding(run: Path) -> None:
    results = figures(50, 45, {"fgsm": 30, "pgd": 25})
    for name, right in (("fgsm", 31), ("pgd", 27)):
        results["attacks"][name]["rounded_accuracy"] = counted(right, 50)
    source = evaluation(run, "rounded", results)
    own = carded(run).own_threat
    assert own is not None
    assert own.rounded_accuracy is not None
    assert (own.rounded_accuracy.source, own.rounded_accuracy.accuracy.value) == (source, 27 / 50)


def corruptions(kinds: int, right: int, n: int) -> dict[str, Any]:
    point = {"severity": 1, "accuracy": counted(right, n)}
    return {
        "accuracy": {f"kind_{place}": [point] for place in range(kinds)},
        "mean_accuracy": right / n,
        "mean_corruption_error": 1 - right / n,
    }


def certified(method: str, right: int, eps: float = EPS) -> dict[str, Any]:
    return {"method": method, "norm": "inf", "eps": eps, "accuracy": counted(90, 100),
            "certified_accuracy": counted(right, 100), "acr": 0.01, "seconds": 1.0,
            "radii": [{"radius": eps, "certified_accuracy": counted(right, 100)}]}  # fmt: skip


def curve(n: int, points: int) -> dict[str, Any]:
    return {"attack": "pgd", "points": [{"eps": k * EPS, "robust_accuracy": counted(n // 2, n)} for k in range(points)]}


def test_curves_corruptions_and_certificates(run: Path) -> None:
    evaluation(run, "1", figures(100, 90, {"pgd": 65}, curve=curve(50, 9), corruptions=corruptions(2, 40, 100)))
    long = evaluation(run, "2", figures(100, 90, {"pgd": 65}, curve=curve(100, 4), corruptions=corruptions(15, 25, 50)))
    evaluation(run, "3", figures(100, 90, {"pgd": 65}, curve=curve(100, 3), certified=certified("smoothing", 50)))
    bounds = evaluation(run, "4", figures(100, 90, {}, certified=certified("interval_bounds", 30)))
    evaluation(run, "5", figures(100, 90, {}, certified=certified("interval_bounds", 5, eps=16 / 255)))
    card = carded(run)
    assert [(one.norm, one.curve.attack, one.source) for one in card.curves] == [("inf", "pgd", long)]
    assert card.corruptions is not None
    assert (card.corruptions.source, card.corruptions.corruptions.mean_accuracy) == (long, 0.5)
    found = [(one.certified.method, one.certified.certified_accuracy.value) for one in card.certified]
    assert found == [("interval_bounds", 0.3), ("smoothing", 0.5), ("interval_bounds", 0.05)]
    assert card.certified[0].source == bounds
    write_cards([run], run)
    page = read_page(run / "card.html")
    assert page.headings.count("Certified robustness") == 3
    assert page.table("Common corruptions")["kind 14"] == {"severity 1": "50.0%", "mean": "50.0%"}


def test_a_flag_is_told_once_with_all_its_files(run: Path) -> None:
    flag = {"name": "zero_gradients", "attack": None, "message": "no gradient"}
    first = evaluation(run, "1", figures(100, 90, {"pgd": 65}, flags=[flag]))
    second = evaluation(run, "2", figures(100, 90, {"pgd": 65}, flags=[flag, flag | {"attack": "pgd"}]))
    found = [(one.name, one.attack, one.sources) for one in carded(run).flags]
    assert found == [("zero_gradients", None, [first, second]), ("zero_gradients", "pgd", [second])]


def test_digests_and_command_lines(run: Path) -> None:
    text = b'{"overrides": ["experiment=mine", "name=two words"]}'
    (run / "config.yaml").write_bytes(text)
    evaluation(run, "1", figures(100, 90, {}), overrides=[f"run={run}", "evaluation=clean", "data.root=/a b"])
    evaluation(run, "2", figures(100, 90, {}), overrides=["resume=/somewhere"])
    evaluation(run, "3", figures(100, 90, {}))
    evidence = carded(run).evidence
    assert [one.command_line for one in evidence] == [
        "robustml train experiment=mine 'name=two words'",
        "robustml evaluate run=<dir> evaluation=clean 'data.root=/a b'",
        None,
        None,
    ]
    assert evidence[0].config_sha256 == "sha256:" + hashlib.sha256(text).hexdigest()
    assert evidence[0].sha256 == "sha256:" + hashlib.sha256((run / "results.json").read_bytes()).hexdigest()
    assert evidence[3].config_sha256 is None


def test_what_is_written_is_read_again(run: Path) -> None:
    evaluation(run, "stopped", figures(100, 90, {"apgd": 30}, complete=False), overrides=["a=1"])
    (card,) = write_cards([run], run)
    assert read_card(run) == read_card(run / "card.json") == card
    content = json.loads((run / "card.json").read_text())
    assert (content["schema"], content["kind"]) == (1, "card")
    assert content["model"]["sha256"] == DIGEST
    assert str(run) not in (run / "card.json").read_text() + (run / "card.html").read_text()


def _unknown_source(content: dict[str, Any]) -> None:
    content["threats"][0]["worst_case"]["source"] = "elsewhere.json"


def _incomplete_figure(content: dict[str, Any]) -> None:
    content["evidence"][0]["complete"] = False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=2), "schema"),
        (lambda content: content.update(schema=True), "schema"),
        (lambda content: content.pop("schema"), "schema"),
        (lambda content: content.update(kind="results"), "kind"),
        (lambda content: content["clean_accuracy"]["accuracy"].update(value=1.5), "clean_accuracy.accuracy.value"),
        (_unknown_source, r"'elsewhere\.json', which evidence does not hold"),
        (_incomplete_figure, "which is not complete"),
    ],
)
def test_a_damaged_card_is_refused(run: Path, change: Any, message: str) -> None:
    write_cards([run], run)
    content = json.loads((run / "card.json").read_text())
    change(content)
    (run / "card.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match=message) as caught:
        read_card(run)
    assert "\n" not in str(caught.value)


def test_no_card_at_all(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="robustml card <run> writes it"):
        read_card(run)
    (run / "card.json").write_text("3")
    with pytest.raises(RequestError, match="is not valid"):
        read_card(run)
    (run / "card.json").write_text("{")
    with pytest.raises(RequestError, match="not JSON"):
        read_card(run)
    with pytest.raises(RequestError, match="at least one"):
        write_cards([], tmp_path)
    with pytest.raises(RequestError, match="is a file"):
        write_cards([run], run / "results.json")


def test_several_models_side_by_side(make_run: MakeRun, tmp_path: Path) -> None:
    first = finished(make_run, "a", experiment="first")
    second = finished(make_run, "b", experiment="second")
    evaluation(second, "more", figures(400, 370, {"pgd": 200}))
    cards = write_cards([first, second], tmp_path / "out")
    assert read_cards(tmp_path / "out") == cards
    with pytest.raises(RequestError, match="holds 2 cards"):
        read_card(tmp_path / "out")
    page = read_page(tmp_path / "out" / "card.html")
    assert {"model-1", "model-2"} <= set(page.ids)
    compared = page.table("Side by side")
    assert compared["clean"]["second"] == "92.5% 89.5 to 94.7 n 400"
    assert compared["worst case, L∞ eps 8/255"]["second"] == "50.0% 45.1 to 54.9 n 400"
    # 90.0% against 92.5%, and 60.0% against 50.0%.
    assert page.best["Side by side"] >= {("clean", "second"), ("worst case, L∞ eps 8/255", "first")}
    assert not page.best["Side by side"] & {("clean", "first"), ("worst case, L∞ eps 8/255", "second")}


@pytest.mark.parametrize(("kinds", "compared"), [(3, True), (2, False)])
def test_means_compare_over_the_same_corruptions(make_run: MakeRun, tmp_path: Path, kinds: int, compared: bool) -> None:
    first = finished(make_run, "a", corruptions=corruptions(kinds, 50, 100))
    write_cards([first, finished(make_run, "b", corruptions=corruptions(3, 40, 100))], tmp_path / "out")
    best = read_page(tmp_path / "out" / "card.html").best["Side by side"]
    assert (("corruptions, mean", "trades_linf (a)") in best) == compared
    assert ("corruptions, mean", "trades_linf (b)") not in best


def test_of_other_data_none_is_the_best(make_run: MakeRun, tmp_path: Path) -> None:
    other = finished(make_run, "b", data={"name": "mnist", "fingerprint": "sha256:2"})
    write_cards([finished(make_run, "a"), other], tmp_path / "out")
    page = read_page(tmp_path / "out" / "card.html")
    assert page.best["Side by side"] == set()
    assert "do not compare" in page.text


def test_the_page_of_one_model(run: Path) -> None:
    evaluation(
        run, "l2", figures(100, 90, {"pgd": 20}, norm="2", eps=0.5, curve=curve(100, 3)), overrides=["threat=l2"]
    )
    evaluation(run, "linf", figures(100, 90, {"pgd": 65}, curve=curve(100, 3)))
    write_cards([run], run)
    page = read_page(run / "card.html")
    # On the curve of its own norm only.
    assert page.text.count("training threat 8/255") == 1
    figures_shown = page.table("All figures")
    assert figures_shown["clean accuracy"]["share, 95% interval"].startswith("90.0%")
    assert figures_shown["worst case, L∞ eps 8/255"] == {
        "share, 95% interval": "60.0% 50.2 to 69.1",
        "n": "100",
        "file": "1",
    }
    assert figures_shown["worst class, L∞ eps 8/255"]["share, 95% interval"].endswith("class cat")
    assert page.table("Attacks within L2 eps 0.5")["pgd"]["robust accuracy, 95% interval"].startswith("20.0%")
    assert ("", "Worst case under attack, L∞ eps 8/255", "60.0%") in {tile[:3] for tile in page.tiles}
    for said in (DIGEST, "robustml evaluate threat=l2", "none raised"):
        assert said in page.text, said
    assert page.tags.count("figure") == 3
    again = (run / "card.html").read_bytes()
    write_cards([run], run)
    assert (run / "card.html").read_bytes() == again


def test_what_was_measured_and_what_was_not(run: Path) -> None:
    card = write_cards([run], run)[0]
    act, nist = card.mappings
    lines = {line.about: line for line in (*act.clauses, *nist.clauses)}
    # each figure that is there is one of the card's own, and leads to a section that the page has
    page = (run / "card.html").read_text()
    names = {one.name for one in card.evidence}
    for line in lines.values():
        assert line.measured or line.not_measured
        for one in line.measured:
            assert one.source in names
            assert f'id="{one.section}"' in page
    clean = card.clean_accuracy.accuracy
    assert clean.value is not None
    assert f"{100 * clean.value:.1f}%" in lines["Accuracy"].measured[0].text
    assert len(lines["Cybersecurity: adversarial examples, model evasion"].measured) >= len(card.threats)
    # nobody copied it, looked for poison, or asked what it remembers: commands where there are some
    assert lines["Model extraction"].not_measured == ["robustml extract victim=<dir> method=copycat budget=1000"]
    assert lines["Cybersecurity: data poisoning"].not_measured == ["robustml detect run=<dir>"]
    assert lines["Membership inference"].not_measured == ["robustml has no command for it"]
    assert "conforms to a law" in page
    assert read_card(run).mappings == card.mappings
    text = card_text(card)
    assert "not measured, of Article 15 of the EU AI Act: " in text
    # a copy, and detectors, are measured once they are there
    copied = make_results() | {"command": "extract", "extraction": COPY}
    for place, content in (("extractions/1", copied), ("detections/1", {**figures(90, 80, {}), "detection": SEEN})):
        (run / place).mkdir(parents=True)
        (run / place / "results.json").write_text(json.dumps(content))
    lines = {line.about: line for one in gather(run).card.mappings for line in one.clauses}
    assert "Copycat, 50 queries: the copy agrees on 90.0%" in lines["Model extraction"].measured[0].text
    assert lines["Model extraction"].not_measured == []
    said = [one.text for one in lines["Cybersecurity: data poisoning"].measured]
    assert "strip found something: 9 of 300 records flagged" in said


def test_a_run_that_nobody_attacked(make_run: MakeRun) -> None:
    run = make_run(results=figures(100, 90, {}), full=False)
    (run / "model.safetensors").write_bytes(WEIGHTS)
    (card,) = write_cards([run], run)
    assert card.threats == []
    _, _, value, more = next(tile for tile in read_page(run / "card.html").tiles if tile[1].startswith("Worst case"))
    assert (value, more) == (NOTHING, "not attacked within this budget")


def test_no_examples_at_all(make_run: MakeRun) -> None:
    run = make_run(results=make_results(n=0) | {"model": {"name": "m", "sha256": DIGEST}})
    (run / "model.safetensors").write_bytes(WEIGHTS)
    (card,) = write_cards([run], run)
    assert card.own_threat is not None
    assert card.own_threat.worst_case is card.worst_class is None
    assert "no test examples" in read_page(run / "card.html").text


def test_hostile_names_are_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    results = figures(100, 90, {HOSTILE: 60}, experiment=HOSTILE, command=HOSTILE, curve=curve(100, 2))
    results["attacks"][HOSTILE]["params"] = {HOSTILE: HOSTILE}
    results["curve"]["attack"] = results["data"]["name"] = results["model"]["name"] = HOSTILE
    results["per_class"][0]["name"] = results["environment"]["device"] = HOSTILE + "\x1b[31m"
    results["flags"] = [{"name": HOSTILE, "attack": HOSTILE, "message": HOSTILE}]
    results["threat"]["norm"] = HOSTILE
    results["certified"] = certified(HOSTILE, 30)
    results["corruptions"] = corruptions(1, 50, 100)
    runs = [make_run(name, results=results) for name in ("a", "b")]
    for run in runs:
        (run / "model.safetensors").write_bytes(WEIGHTS)
        (run / "config.yaml").write_text(yaml.safe_dump({"overrides": [HOSTILE]}))
    for folders in (runs[:1], runs):
        cards = write_cards(folders, tmp_path / "out")
        assert HOSTILE in read_page(tmp_path / "out" / "card.html").text
        assert "\x1b" not in card_text(cards[0])


Outcome = tuple[int, list[str], list[str]]


@pytest.fixture
def card_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`robustml card <words>`: exit status, and the lines on stdout and stderr."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["robustml", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as left:
            status = int(left.code or 0)
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err.splitlines()

    return run


def test_the_command(run: Path, make_run: MakeRun, tmp_path: Path, card_verb: Callable[..., Outcome]) -> None:
    status, out, err = card_verb(run)
    assert (status, err) == (0, [])
    # Wilson by hand: 90 of 100 is [0.826, 0.945].
    assert " ".join(out).startswith(
        "verdict: withstands what was tried: 60.0% of 100 right under the worst of 2   attacks within L∞ eps 8/255 "
        "(90.0% when nobody attacks)"
    )
    assert ["clean", "accuracy", "90.0%", "82.6", "to", "94.5", "100", "1"] in [line.split() for line in out]
    assert "file 1: results.json" in out
    assert max(map(len, out[:-1])) <= 80
    assert out[-2:] == [f"card: {run / 'card.json'}", f"page: {run / 'card.html'}"]
    assert read_card(run).clean_accuracy.accuracy.value == 0.9

    other = finished(make_run, "other")
    status, out, err = card_verb(run, other)
    assert (status, out) == (2, [])
    assert "--out" in err[0]
    assert card_verb(run, other, "--out", tmp_path / "both")[0] == 0
    assert len(read_cards(tmp_path / "both")) == 2


def test_the_command_refuses(run: Path, tmp_path: Path, card_verb: Callable[..., Outcome]) -> None:
    status, _, err = card_verb(tmp_path / "absent")
    assert (status, len(err)) == (2, 1)
    (run / "model.safetensors").write_bytes(b"others")
    status, out, err = card_verb(run)
    assert (status, out, len(err)) == (1, [], 1)
    assert "was changed after the run" in err[0]
