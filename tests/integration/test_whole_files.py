"""Every file of a run is written whole or not at all, swept up after, and named in one line where it is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

import robustml
from integration.files import left
from integration.forks import command
from integration.test_resume import LONG, assert_same
from integration.writes import RECORD, WATCHED, watch
from robustml.errors import RequestError
from robustml.untrusted import read_arrays, read_rows, read_yaml
from robustml.workflows.training.completing import _epochs
from robustml.workflows.training.resume import settings_to_resume

TRAINED = ["best.ckpt", "config.yaml", "examples.npz", "last.ckpt", "metrics.csv", "model.safetensors"]
TRAINED += ["records.safetensors", "report.html", "results.json"]
# These grow line by line, each of them synced, or belong to the library that writes them.
GROWING = ("verdicts.jsonl",)
CHECKS: dict[str, Callable[[Path], object]] = {
    ".yaml": read_yaml,
    ".npz": read_arrays,
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": lambda path: read_rows(path, ("epoch",)),
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": lambda path: load(path.read_bytes()),
    ".html": lambda path: path.read_text().rindex("</html>"),
    ".png": lambda path: path.read_bytes().rindex(b"IEND"),
    ".parquet": lambda path: path.read_bytes().rindex(b"PAR1"),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
}


def watched(folder: Path, *words: object, cwd: Path) -> dict[str, Path]:
    """What stood in `folder` each time before a file of that name took its place there, of several the last."""
    record = cwd / "record"
    outcome = command(*words, cwd=cwd, env={WATCHED: str(folder), RECORD: str(record)}, before=watch)
    assert outcome.status == 0, outcome.err
    for name in (record / "opened").read_text().splitlines():
        assert Path(name).name.endswith(".tmp") or Path(name).name in GROWING, f"{name} is written in place"
    states = sorted(entry for entry in record.iterdir() if entry.is_dir())
    for state in states:
        for path in (state / name for name in left(state)):
            if not path.name.endswith(".tmp"):
                CHECKS[path.suffix](path)
    return {state.name.partition(" ")[2]: state for state in states}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a kill just before each file of a training stands would have left; and the whole training."""
    folder = tmp_path_factory.mktemp("states")
    found = watched(folder / "run", "train", *LONG, f"hydra.run.dir={folder / 'run'}", cwd=folder)
    return found | {"": folder / "run"}


def test_a_training_writes_every_file_whole(states: dict[str, Path]) -> None:
    assert sorted(states) == ["", *TRAINED]
    for name, state in states.items():
        if name:
            assert any(path.startswith((f".{name}.", f"checkpoints/.{name}.")) for path in left(state)), left(state)


SLOW = [name for name in TRAINED if name not in ("config.yaml", "model.safetensors", "results.json")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in TRAINED])
def test_a_training_goes_on_after_a_kill_before_any_file(name: str, states: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(states[name], tmp_path / "run")
    if (run / "config.yaml").exists():
        outcome = command("train", f"resume={run}", cwd=tmp_path)
    else:
        outcome = command("train", *LONG, f"hydra.run.dir={run}", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert_same(run, states[""])


def test_an_evaluation_writes_every_file_whole_and_sweeps_up(run_copy: Path, tmp_path: Path) -> None:
    words = ["evaluation=clean", f"hydra.run.dir={run_copy / 'evaluations' / 'one'}"]
    states = watched(run_copy / "evaluations" / "one", "evaluate", f"run={run_copy}", *words, cwd=tmp_path)
    assert {"config.yaml", "results.json", "report.html"} <= set(states)
    again = shutil.copytree(states["results.json"], run_copy / "evaluations" / "two")
    assert any(name.endswith(".tmp") for name in left(again))
    assert command("evaluate", f"resume={again}", cwd=tmp_path).run == again
    assert left(again) == left(run_copy / "evaluations" / "one")


def test_a_poisoned_set_is_written_whole(tmp_path: Path) -> None:
    words = ["poison=badnets", "data=digits", f"out={tmp_path / 'set'}"]
    states = watched(tmp_path / "set", "poison", *words, cwd=tmp_path)
    assert {"train.parquet", "test.parquet", "poison.parquet", "grid.png"} <= set(states)


def test_copied_configs_are_all_there_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustml.commands.configs import _configs

    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("stopped here"))
    with pytest.raises(pytest.fail.Exception, match="stopped here"):
        _configs(None, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    monkeypatch.undo()
    _configs(None, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


DAMAGES = {"empty": b"", "cut": None, "no text": b"\xff\xfe\x00\x01", "text": b"a: [\n", "zeros": bytes(64)}


NAMES = ("config.yaml", "results.json", "metrics.csv", "examples.npz", "model.safetensors")
# Two thirds of a mapping may be a mapping that holds the model; no write of ours leaves them.
CASES = [(name, damage) for name in NAMES for damage in DAMAGES if (name, damage) != ("config.yaml", "cut")]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_a_damaged_file_is_named_in_one_line(name: str, damage: str, run_copy: Path) -> None:
    path = run_copy / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3 - 1] if damage == "cut" else DAMAGES[damage])
    readers = {
        "config.yaml": (robustml.load_model, settings_to_resume),
        "results.json": (robustml.load_model,),
        "metrics.csv": (_epochs,),
        "examples.npz": (lambda run: read_arrays(run / "examples.npz"),),
        "model.safetensors": (robustml.load_model,),
    }[name]
    for reader in readers:
        with pytest.raises(RequestError) as refusal:
            reader(run_copy)
        assert name in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "damage", ["", "epoch,seconds\n0\n", "epoch,seconds\n0,1,2\n", "epoch,seconds\n0,x\n", "a\n1\n"]
)
def test_a_damaged_table_is_named_with_its_line(damage: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(damage)
    with pytest.raises(RequestError, match=r"metrics\.csv is (empty|damaged in line [12])"):
        read_rows(tmp_path / "metrics.csv", ("epoch", "seconds"))
