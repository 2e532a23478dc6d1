"""Runs that somebody else wrote, or broke: what is printed, what is refused, and what is left out."""

from __future__ import annotations

import io
import json
import shutil
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustml.commands import card as card_verb
from robustml.commands import gate as gate_verb
from robustml.commands import report as report_verb
from robustml.errors import RequestError, printable
from robustml.files import sha256
from robustml.reporting import write_report, write_sweep
from robustml.reporting.formats import NOTHING
from robustml.reporting.pages.ranking import write_ranking
from robustml.reporting.runs import find_runs, read_run
from robustml.reporting.spreadsheet import csv_text
from robustml.reporting.weights import verify_weights
from robustml.say import say
from robustml.workflows.measuring.backdoors import twin_of

from .conftest import MakeRun, counted, make_results, write_examples, write_metrics
from .markup import read_page
from .test_verdict import backdoor, outcome

# Clears the screen, renames the window, turns the direction, rings, breaks the line, hides a tag, is no character.
HOSTILE = "a\x1b[2J\x1b]0;t\x07b\u202ec\x07d\ne\x9b31mf\U000e0041g\ud800h\u2066i\r"
PLAIN = "abcd efghi "


def obeyed(text: str) -> list[str]:
    """The characters that do something to a terminal or to the direction of writing, but line breaks."""
    return [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs") and letter != "\n"]


def hostile_results() -> dict[str, Any]:
    """Every text that a stranger may choose is hostile, keys too."""
    results = make_results(flags=1)
    attack = results["attacks"].pop("pgd") | {"params": {HOSTILE: HOSTILE}}
    results["attacks"][HOSTILE] = attack
    results["worst_case"]["attacks"] = list(results["attacks"])
    results["curve"]["attack"] = HOSTILE
    results["flags"][0] |= {"name": HOSTILE, "attack": HOSTILE, "message": HOSTILE}
    results["per_class"][0]["name"] = HOSTILE
    results["environment"] |= {"device": HOSTILE, "robustml": HOSTILE}
    results["backdoor"] = backdoor(80, 2) | {"kind": HOSTILE, "target": HOSTILE}
    results["data"]["name"] = results["model"]["name"] = results["experiment"] = HOSTILE
    results["selection"]["monitor"] = HOSTILE
    return results


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, PLAIN),
        ("cat", "cat"),
        ("a\tb\u2028c\u00a0d", "a b c d"),
        ("\u0645\u06cc\u200c\u062e\u0648 👩\u200d🔬 chó 猫", "\u0645\u06cc\u200c\u062e\u0648 👩\u200d🔬 chó 猫"),
        ("\x1b[38;5;196mred\x1b[0m\x1bc", "red"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\u200fright\u061c", "right"),
    ],
)
def test_what_a_terminal_would_obey_is_gone(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_verbs_say_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"\nclasses: {HOSTILE}, cat")
    out = capsys.readouterr().out
    assert obeyed(out) == []
    assert out.startswith("\nclasses: abcd")
    assert out.endswith("cat\n")


def run_verb(verb: Any, *words: object, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["robustml", *map(str, words)])
    try:
        verb.main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls a verb in this process: exit status, output, errors."""
    return lambda module, *words: run_verb(module, *words, monkeypatch=monkeypatch, capsys=capsys)


def with_weights(folder: Path, **changes: Any) -> Path:
    """Put weights into a run, and their digest into its results."""
    (folder / "model.safetensors").write_bytes(folder.name.encode())
    results = json.loads((folder / "results.json").read_text())
    results["model"]["sha256"] = sha256(folder / "model.safetensors")
    (folder / "results.json").write_text(json.dumps(results | changes))
    return folder


def test_nothing_that_is_printed_or_written_is_obeyed(make_run: MakeRun, verb: Any, tmp_path: Path) -> None:
    run = with_weights(make_run("out/a", full=False, results=hostile_results()))
    other = with_weights(make_run("out/b", full=False, results=make_results(experiment=HOSTILE, seed=1)))
    write_metrics(run)
    write_examples(run, names=(HOSTILE,) * 10)
    (run / "config.yaml").write_text(json.dumps({"overrides": [f"x={HOSTILE}"], "name": HOSTILE}))
    odd = tmp_path / "out" / "c\x1b[31m\u202e"
    odd.mkdir()
    (odd / "results.json").write_text('{"schema": "\\u001b[2J"}')
    told = [
        verb(gate_verb, f"run={run}", "clean_accuracy>=0.1", "worst_class_accuracy>=0", "flags=none"),
        verb(card_verb, run, other, "--out", tmp_path / "cards"),
        verb(report_verb, run, other, "--out", tmp_path / "compare.html"),
        verb(report_verb, "--table", tmp_path / "out"),
        verb(report_verb, odd),
    ]
    assert [status for status, _, _ in told] == [1, 0, 0, 1, 2]
    write_sweep(tmp_path / "out")
    pages = [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.csv")]
    assert len(pages) == 8
    for text in [*(out + err for _, out, err in told), *(page.read_text() for page in pages)]:
        assert obeyed(text) == []
        assert text.count("<script") == 0
    assert PLAIN.strip() in told[0][1]


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "above one": ({"clean_accuracy": {"value": 1.5, "n": 100, "ci95": [1.4, 1.6]}}, "less than or equal to 1"),
    "negative": ({"clean_accuracy": {"value": -0.5, "n": 100, "ci95": [0, 1]}}, "greater than or equal to 0"),
    "of nothing": ({"clean_accuracy": {"value": 0.5, "n": 0, "ci95": [0, 1]}}, "exactly when n is 0"),
    "a negative n": ({"clean_accuracy": {"value": 0.5, "n": -2, "ci95": [0, 1]}}, "clean_accuracy.n"),
    "no whole number": ({"clean_accuracy": {"value": 0.5, "n": 2.5, "ci95": [0, 1]}}, "clean_accuracy.n"),
    "no count": ({"clean_accuracy": {"value": 0.5, "n": 3, "ci95": [0.1, 0.9]}}, "0.5 is no count of 3 examples"),
    "an endless n": ({"clean_accuracy": {"value": 0.5, "n": 10**400, "ci95": [0.1, 0.9]}}, "clean_accuracy.n"),
    "too sure": ({"clean_accuracy": counted(90, 100) | {"ci95": [0.899, 0.901]}}, r"is not the 95% interval \[0.8256"),
    "text": ({"clean_accuracy": {"value": "high", "n": 100, "ci95": [0, 1]}}, "clean_accuracy.value"),
    "more than the test set": ({"data": make_results()["data"] | {"test": 50}}, "data.test is 50"),
    "a worst case of nobody's": (
        {"worst_case": {"robust_accuracy": counted(90, 100), "attacks": []}}, "above 0.6 of attacks.pgd"),
    "classes that add up to more": (
        {"per_class": [{"label": 0, "name": "a", "n": 100, "clean_accuracy": counted(95, 100),
                        "robust_accuracy": counted(60, 100)}]}, "per_class has 95 right, but clean_accuracy 90"),
    "classes that withstand more": (
        {"per_class": [{"label": 0, "name": "a", "n": 100, "clean_accuracy": counted(90, 100),
                        "robust_accuracy": counted(80, 100)}]}, "per_class has 80 robust, but worst_case 60"),
    "a mean of nothing": (
        {"corruptions": {"accuracy": {}, "mean_accuracy": 0.9, "mean_corruption_error": 0.1}}, "no accuracy at all"),
    "a mean beyond its points": (
        {"corruptions": {"accuracy": {"fog": [{"severity": 1, "accuracy": counted(50, 100)}]}, "mean_accuracy": 0.9,
                         "mean_corruption_error": 0.1}}, "lies outside 0.5 to 0.5"),
    "a fidelity above one": ({"extraction": {"fidelity": {"value": 1.2, "n": 10, "ci95": [0, 1]}}}, "extraction."),
    "a rate deep within a block": (
        {"backdoor": backdoor(88) | {"per_target": {"0": {"trigger": 1, "attack_success_rate": {"value": 2, "n": 9,
         "ci95": [0, 1]}}}}}, "backdoor.per_target.0.attack_success_rate.value"),
    "a field of nobody's": ({"novelty": "\x1b[2J"}, "novelty: no such field"),
    "pending": (
        {"attacks": {"pgd": {"robust_accuracy": counted(60, 100), "max_norm": 0, "seconds": 1, "pending": 101}}},
        "101 images are pending, of 100"),
}  # fmt: skip


@pytest.mark.parametrize("lie", FORGED)
def test_numbers_that_cannot_be_are_refused_in_one_line(lie: str, make_run: MakeRun) -> None:
    changes, message = FORGED[lie]
    run = make_run(full=False, results=outcome(**changes))
    with pytest.raises(RequestError, match=message) as refusal:
        read_run(run)
    assert "\n" not in str(refusal.value)
    assert str(run / "results.json") in str(refusal.value)


def bomb() -> str:
    """YAML of a few lines that stands for 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    return "\n".join(lines)


def zeros(shape: str) -> bytes:
    """An npz whose array claims a shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 64
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("x", "y", "x_adv", "prediction", "adversarial_prediction"):
            file.writestr(f"{name}.npy", array)
    return buffer.getvalue()


DAMAGE: dict[str, tuple[str, bytes]] = {
    "empty results": ("results.json", b""),
    "half of the results": ("results.json", b'{"schema": 1, "comm'),
    "results that are not text": ("results.json", b"\xff\xfe\x00"),
    "results nested without end": ("results.json", b"[" * 100_000),
    "results with an endless number": ("results.json", b'{"schema": 1' + b"0" * 6000 + b"}"),
    "an empty config": ("config.yaml", b""),
    "a config that is not text": ("config.yaml", b"\xff\xfea: 1"),
    "a config of aliases": ("config.yaml", bomb().encode()),
    "a config that holds itself": ("config.yaml", b"a: &a [*a]"),
    "a config nested without end": ("config.yaml", b"[" * 400),
    "a config with a day that is none": ("config.yaml", b"a: 2026-13-45"),
    "a config with a key that is a list": ("config.yaml", b"? [a]\n: 1"),
    "empty metrics": ("metrics.csv", b""),
    "metrics that are not text": ("metrics.csv", b"epoch\n\xff"),
    "empty examples": ("examples.npz", b""),
    "half of the examples": ("examples.npz", zeros("(2, 3)")[:200]),
    "examples of terabytes": ("examples.npz", zeros("(1000000000000, 3)")),
    "examples without a row": ("examples.npz", zeros("()")),
    "an empty health": ("health.csv", b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_in_one_line(damage: str, make_run: MakeRun) -> None:
    name, content = DAMAGE[damage]
    run = make_run()
    (run / name).write_bytes(content)
    with pytest.raises(RequestError) as refusal:
        read_run(run)
    assert str(run / name) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_one_broken_run_refuses_no_ranking(make_run: MakeRun, verb: Any, tmp_path: Path) -> None:
    runs = [with_weights(make_run(f"out/{name}", full=False, experiment=name)) for name in ("one", "two", "three")]
    (runs[1] / "results.json").write_text("")
    status, out, _ = verb(report_verb, "--table", tmp_path / "out")
    assert status == 1
    assert "left out: " in out
    assert "out/two: ./two/results.json is empty" in out
    assert list(pd.read_csv(tmp_path / "out" / "leaderboard.csv")["run"]) == ["one", "three"]
    assert "1 run failed and left out" in (tmp_path / "out" / "leaderboard.html").read_text()
    # The same for a comparison, and for cards.
    status, out, _ = verb(report_verb, *runs, "--out", tmp_path / "compare.html")
    assert (status, out.count("left out: ")) == (1, 1)
    assert "Comparison of 2 runs" in (tmp_path / "compare.html").read_text()
    (runs[2] / "model.safetensors").write_bytes(b"others")
    status, out, _ = verb(card_verb, *runs, "--out", tmp_path / "cards")
    assert (status, out.count("left out: ")) == (1, 2)
    assert "2 runs failed and left out" in (tmp_path / "cards" / "card.html").read_text()
    # Where nothing is left, there is nothing to show.
    status, out, err = verb(report_verb, runs[1])
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "results.json is empty" in err


CELLS = ("=1+1", "+1", "-1", "@x", " =1", "\t=1", "\uff1d1")


@pytest.mark.parametrize("cell", CELLS)
def test_no_cell_is_a_formula(cell: str) -> None:
    frame = pd.DataFrame({cell: [cell, "a=b"], "number": [-0.5, None]})
    assert csv_text(frame).splitlines() == [f"'{cell},number", f"'{cell},-0.5", "a=b,"]


def test_no_table_holds_a_formula(make_run: MakeRun, tmp_path: Path) -> None:
    for place, cell in enumerate(CELLS):
        content = outcome(experiment=cell, backdoor=backdoor(88, 1)) | {"seed": place}
        content["model"] = content["model"] | {"name": cell, "sha256": f"sha256:{place}"}
        run = make_run(f"out/{place}", full=False, results=content)
        (run / "config.yaml").write_text(json.dumps({"overrides": [f"k={cell.strip()}{place}"]}))
    write_ranking(find_runs(tmp_path / "out")[0], tmp_path / "out")
    write_sweep(tmp_path / "out", ["k"])
    for name in ("leaderboard.csv", "sweep.csv", "backdoor.csv"):
        read = pd.read_csv(tmp_path / "out" / name, dtype=str)
        assert not [text for text in map(str, read.to_numpy().ravel()) if text.lstrip().startswith(("=", "+", "@"))]
    # Numbers are numbers still.
    assert pd.read_csv(tmp_path / "out" / "leaderboard.csv")["worst_case"].tolist() == [0.6] * len(CELLS)


def test_a_gate_judges_no_other_weights(make_run: MakeRun, verb: Any, tmp_path: Path) -> None:
    run = with_weights(make_run(full=False))
    words = (f"run={run}", "clean_accuracy>=0.5")
    weights = run / "model.safetensors"
    status, out, _ = verb(gate_verb, *words)
    assert status == 0
    assert out.startswith(f"pass weights: model.safetensors {sha256(weights)} as in results.json\npass clean_accuracy")
    weights.write_bytes(b"altered")
    status, out, _ = verb(gate_verb, *words)
    assert (status, out.count("\n"), "clean_accuracy" in out) == (1, 1, False)
    assert out.startswith(f"FAIL weights: {weights} does not hold the weights that were measured")
    weights.unlink()
    status, out, _ = verb(gate_verb, *words)
    assert (status, out.count("\n")) == (1, 1)
    assert "are missing" in out
    assert verb(gate_verb, *words, "weights=unverified")[0] == 0
    assert verb(gate_verb, *words, "weights=nonsense")[0] == 2


def test_a_gate_wants_all_that_flags_none_means(make_run: MakeRun, verb: Any) -> None:
    for name, content, said in (
        ("fine", outcome(), None),
        ("unattacked", outcome(None), "nobody attacked"),
        ("planted", outcome(backdoor=backdoor(88, 1)), "97.8%"),
    ):
        run = with_weights(make_run(name, full=False, results=content), command="train")
        status, out, _ = verb(gate_verb, f"run={run}", "flags=none")
        assert status == (0 if said is None else 1)
        assert said is None or said in out.partition("FAIL flags=none 0 raised; ")[2]
        # A condition on its own is judged as before.
        assert verb(gate_verb, f"run={run}", "clean_accuracy>=0.9")[0] == 0


def test_damaging_an_evaluation_does_not_open_a_gate(make_run: MakeRun, verb: Any) -> None:
    run = with_weights(make_run(full=False))
    harmed = run / "evaluations" / "later" / "results.json"
    harmed.parent.mkdir(parents=True)
    harmed.write_text("{")
    status, out, _ = verb(gate_verb, f"run={run}", "clean_accuracy>=0.5")
    assert status == 1
    assert "FAIL evaluations/later/results.json is not JSON" in out
    status, out, _ = verb(card_verb, run)
    assert status == 0
    assert "left out: evaluations/later/results.json is not JSON" in out


@pytest.mark.parametrize(
    ("place", "command", "file", "settings"),
    [
        ("run", "train", "run/model.safetensors", {}),
        ("run/evaluations/1", "evaluate", "run/model.safetensors", {"run": "gone", "which": "best"}),
        ("run/sweeps/1/0", "evaluate", "run/model.safetensors", {"which": "best"}),
        ("run/evaluations/1", "evaluate", "run/checkpoints/last.ckpt", {"which": "last"}),
        ("elsewhere", "evaluate", "run/model.safetensors", {"run": "run"}),
        ("elsewhere", "evaluate", "net.pth", {"checkpoint": "net.pth"}),
        ("run/trojans/1/evaluations/2", "evaluate", "run/trojans/1/trojan.safetensors", {}),
        ("run/extractions/1", "extract", "run/extractions/1/copy.safetensors", {}),
    ],
)
def test_where_weights_lie(
    place: str, command: str, file: str, settings: dict[str, Any], make_run: MakeRun, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    run = make_run(place, full=False, results=make_results() | {"command": command})
    (run / "config.yaml").write_text(json.dumps(settings | {"name": "x"}))
    weights = tmp_path / file
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"weights")
    results = read_run(run).results
    right = results.model_copy(update={"model": results.model.model_copy(update={"sha256": sha256(weights)})})
    assert verify_weights(run, right) == [f"{weights.name} {sha256(weights)} as in results.json"]
    with pytest.raises(RuntimeError, match="does not hold the weights"):
        verify_weights(run, results)
    weights.unlink()
    with pytest.raises(RuntimeError, match="are missing"):
        verify_weights(run, right)


def test_a_trojannet_is_two_files(make_run: MakeRun) -> None:
    run = with_weights(make_run("run", full=False))
    beside = make_run("run/trojans/1", full=False, results=make_results() | {"command": "trojan"})
    (beside / "trojan.safetensors").write_bytes(b"trojan")
    own, target = sha256(beside / "trojan.safetensors"), sha256(run / "model.safetensors")
    results = read_run(beside).results
    both = results.model.model_copy(update={"sha256": own, "target_sha256": target})
    results = results.model_copy(update={"model": type(results.model).model_validate(both.model_dump())})
    assert len(verify_weights(beside, results)) == 2
    (run / "model.safetensors").write_bytes(b"others")
    with pytest.raises(RuntimeError, match="does not hold the weights"):
        verify_weights(beside, results)


def test_one_model_within_many_budgets_is_a_curve_and_no_contest(make_run: MakeRun, tmp_path: Path) -> None:
    for place, (eps, left) in enumerate(((0.0, 90), (0.1, 60), (0.2, 5))):
        content = outcome(left, eps=eps) | {"model": make_results()["model"]}
        run = make_run(f"sweep/{place}", full=False, results=content)
        (run / "config.yaml").write_text(json.dumps({"threat": {"eps": eps}, "overrides": [f"threat.eps={eps}"]}))
    frame = write_sweep(tmp_path / "sweep")
    assert frame["train_eps"].isna().all()
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert "Training budget against test budget" not in page
    assert "Highest worst-case accuracy" not in page
    assert "One model, attacked within 3 budgets: 90.0% right at eps 0, 5.0% at eps 0.2." in page
    assert page.count("<figure") == 1
    assert "Accuracy as the attacker" in page
    assert "Robust accuracy against eps for worst case" in page
    assert "There is a backdoor" not in page
    runs = [tmp_path / "sweep" / str(place) for place in range(3)]
    compared = write_report(runs, tmp_path / "compare.html").read_text()
    assert "most accurate" not in compared
    assert 'class="leads"' not in compared


def test_other_models_within_one_budget_are_a_contest(make_run: MakeRun, tmp_path: Path) -> None:
    for place, left in enumerate((40, 60)):
        content = outcome(left, command="train")
        content["model"] = content["model"] | {"sha256": f"sha256:{place}"}
        content["backdoor"] = backdoor(88, 1) if place else None
        run = make_run(f"sweep/{place}", full=False, results=content)
        (run / "config.yaml").write_text(json.dumps({"overrides": [f"objective.beta={place}"]}))
    write_sweep(tmp_path / "sweep")
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert "Highest worst-case accuracy: 60.0% (run 1, objective.beta=1)" in page
    assert "There is a backdoor in the model of 1 of the 2 runs." in page
    compared = read_page(write_report([tmp_path / "sweep" / name for name in "01"], tmp_path / "compare.html"))
    assert [row for row, _ in compared.best["Summary"]].count("worst case") == 1
    assert compared.text.count("There is a backdoor in ") == 1
    ranked, _ = find_runs(tmp_path / "sweep")
    write_ranking(ranked, tmp_path / "ranking")
    leaderboard = tmp_path / "ranking" / "leaderboard.html"
    assert 'class="leads"' not in leaderboard.read_text()
    assert [row["rank"] for row in read_page(leaderboard).table("digits, L∞ eps 8/255, 100 images").values()] == [
        "1",
        NOTHING,
    ]


@pytest.mark.parametrize("named", ["outputs/twins/abc", "{}/outputs/twins/abc"])
def test_a_twin_is_found_where_its_run_was_moved_to(
    named: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    planted = backdoor(88, 1)
    planted["twin"]["run"] = named.format(tmp_path)
    twin = make_run("outputs/twins/abc")
    run = make_run("outputs/name/time", full=False, results=outcome(command="train", backdoor=planted))
    assert twin_of(run) == Path(planted["twin"]["run"])
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    (tmp_path / "outputs").rename(moved)
    assert twin_of(moved / "name" / "time") == moved / "twins" / "abc"
    assert capsys.readouterr().out == ""
    shutil.rmtree(moved / "twins")
    assert twin_of(moved / "name" / "time") is None
    assert "is not at" in capsys.readouterr().out
    assert not twin.exists()
