"""The objects that a config describes, built in the order in which they depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustml.calling import refuse_misfit
from robustml.data import DataModule
from robustml.data.understood import listed, summary_lines
from robustml.errors import RequestError, printable
from robustml.say import say
from robustml.types import Attack, Threat
from robustml.workflows.integrity.guarding import check_root, guarded
from robustml.workflows.reading.records import leave_out_known
from robustml.workflows.settings import read_settings
from robustml.workflows.settings.building import Settings, build, plain_target


def load_data(settings: Settings, run: Path | None = None) -> DataModule:
    """Load the data that settings describe, and say what was made of them.

    Args:
        settings: of the data.
        run: whose model the data are for. Labels are then those of its classes, by name, and test records that it was
            trained on are left out.

    Raises:
        RequestError: the data cannot be loaded, are not what the settings promise, or not of the run's classes.
    """
    known = read_settings(run).get("data") if run is not None else None
    if known and known.get("class_names") and "class_names" not in settings:  # other data, chosen as a group
        settings = settings | {"class_names": known["class_names"]}
    data = guarded(described_data(settings))
    data.setup()
    tell(data)
    if run is not None:
        check_root(run, data)
    if run is not None and (note := leave_out_known(run, data)) is not None:
        say(f"note:   {note}")
    return data


def described_data(settings: Settings) -> DataModule:
    """The data that settings describe, not loaded yet; raises RequestError where they describe none."""
    data = build(settings, "data")
    if not isinstance(data, DataModule):
        raise RequestError(f"data must be a robustml.data.DataModule, got {type(data).__name__}")
    return data


def tell(data: DataModule) -> None:
    """Say what was made of the files of the data: columns, what is left out and why, and how many rows a class has."""
    for line in summary_lines(data.understood):
        say(f"read:   {line}")
    counts = data.train.y.bincount(minlength=data.num_classes).tolist()
    classes = listed([f"{name} {count}" for name, count in zip(data.class_names, counts, strict=True)], 12)
    say(f"labels: {printable(classes)}")


def introduce(data: DataModule, threat: Threat, model_settings: Mapping[str, Any], model: nn.Module) -> None:
    """Say what was understood: the data, the threat with its parsed eps, the model."""
    facts = data.summary()
    say(
        f"data:   {facts.name}, {facts.train} train / {facts.val} validation / {facts.test} test, "
        f"{data.num_classes} classes, shape {'x'.join(map(str, data.shape))}"
    )
    if data.exclude is not None and facts.excluded:
        say(f"data:   without {facts.excluded:,} training records that {data.exclude} names")
    for note in data.notes():
        say(f"note:   {note}")
    if facts.extra is not None:
        say(f"extra:  {facts.extra.train} images, {facts.extra.ratio:.0%} of each training batch")
        for line in data.extra.records.understood.lines() if data.extra is not None else ():
            say(f"extra:  {line}")
    say(f"threat: {threat.describe() if hasattr(threat, 'describe') else type(threat).__name__}")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(f"model:  {plain_target(model_settings)}, {parameters:,} parameters")


def build_attacks(settings: Mapping[str, Any], threat: Threat) -> dict[str, Attack]:
    """The attacks of the `evaluation` settings; what could not run is refused now, not after hours of training."""
    attacks: dict[str, Attack] = {
        name: build(attack, f"evaluation.attacks.{name}") for name, attack in settings["attacks"].items()
    }
    for name, attack in attacks.items():
        if not callable(attack):
            raise RequestError(
                f"evaluation.attacks.{name} has no _target_, so it is no attack: leave it out, or add one with "
                f"+attack@evaluation.attacks.{name}=pgd"
            )
        refuse_misfit(attack, threat)
    curve = settings.get("curve") or {}
    if curve and curve["attack"] not in attacks:
        raise RequestError(
            f"evaluation.curve.attack={curve['attack']!r} is none of evaluation.attacks ({', '.join(attacks)})"
        )
    return attacks


def pick_device(name: str | None) -> torch.device:
    """The device of that name; CUDA where there is one, else the CPU, if it is None.

    Raises:
        RequestError: there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RequestError(f"device={name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
