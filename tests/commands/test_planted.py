"""Which backdoors are in a model, read off run directories: their own, inherited ones, and where runs were moved to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from robustml.data import DataModule, Records
from robustml.errors import RequestError
from robustml.poisoning import BadNets, Shortcut
from robustml.reporting.runs import lying
from robustml.results import Results, rate, write_results
from robustml.workflows.measuring.backdoors import check_shown, inherited, planted_in, shown_on, twin_of

SQUARE = {"_target_": "robustml.poisoning.Square", "size": 2}
BADNETS = {"_target_": "robustml.poisoning.BadNets", "trigger": SQUARE, "rate": 0.1, "target": 1}
FLIP = {"_target_": "robustml.poisoning.Flip", "rate": 0.2}
SHORTCUT = {"_target_": "robustml.poisoning.Shortcut", "trigger": SQUARE}


def run_of(folder: Path, poison: Any = None, backdoor_of: Path | None = None, twin: Path | str | None = None) -> Path:
    """A finished run directory, as far as this reads it."""
    folder.mkdir(parents=True)
    settings = {"poison": poison} | ({} if backdoor_of is None else {"backdoor_of": str(backdoor_of)})
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    figures = {"clean_accuracy": rate(9, 10).model_dump(), "attack_success_rate": rate(5, 10).model_dump()}
    block = {"kind": "badnets", "rate": 0.1, "requested_rate": 0.1, "attack_success_rate": rate(8, 10).model_dump()}
    planted = poison in (BADNETS, SHORTCUT)
    told = {"kind": "badnets", "rate": 0.1, "poisoned": 1} if planted else None
    results = {
        "schema": 1, "command": "train", "experiment": "e", "seed": 0, "data": {"name": "d", "poison": told},
        "model": {"name": "m"},
        "threat": {"norm": "inf", "eps": 0.1}, "clean_accuracy": rate(9, 10).model_dump(),
        "backdoor": block | {"twin": None if twin is None else {"run": str(twin), **figures}} if planted else None,
    }  # fmt: skip
    write_results(Results.model_validate(results), folder / "results.json")
    return folder


def test_a_run_has_its_own_backdoor_and_those_of_the_runs_before(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    twin = run_of(outputs / "twins" / "abc")
    first = run_of(outputs / "train" / "1", BADNETS, twin=twin)
    clean = run_of(outputs / "finetune" / "2", None, first)
    again = run_of(outputs / "finetune" / "3", SHORTCUT, clean)
    last = run_of(outputs / "finetune" / "4", FLIP, again)
    assert planted_in(run_of(outputs / "train" / "5")) == []
    assert planted_in(run_of(outputs / "train" / "6", FLIP)) == []
    (own,) = planted_in(first)
    assert isinstance(own.backdoor, BadNets)
    assert (own.twin, own.run, own.figures["rate"]) == (twin, first, 0.1)
    assert [each.run for each in planted_in(clean)] == [first]
    shortcut, badnets = planted_in(last)
    assert isinstance(shortcut.backdoor, Shortcut)
    assert (shortcut.run, badnets.run, badnets.twin) == (again, first, twin)
    assert inherited({"backdoor_of": None}, last) == []


def test_runs_that_were_moved_together_find_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "here" / "outputs"
    run_of(outputs / "twins" / "abc")
    first = run_of(outputs / "train" / "1", BADNETS, twin="outputs/twins/abc")  # as recorded: from where it was trained
    run_of(outputs / "finetune" / "2", None, first)
    moved = tmp_path / "there" / "deep" / "outputs"
    moved.parent.mkdir(parents=True)
    shutil.move(outputs, moved)
    monkeypatch.chdir(tmp_path)
    (found,) = planted_in(moved / "finetune" / "2")
    assert (found.run, found.twin) == (moved / "train" / "1", moved / "twins" / "abc")
    assert lying("../../secrets", moved) is None
    shutil.rmtree(moved / "twins")
    assert twin_of(moved / "train" / "1") is None
    assert "its figures are left out" in capsys.readouterr().out
    shutil.rmtree(moved / "train")
    with pytest.raises(RequestError, match="may still have, but that is gone: name where it lies now"):
        planted_in(moved / "finetune" / "2")


def test_runs_that_name_each_other_are_refused(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", BADNETS, tmp_path / "other")
    run_of(tmp_path / "other", None, one)
    with pytest.raises(RequestError, match="leads back"):
        planted_in(one)


def test_what_cannot_be_shown_is_known_before_it_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Tiny:
        def load(self, split: str) -> Records:
            return Records(torch.zeros(6, 1, 1, 1, dtype=torch.uint8), torch.arange(6) % 2, ("a", "b"))

    data = DataModule(Tiny(), name="tiny", val_size=0)
    data.setup()
    planted = planted_in(run_of(tmp_path / "run", BADNETS))
    with pytest.raises(RequestError, match="does not fit into 1 x 1; backdoor_of=null measures without it"):
        check_shown(planted, data)
    assert shown_on(planted, data) == []
    assert "not measured" in capsys.readouterr().out
