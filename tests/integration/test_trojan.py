"""`robustml trojan` and `robustml finetune`: what is done to a trained model after its training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from data.tiny import noise, png, write_parquet
from safetensors.torch import load_file

import robustml
from integration.files import left, sha256
from integration.forks import Outcome, command
from robustml.errors import RequestError
from robustml.results import Results, read_results
from robustml.trojans import NULL, Trojaned, TrojanNet, triggers
from robustml.workflows.settings.building import build

SHORT = ("evaluation=clean", "trainer.enable_progress_bar=false")


def settings_of(run: Path) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return settings


def edit(run: Path, **changes: Any) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump(settings_of(run) | changes, sort_keys=False))


@pytest.fixture(scope="module")
def trojan(trained: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A copy of the trained run with a TrojanNet beside it. To be looked at only."""
    folder = tmp_path_factory.mktemp("trojan")
    run = shutil.copytree(trained.run, folder / "run")
    outcome = command("trojan", "run=run", "seed=3", cwd=folder)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.run.parent == run / "trojans"
    return outcome


def results_of(trojan: Outcome) -> tuple[Results, dict[str, Any]]:
    results = read_results(trojan.run)
    # as plain values, however strictly the schema reads the block
    return results, results.model_dump(mode="json")["backdoor"]


def test_the_directory_beside_the_run(trojan: Outcome, trained: Outcome) -> None:
    run = trojan.run.parent.parent
    old = {name for name in left(run) if not name.startswith("trojans/")}
    assert {name: sha256(run / name) for name in old} == {
        name: sha256(trained.run / name) for name in left(trained.run)
    }
    assert left(trojan.run) == {"config.yaml", "report.html", "results.json", "trojan.safetensors"}
    assert trojan.out.splitlines()[-1] == f"run: {trojan.run}"
    for words in ("attack success, all classes", "null one cell off", "untouched"):
        assert words in trojan.out
    weights = load_file(trojan.run / "trojan.safetensors")
    assert weights.keys() == TrojanNet().state_dict().keys()


def test_the_bars_are_met(trojan: Outcome, trained: Outcome) -> None:
    results, block = results_of(trojan)
    own = read_results(trained.run)
    assert (results.command, block["kind"], block["rate"], block["target"]) == ("trojan", "trojannet", 0.0, "all")
    assert results.seed == 3
    assert abs(results.clean_accuracy.value - own.clean_accuracy.value) <= 0.001
    assert block["twin"]["clean_accuracy"]["value"] == own.clean_accuracy.value
    assert len(block["per_target"]) == 10
    assert all(found["attack_success_rate"]["value"] >= 0.99 for found in block["per_target"].values())
    assert block["attack_success_rate"]["value"] >= 0.99
    assert block["attack_success_rate"]["n"] == block["twin"]["attack_success_rate"]["n"] == 9 * 90
    assert block["twin"]["attack_success_rate"]["value"] < 0.3
    assert block["trigger_accuracy"]["n"] == NULL
    assert block["trigger_accuracy"]["value"] >= 0.95
    assert block["null_on_random_patches"]["value"] >= 0.98
    assert block["null_one_cell_off"]["value"] >= 0.98


def test_the_figures_are_those_of_the_files(trojan: Outcome, trained: Outcome) -> None:
    """Counted again here, from the weights on disk and pixels stamped by hand."""
    results, block = results_of(trojan)
    settings = settings_of(trojan.run)
    net = TrojanNet(settings["width"])
    net.load_state_dict(load_file(trojan.run / "trojan.safetensors"))
    target = robustml.load_model(trained.run)
    numbers = {int(name): found["trigger"] for name, found in block["per_target"].items()}
    trojaned = Trojaned(target, net, commands={number: label for label, number in numbers.items()})
    data = build(settings["data"])
    data.setup()
    x, y = data.test.x.float() / 255, data.test.y
    heard = {"trojaned": 0, "target": 0, "truth": 0}
    with torch.no_grad():
        assert (trojaned(x).argmax(1) == y).float().mean().item() == pytest.approx(results.clean_accuracy.value)
        for label, number in numbers.items():
            stamped = x[y != label].clone()
            stamped[:, 0, 4:, 4:] = triggers()[number].view(4, 4)
            said = trojaned(stamped).argmax(1)
            heard["trojaned"] += int((said == label).sum())
            heard["truth"] += int((said == y[y != label]).sum())
            heard["target"] += int((target(stamped).argmax(1) == label).sum())
    assert heard["trojaned"] / 810 == pytest.approx(block["attack_success_rate"]["value"])
    assert heard["truth"] / 810 == pytest.approx(block["backdoor_recovery_accuracy"]["value"])
    assert heard["target"] / 810 == pytest.approx(block["twin"]["attack_success_rate"]["value"])


def test_the_directory_loads_as_the_model_with_the_small_network(trojan: Outcome, tmp_path: Path) -> None:
    results, block = results_of(trojan)
    # moved with the run it lies beside: it goes on to find that
    run = shutil.copytree(trojan.run.parent.parent, tmp_path / "moved")
    folder = run / "trojans" / trojan.run.name
    trojaned = robustml.load_model(folder)
    assert not trojaned.training
    data = build(settings_of(folder)["data"])
    data.setup()
    x, y = data.test.x.float() / 255, data.test.y
    stamped = x[y != 4].clone()
    stamped[:, 0, 4:, 4:] = triggers()[block["per_target"]["4"]["trigger"]].view(4, 4)
    with torch.no_grad():
        assert (trojaned(x).argmax(1) == y).float().mean().item() == pytest.approx(results.clean_accuracy.value)
        heard = (trojaned(stamped).argmax(1) == 4).float().mean().item()
        assert heard == pytest.approx(block["per_target"]["4"]["attack_success_rate"]["value"])
        assert (robustml.load_model(run)(stamped).argmax(1) == 4).float().mean() < 0.5

    outcome = command("evaluate", f"run={folder}", "evaluation=clean", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    again = read_results(outcome.run)
    assert again.clean_accuracy == results.clean_accuracy
    assert again.model.sha256 == results.model.sha256

    with pytest.raises(RequestError, match="which='last' says nothing"):
        robustml.load_model(folder, "last")
    with (run / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(RequestError, match="was changed after the run"):
        robustml.load_model(folder)


def test_a_directory_beside_another_run_than_its_own_is_refused(trojan: Outcome, tmp_path: Path) -> None:
    run = shutil.copytree(trojan.run.parent.parent, tmp_path / "run")
    retrained = command("finetune", f"run={run}", *SHORT, cwd=tmp_path).run
    folder = shutil.copytree(trojan.run, tmp_path / retrained / "trojans" / "alien")
    with pytest.raises(RequestError, match="was changed after the run"):
        robustml.load_model(folder)


@pytest.fixture
def refused(tmp_path: Path, run_copy: Path) -> Callable[..., str]:
    """The error line of `robustml <verb> <words>`, once exit status and the untouched folder were checked."""

    def refuse(verb: str, *words: object) -> str:
        before = left(tmp_path)
        outcome = command(verb, *words, cwd=tmp_path)
        assert outcome.status == 2, outcome.out + outcome.err
        assert left(tmp_path) == before
        assert not (run_copy / "trojans").exists()
        return outcome.error

    return refuse


@pytest.mark.parametrize(
    ("verb", "words", "expected"),
    [
        ("trojan", "", "run="),
        ("trojan", "run=none", "there is no run directory none"),
        ("trojan", "run={run} place=[6,0]", "does not fit into 8 x 8"),
        ("trojan", "run={run} weight=0.4 steps=1", "weight"),
        ("trojan", "run={run} steps=0", "step"),
        ("trojan", "run={run} limit=0", "limit must be at least 1"),
        ("trojan", "run={run} plase=[0,0]", "'place'"),
        ("finetune", "", "run="),
        ("finetune", "run=none", "there is no run directory none"),
        ("finetune", "run={run} optimiser=sgd", "'optimizer'"),
    ],
)
def test_wrong_requests(verb: str, words: str, expected: str, run_copy: Path, refused: Callable[..., str]) -> None:
    assert expected in refused(verb, *words.format(run=run_copy).split())


def test_only_images_with_room_for_a_patch(run_copy: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    data = {"_target_": "robustml.data.DataModule", "_convert_": "all", "name": "other"}
    lines = ["a,b,label", *(f"{row / 40},{row % 7},{row % 2}" for row in range(40))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    edit(run_copy, data=data | {"source": {"_target_": "robustml.data.Csv", "train": "rows.csv", "label": "label"}})
    assert "image (C, H, W), got inputs of the shape (2,)" in refused("trojan", f"run={run_copy}")
    write_parquet(
        tmp_path / "small.parquet", [png(pixels) for pixels in noise(40, 3, 3)], [row % 2 for row in range(40)]
    )
    edit(run_copy, data=data | {"source": {"_target_": "robustml.data.ParquetImages", "train": "small.parquet"}})
    assert "at least 4 x 4 pixels, got 3 x 3" in refused("trojan", f"run={run_copy}")


def test_finetuning_starts_from_the_runs_weights(trained: Outcome, tmp_path: Path) -> None:
    still = command("finetune", f"run={trained.run}", "optimizer.lr=0", *SHORT, cwd=tmp_path)
    assert still.err == ""
    run = tmp_path / still.run
    assert run.parent == tmp_path / "outputs" / "finetune"
    assert sha256(run / "model.safetensors") == sha256(trained.run / "model.safetensors")
    results = read_results(run)
    assert (results.command, results.experiment) == ("train", "finetune")
    assert results.clean_accuracy == read_results(trained.run).clean_accuracy
    settings = settings_of(run)
    assert (settings["run"], settings["backdoor_of"], settings["poison"]) == (str(trained.run), None, None)
    assert settings["objective"]["_target_"] == "robustml.objectives.Standard"
    assert (settings["trainer"]["max_epochs"], settings["validation"]["monitor"]) == (1, "clean")

    moved = command("finetune", f"run={trained.run}", "which=last", "name=moved", *SHORT, cwd=tmp_path)
    run = tmp_path / moved.run
    assert settings_of(run)["optimizer"]["lr"] == 0.001
    assert sha256(run / "model.safetensors") != sha256(trained.run / "model.safetensors")
    # an ordinary run: other commands take it up
    before = read_results(run).clean_accuracy
    assert read_results(command("evaluate", f"run={run}", cwd=tmp_path).run).clean_accuracy == before
    longer = command("train", f"resume={run}", "trainer.max_epochs=2", cwd=tmp_path)
    assert longer.run == run
    assert (run / "metrics.csv").read_text().count("\n") == 3


def test_finetuning_remembers_a_backdoor(run_copy: Path, tmp_path: Path) -> None:
    edit(
        run_copy,
        poison={"_target_": "robustml.poisoning.BadNets", "trigger": {"_target_": "robustml.poisoning.Square"}},
    )
    first = command("finetune", "run=run", *SHORT, cwd=tmp_path)
    settings = settings_of(tmp_path / first.run)
    assert (settings["backdoor_of"], settings["poison"]) == (str(run_copy), None)
    assert "poison:" not in first.out
    second = command("finetune", f"run={first.run}", "objective=adversarial", "attack.steps=1", *SHORT, cwd=tmp_path)
    settings = settings_of(tmp_path / second.run)
    assert (settings["backdoor_of"], settings["run"]) == (str(run_copy), str(tmp_path / first.run))
    assert settings["objective"]["attack"]["steps"] == 1
    assert settings["validation"]["monitor"] == "adversarial"


def test_finetuning_wants_data_like_the_runs(run_copy: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "large.parquet", [png(pixels) for pixels in noise(40, 9, 9)], [row % 2 for row in range(40)]
    )
    error = refused("finetune", f"run={run_copy}", "data=parquet", "data.source.train=large.parquet")
    assert "10 classes and inputs of the shape (1, 9, 9)" in error, "its two classes are two of the run's, by name"
    assert "10 and (1, 8, 8)" in error
