"""The clean twin of a poisoned run: the same settings and seed without the poison, trained once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from robustml import __version__
from robustml.say import say
from robustml.workflows.integrity.guarding import guarded
from robustml.workflows.run import RESULTS
from robustml.workflows.settings.building import build

# What says where a run goes and how it is watched, not what comes out of it.
_NOT_PART_OF_IT = ("name", "output", "logger", "overrides", "resume", "poison", "twin")


def clean_twin(settings: dict[str, Any], train: Callable[..., object]) -> Path:
    """The run directory of the twin, ``<output>/twins/<digest of its config>``; trained now if it is not there.

    Args:
        settings: of the poisoned run.
        train: `(settings, data, run, resume=...)`, trains and judges into a run directory.
    """
    data = build(settings["data"])
    guarded(data).setup()
    own = {key: value for key, value in settings.items() if key not in _NOT_PART_OF_IT}
    identity = json.dumps([own, data.fingerprint, __version__, torch.__version__], sort_keys=True, default=str)
    folder = Path(settings["output"]) / "twins" / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if (folder / RESULTS).is_file():
        say(f"clean twin: {folder}, trained before")
        return folder
    say("\nthe clean twin: the same training without the poison")
    folder.mkdir(parents=True, exist_ok=True)
    clean = {"name": f"{settings['name']}_twin", "output": settings["output"], "poison": None, "twin": False}
    train(own | clean | {"logger": {}}, data, folder, resume=True)
    say("\nthe poisoned run:")
    return folder
