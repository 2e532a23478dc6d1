"""The files of a run may come from a stranger: where they lead, what they delete, where a resumed run writes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import robustml
from integration.forks import Outcome
from integration.stranger import BALL, BASE, MODEL, TIMM, Settings, code, made, put
from robustml.errors import RequestError
from robustml.reporting import read_run
from robustml.training import best_and_last
from robustml.workflows.resume import settings_to_resume
from robustml.workflows.run import offline

FILES = ("config.yaml", "results.json", "model.safetensors", "metrics.csv", "examples.npz", "checkpoints/last.ckpt")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder link"])
def test_a_run_directory_leads_nowhere_else(name: str, kind: str, trained: Outcome, tmp_path: Path) -> None:
    run, path = shutil.copytree(trained.run, tmp_path / "run"), tmp_path / "run" / name
    elsewhere = tmp_path / "elsewhere"
    if kind == "folder link":
        path = path.parent if path.parent != run else path
    if path.is_dir():
        path.rename(elsewhere)
    else:
        shutil.move(path, elsewhere)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere)
    for read in (robustml.load_model, read_run, settings_to_resume):
        with pytest.raises(RequestError, match=f"{path.name} is refused: it is (a link that leads out|neither)"):
            read(run)


def test_a_link_within_the_run_is_its_own_business(run_copy: Path) -> None:
    (run_copy / "checkpoints" / "best.ckpt").rename(run_copy / "checkpoints" / "first.ckpt")
    (run_copy / "checkpoints" / "best.ckpt").symlink_to("first.ckpt")
    assert robustml.load_model(run_copy)


def test_a_trojan_that_names_itself_ends(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    settings = BASE | {"run": str(run), "which": "best", "width": 8, "place": "upper_left", "weight": 1.0}
    (run / "config.yaml").write_text(yaml.safe_dump(settings | {"temperature": 1.0}))
    (run / "trojan.safetensors").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    (run / "results.json").write_text(json.dumps({"model": {"sha256": f"sha256:{digest}"}}))
    with pytest.raises(RequestError, match="names itself"):
        robustml.load_model(run)


def test_weights_that_are_none_are_one_line(run_copy: Path) -> None:
    last = run_copy / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    key = next(iter(checkpoint["state_dict"]))
    for value in (3, torch.ones(2, device="meta"), torch.eye(2).to_sparse(), torch.zeros(1).expand(10**12)):
        torch.save(checkpoint | {"state_dict": checkpoint["state_dict"] | {key: value}}, last)
        with pytest.raises(RequestError, match=r"no tensor|another architecture|no state dict|cannot be read"):
            robustml.load_model(run_copy, "last")
    for content in ({}, {"state_dict": 3}, [], {"state_dict": {3: torch.ones(1)}}):
        torch.save(content, last)
        with pytest.raises(RequestError, match=r"no state dict|another architecture|cannot be read"):
            robustml.load_model(run_copy, "last")


@pytest.mark.parametrize("classes", [2**34, 2**40, 2**62, "ten", -1])
def test_no_room_is_made_for_a_model_larger_than_its_weights(classes: object, run_copy: Path) -> None:
    settings = yaml.safe_load((run_copy / "config.yaml").read_text())
    settings["model"] = MODEL | {"num_classes": classes}
    (run_copy / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(RequestError, match=r"another architecture|cannot be built|num_classes"):
        robustml.load_model(run_copy)


def test_a_checkpoint_cannot_choose_what_is_deleted(tmp_path: Path) -> None:
    state = best_and_last(tmp_path / "checkpoints", "val/clean").state_dict()
    for path in ("..", "/", "checkpoints/..", "", ".", "config.yaml", str(tmp_path / "mine.ckpt"), 3):
        for hostile in ({"best_model_path": path or ".."}, {"best_k_models": {path: torch.tensor(0.1)}}):
            with pytest.raises(RequestError, match="none of ours"):
                best_and_last(tmp_path / "checkpoints", "val/clean").load_state_dict(state | hostile)
    moved = best_and_last(tmp_path / "checkpoints", "val/clean")
    moved.load_state_dict(state | {"best_model_path": "/old/checkpoints/best.ckpt"})
    assert moved.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")


def test_a_resumed_run_writes_below_itself(tmp_path: Path) -> None:
    def elsewhere(settings: Settings) -> None:
        settings["output"] = "/somewhere"
        settings["callbacks"]["look"] = code(
            "robustml.training.callbacks.RobustEvaluation", attacks={}, threat=BALL, folder="/etc/evaluation"
        )
        settings["logger"]["wandb"] = code("pytorch_lightning.loggers.WandbLogger", save_dir="/etc", offline=True)

    run = made(tmp_path / "outputs" / "stranger" / "now", elsewhere)
    settings = settings_to_resume(run)
    assert settings["callbacks"]["look"]["folder"] == str(run / "evaluation")
    assert {logger["save_dir"] for logger in settings["logger"].values()} == {str(run)}
    assert settings["output"] == str(tmp_path / "outputs")
    assert settings_to_resume(made(tmp_path / "own"))["output"] == "outputs"
    for folder in ("..", "/", "a/..", "."):
        settings = settings_to_resume(made(tmp_path / "run", put("callbacks.stop.folder", folder)))
        assert settings["callbacks"]["stop"]["folder"] == str(tmp_path / "run" / "evaluation")
    for place, node, says in (
        ("logger.tensorboard.name", "../../..", "a name that is a path"),
        ("logger.tensorboard.version", "..", "a name that is a path"),
        ("logger.tensorboard.dir", "/etc", "told dir"),
        ("logger.mine", code("pytorch_lightning.loggers.WandbLogger", offline=False), "send what it logs"),
        ("logger", [1], "settings by name"),
        ("model", TIMM | {"pretrained": True}, "would fetch weights"),
    ):
        with pytest.raises(RequestError, match=says):
            settings_to_resume(made(tmp_path / "run", put(place, node)))


def test_weights_at_hand_are_not_fetched(tmp_path: Path) -> None:
    assert offline(TIMM | {"pretrained": True})["pretrained"] is False
    assert offline(MODEL) == MODEL
