"""`robustml detect`: a backdoored run is found out, its clean twin is not, and the suspects can be left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import robustml
from integration.files import left
from integration.forks import Outcome, command
from robustml.errors import RequestError
from robustml.poisoning import read_plan
from robustml.results import read_results

TRAINING = ("experiment=digits_standard", "evaluation=clean", "trainer.enable_progress_bar=false")
QUICK = ("detector=[strip]", "detector.strip.overlays=8")


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("poisoned")
    outcome = command("train", *TRAINING, "poison=badnets", "twin=true", cwd=folder)
    assert outcome.status == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def detected(poisoned: Outcome) -> Outcome:
    return command("detect", f"run={poisoned.run}", *QUICK, "twin=true", cwd=folder_of(poisoned))


def folder_of(outcome: Outcome) -> Path:
    return outcome.run.parents[2]


def detection_of(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((outcome.run / "results.json").read_text())["detection"]
    return found


def test_the_backdoor_is_found_and_the_twin_is_innocent(detected: Outcome, poisoned: Outcome) -> None:
    assert detected.status == 3, detected.out + detected.err
    assert detected.run.parent == poisoned.run / "detections"
    assert left(detected.run) == {"config.yaml", "report.html", "results.json", "suspects.parquet"}
    strip = detection_of(detected)["strip"]
    assert strip["auroc"] > 0.95
    assert strip["found"]
    assert not strip["twin"]["found"]
    assert (strip["of"], strip["clean"], strip["params"]["overlays"]) == (1257, 180, 8)
    page = (detected.run / "report.html").read_text()
    assert page.count("data:image/png") == 48
    assert max(map(len, detected.out.splitlines())) <= 80 or "/" in detected.out


def test_the_suspects_are_the_poisoned_records(detected: Outcome, poisoned: Outcome) -> None:
    suspects = pd.read_parquet(detected.run / "suspects.parquet")
    planted = set(read_plan(poisoned.run / "poison.parquet").after.ids.tolist())
    flagged = suspects[suspects["flagged"]]
    assert len(suspects) == 1257
    assert suspects["flagged"].tolist() == sorted(suspects["flagged"], reverse=True), "the most suspect first"
    assert len(planted & set(flagged["id"])) >= 0.9 * len(planted)
    assert flagged["record"].str.match(r"train \d+$").all()


def test_training_without_the_suspects_leaves_no_backdoor(detected: Outcome, poisoned: Outcome) -> None:
    words = ("poison=badnets", f"data.exclude={detected.run}/suspects.parquet")
    outcome = command("train", *TRAINING, *words, cwd=folder_of(poisoned))
    assert outcome.status == 0, outcome.err
    results = read_results(outcome.run)
    flagged = int(pd.read_parquet(detected.run / "suspects.parquet")["flagged"].sum())
    assert results.data.excluded == flagged
    assert results.backdoor is not None
    assert float(results.backdoor.attack_success_rate) < 0.2


def test_a_clean_run_is_not_accused(poisoned: Outcome) -> None:
    twin = next((folder_of(poisoned) / "outputs" / "twins").iterdir())
    outcome = command("detect", f"run={twin}", *QUICK, cwd=folder_of(poisoned))
    assert outcome.status == 0, outcome.out + outcome.err
    assert detection_of(outcome)["strip"]["auroc"] is None
    gated = command("gate", f"run={twin}", "clean_accuracy>=0.1", cwd=folder_of(poisoned))
    assert gated.status == 0, gated.out


def test_a_model_of_any_origin_and_a_gate(detected: Outcome, poisoned: Outcome, tmp_path: Path) -> None:
    folder = folder_of(poisoned)
    made = command("poison", "data=digits", "poison=badnets", "data.val_size=0", f"out={tmp_path}/set", cwd=folder)
    assert made.status == 0, made.err
    sources = [f"data.source.{part}={tmp_path}/set/{part}.parquet" for part in ("train", "test")]
    words = ("model=digits_cnn", f"checkpoint={poisoned.run}/model.safetensors", "data=parquet", *sources, *QUICK)
    outcome = command("detect", *words, cwd=folder)
    assert outcome.status == 3, outcome.out + outcome.err
    assert detection_of(outcome)["strip"]["auroc"] is None, "nobody knows the truth here"
    gated = command("gate", f"run={poisoned.run}", "clean_accuracy>=0.1", "flags=none", cwd=folder)
    assert gated.status == 1
    assert "detectors found something" in gated.out


def test_python_finds_the_same(detected: Outcome, poisoned: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustml.defenses.detect import STRIP

    monkeypatch.chdir(folder_of(poisoned))
    findings = robustml.detect(poisoned.run, detectors={"strip": STRIP(overlays=8)})
    assert findings.found
    strip = findings.detection["strip"]
    assert strip.auroc == pytest.approx(detection_of(detected)["strip"]["auroc"])
    assert "strip" in str(findings)
    with pytest.raises(RequestError, match="expected a detector"):
        robustml.detect(poisoned.run, detectors="strip")  # type: ignore[arg-type]
    run = robustml.load_run(poisoned.run)
    alone = robustml.detect(run.model, (run.data.train.x / 255, run.data.train.y), STRIP(overlays=8), clean=run.data)
    assert alone.detection["strip"].clean == 360
    assert len(alone.records) == len(run.data.train)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "detect needs a run directory"),
        ("run=none", "there is no run directory none"),
        ("run={run} detector=[stripe]", "strip"),
        ("run={run} detector.strip.overlays=0", "overlays"),
        ("run={run} clean=train", "clean must be"),
        ("run={twin} twin=true", "was not poisoned"),
        ("run={run} data.val_size=0 clean=val", "no validation part"),
    ],
)
def test_wrong_requests(words: str, expected: str, poisoned: Outcome) -> None:
    folder = folder_of(poisoned)
    twin = next((folder / "outputs" / "twins").iterdir())
    before = left(poisoned.run)
    outcome = command("detect", *words.format(run=poisoned.run, twin=twin).split(), cwd=folder)
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected in outcome.error
    assert left(poisoned.run) == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id\n999999999\n", "names none of the"),
        ("name\nx\n", "needs a column id"),
        ("", "cannot be read"),
        (None, "there is no such file"),
        ("id,flagged\n1,yes\n", "true or false"),
    ],
)
def test_a_list_of_exclusions_that_is_none(content: str | None, expected: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "list.csv").write_text(content)
    outcome = command("train", *TRAINING, "data.exclude=list.csv", cwd=tmp_path)
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected in outcome.error
