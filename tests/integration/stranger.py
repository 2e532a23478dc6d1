"""Run directories as a stranger could make them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "BALL",
    "BASE",
    "DATA",
    "DIGITS",
    "HUB",
    "LOAD",
    "MODEL",
    "PGD",
    "SHELL",
    "TIMM",
    "Bomb",
    "Settings",
    "code",
    "made",
    "put",
]

Settings = dict[str, Any]

BALL = {"_target_": "robustml.threats.LpBall", "p": "inf", "eps": 0.1}
PGD = {"_target_": "robustml.attacks.PGD", "steps": 2}
MODEL = {"_target_": "robustml.models.MLP", "shape": [1, 8, 8], "num_classes": 10, "hidden": [4]}
DIGITS = {"_target_": "robustml.data.Digits"}
DATA = {"_target_": "robustml.data.DataModule", "_convert_": "all", "source": DIGITS, "name": "digits"}
BASE: Settings = {
    "name": "stranger",
    "seed": 0,
    "output": "outputs",
    "data": DATA | {"augment": [{"_target_": "robustml.data.RandomCrop", "padding": 1}], "shape": [1, 8, 8]},
    "model": MODEL,
    "threat": BALL,
    "attack": PGD,
    "objective": {"_target_": "robustml.objectives.Adversarial", "attack": PGD},
    "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1},
    "scheduler": None,
    "trainer": {"_target_": "pytorch_lightning.Trainer", "max_epochs": 1},
    "validation": {"monitor": "clean", "attack": PGD},
    "evaluation": {"attacks": {"pgd": PGD}, "seed": 0, "limit": 5, "batch_size": 5},
    "callbacks": {"stop": {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "val/loss"}},
    "logger": {"tensorboard": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "save_dir": "/"}},
}


class Bomb:
    """What a pickle runs when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def made(folder: Path, change: Callable[[Settings], object] | None = None) -> Path:
    """A run directory with a config that somebody changed."""
    settings = copy.deepcopy(BASE)
    if change is not None:
        change(settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def put(place: str, node: Any) -> Callable[[Settings], None]:
    """Puts something at a dotted place of the settings."""

    def change(settings: Settings) -> None:
        *way, last = place.split(".")
        for key in way:
            settings = settings.setdefault(key, {})
        settings[last] = node

    return change


def code(target: str, **arguments: Any) -> Settings:
    return {"_target_": target} | arguments


LOAD = code("torch.load", f="x.pt", weights_only=False)
SHELL = code("os.system", command="mkdir canary")
TIMM = code("robustml.models.timm_model", name="resnet18", num_classes=10, shape=[1, 8, 8])
HUB = code("robustml.data.HubImages", path="owner/set")
