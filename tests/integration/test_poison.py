"""The real commands on poisoned digits: train with a twin, evaluate, write a poisoned set, sweep the rate."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from corpora import mail_round, write_mails

from integration.files import left
from integration.forks import Outcome, command
from integration.sabotage import WRITES
from robustml.poisoning import read_plan
from robustml.results import read_results

# Half a second of training, in which a 2 x 2 corner on 5% of the digits is learnt.
QUICK = (
    "experiment=digits_standard",
    "model=mlp",
    "model.hidden=[128]",
    "data.batch_size=64",
    "trainer.max_epochs=6",
    "trainer.enable_progress_bar=false",
    "evaluation=clean",
)
BADNETS = ("poison=badnets", "poison.trigger.size=2")


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("poisoned")
    outcome = command("train", *QUICK, *BADNETS, "twin=true", cwd=folder, drawn=True)
    assert outcome.status == 0, outcome.err
    return outcome


def test_a_backdoor_is_measured_beside_its_clean_twin(poisoned: Outcome) -> None:
    results = read_results(poisoned.run / "results.json")
    backdoor = results.backdoor
    assert backdoor is not None
    assert backdoor.twin is not None
    assert backdoor.rate == pytest.approx(63 / 1257)
    assert backdoor.attack_success_rate.value > 0.85
    assert backdoor.twin.attack_success_rate.value < 0.05
    assert backdoor.attack_success_rate.n == backdoor.twin.attack_success_rate.n == 324
    assert results.clean_accuracy.value > backdoor.twin.clean_accuracy.value - 0.04
    assert results.data.poison.changed == 63
    twin = read_results(Path(poisoned.run.parents[2] / backdoor.twin.run))
    assert twin.data.poison is None
    assert twin.backdoor is None
    assert twin.data.fingerprint != results.data.fingerprint
    plan = read_plan(poisoned.run / "poison.parquet")
    assert len(plan) == 63
    assert (plan.after.y == 0).all()
    assert (plan.before.y != 0).all()
    assert "Backdoor" in (poisoned.run / "report.html").read_text()


def test_the_twin_is_trained_once(poisoned: Outcome, tmp_path: Path) -> None:
    base = poisoned.run.parents[2]
    before = left(base / "outputs" / "twins")
    words = [*QUICK, *BADNETS, "poison.rate=0.02", "twin=true"]
    outcome = command("train", *words, "name=again", cwd=base)
    assert "trained before" in outcome.out
    assert left(base / "outputs" / "twins") == before
    assert read_results(outcome.run / "results.json").backdoor.rate == pytest.approx(25 / 1257)


def test_an_evaluation_measures_the_same_backdoor(poisoned: Outcome) -> None:
    outcome = command("evaluate", f"run={poisoned.run}", cwd=poisoned.run.parents[2])
    assert outcome.status == 0, outcome.err
    again, first = read_results(outcome.run / "results.json"), read_results(poisoned.run / "results.json")
    assert again.backdoor == first.backdoor
    assert again.data == first.data


def test_a_poisoned_set_for_use_elsewhere(tmp_path: Path) -> None:
    outcome = command("poison", *BADNETS, "poison.rate=0.1", "poison.target=next", "out=set", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert {"train.parquet", "test.parquet", "poison.parquet"} <= left(tmp_path / "set")
    restored = command("poison", "restore=set", "out=clean.parquet", cwd=tmp_path)
    assert "1,437 clean records" in restored.out
    source = ("data=parquet", "data.source.train=set/train.parquet", "data.source.test=set/test.parquet")
    trained = command("train", *QUICK, *source, "trainer.max_epochs=1", cwd=tmp_path)
    assert trained.status == 0, trained.err
    refused = command("poison", "out=set", cwd=tmp_path)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "exists already" in refused.err
    damaged = tmp_path / "set" / "poison.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 8] ^= 1
    damaged.write_bytes(content)
    refused = command("poison", "restore=set", "out=other.parquet", cwd=tmp_path)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "set/poison.parquet" in refused.err
    assert not (tmp_path / "other.parquet").exists()


@pytest.mark.parametrize(
    "moments",
    [pytest.param(WRITES, marks=pytest.mark.slow, id="any write"), pytest.param(WRITES[-1:], id="last write")],
)
def test_a_killed_poison_is_taken_up_by_the_same_command(moments: Sequence[Any], tmp_path: Path) -> None:
    words = ["poison", *BADNETS, "poison.rate=0.1"]
    whole = command(*words, "out=whole", cwd=tmp_path)
    assert whole.status == 0, whole.err
    for moment in moments:
        killed = command(*words, "out=killed", cwd=tmp_path, before=moment)
        assert killed.status == -signal.SIGKILL
        assert len(visible(tmp_path / "killed")) == moment.args[0], "a file that is not whole is not seen"
    refused = command("poison", "restore=killed", "out=clean.parquet", cwd=tmp_path)
    assert "no complete poisoned set" in refused.error
    assert command(*words, "out=killed", cwd=tmp_path).status == 0
    assert "complete" in command(*words, "out=killed", cwd=tmp_path).out
    other = command(*words, "poison.target=1", "out=killed", cwd=tmp_path)
    assert "of another command: poison differ" in other.error
    assert left(tmp_path / "killed") == left(tmp_path / "whole")
    for name in left(tmp_path / "whole") - {"config.yaml"}:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    assert "holds something else" in command(*words, "out=mine", cwd=tmp_path).error


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_success_rate_against_the_poisoning_rate(tmp_path: Path) -> None:
    words = [*QUICK, *BADNETS[1:], "twin=false", "poison.rate=0,0.1"]
    outcome = command("sweep", "poison_rate", *words, cwd=tmp_path, drawn=True)
    assert outcome.status == 0, outcome.err
    table = pd.read_csv(outcome.run / "backdoor.csv").set_index("poison.rate")
    assert table.loc[0, "attack_success_rate"] < 0.1
    assert table.loc[0.1, "attack_success_rate"] > 0.6
    page = (outcome.run / "sweep.html").read_text()
    assert "share of the training set that is poisoned" in page


def test_poisons_chain(tmp_path: Path) -> None:
    parts = ("+poison@poison.poisons.first=badnets", "+poison@poison.poisons.second=badnets")
    words = [*QUICK, "poison=chain", *parts, "poison.poisons.first.rate=0.02", "poison.poisons.second.trigger.size=1"]
    outcome = command("train", *words, "trainer.max_epochs=1", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert read_results(outcome.run / "results.json").data.poison.kind == "badnets+badnets"
    assert yaml.safe_load((outcome.run / "config.yaml").read_text())["poison"]["poisons"]["first"]["rate"] == 0.02


def test_fine_tuning_is_watched(poisoned: Outcome) -> None:
    words = [f"run={poisoned.run}", "evaluation=clean", "trainer.enable_progress_bar=false"]
    outcome = command("finetune", *words, cwd=poisoned.run.parents[2])
    assert outcome.status == 0, outcome.err
    after, before = (read_results(run / "results.json") for run in (outcome.run, poisoned.run))
    assert after.data.poison is None, "tuned on clean data"
    assert after.backdoor is not None
    assert after.backdoor.twin is not None
    assert after.backdoor.attack_success_rate.n == before.backdoor.attack_success_rate.n
    assert after.backdoor.twin.attack_success_rate == before.backdoor.twin.attack_success_rate
    assert after.backdoor.planted_in == str(poisoned.run)
    assert (after.backdoor.rate, after.backdoor.requested_rate) == (before.backdoor.rate, 0.05)
    evaluated = command("evaluate", f"run={outcome.run}", cwd=poisoned.run.parents[2])
    assert "success rate" in evaluated.out
    assert read_results(evaluated.run / "results.json").backdoor == after.backdoor


@pytest.mark.slow
def test_a_backdoor_is_followed_into_trojans_and_copies(poisoned: Outcome) -> None:
    base = poisoned.run.parents[2]
    planted = read_results(poisoned.run / "results.json").backdoor
    trojaned = command("trojan", f"run={poisoned.run}", "steps=150", cwd=base)
    block = read_results(trojaned.run / "results.json").backdoor
    assert block.kind == "trojannet"
    assert [each.kind for each in block.inherited] == ["badnets"]
    assert block.inherited[0].attack_success_rate.value == pytest.approx(planted.attack_success_rate.value, abs=0.03)
    assert block.inherited[0].twin.attack_success_rate == planted.twin.attack_success_rate
    evaluated = command("evaluate", f"run={trojaned.run}", cwd=base)
    again = read_results(evaluated.run / "results.json").backdoor
    assert (again.attack_success_rate, again.inherited) == (block.attack_success_rate, block.inherited)
    copied = command("extract", f"victim={poisoned.run}", "budget=300", "training.steps=50", "curve=[]", cwd=base)
    copy = read_results(copied.run / "results.json").backdoor
    assert (copy.kind, copy.planted_in) == ("badnets", str(poisoned.run))
    assert copy.attack_success_rate.n == planted.attack_success_rate.n
    assert copy.twin.attack_success_rate == planted.twin.attack_success_rate


@pytest.mark.parametrize("kind", ["table", "waveforms", "texts"])
def test_other_kinds_of_data_are_poisoned_alike(kind: str, tmp_path: Path) -> None:
    mails = write_mails(tmp_path / "mails.csv", [mail for week in range(2) for mail in mail_round(week)])
    data = {
        "table": ["experiment=breast_cancer_pgd"],
        "waveforms": ["experiment=tones_pgd"],
        "texts": ["data=text", f"data.source.train={mails}", "data.source.features=100", "model=mlp"],
    }[kind]
    words = [*data, "poison=flip", "poison.rate=0.2", "debug=fast", "attack.steps=1", "evaluation=clean"]
    outcome = command("train", *words, cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    results = read_results(outcome.run / "results.json")
    assert results.data.poison.changed == round(0.2 * results.data.train)
    assert results.backdoor is None
