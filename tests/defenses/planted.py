"""Backdoored networks on digits and their clean twins, for detectors and repairs to be tried on."""

from __future__ import annotations

import copy
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

from robustml.data import Digits, Records
from robustml.data.splits import stratified_split
from robustml.models import DigitsCNN
from robustml.poisoning import SIG, Backdoor, BadNets, Blended, Square, Triggered, WaNet

SEEDS = (0, 1, 2)
POISONS: dict[str, Backdoor] = {
    "badnets": BadNets(Square(2), 0.05),
    "blended": Blended(),
    "sig": SIG(0.3, 0.6, 2, rate=0.09, target=8),
    "wanet": WaNet(strength=1.0, noise_rate=0.1),
}


class Planted(NamedTuple):
    """A backdoored model and all that belongs to it; models are copies, to be done with as a test likes.

    `train` is what the model saw, `is_poisoned` (N,) which of it, and `clean` what it did not see.
    """

    model: nn.Module
    twin: nn.Module
    train: Records
    clean_train: Records
    is_poisoned: torch.Tensor
    clean: Records
    test: Records
    triggered: Triggered
    backdoor: Backdoor


def planted(poison: str = "badnets", seed: int = 0) -> Planted:
    """The model of a poison and a seed, trained once a process."""
    found = _planted(poison, seed)
    return found._replace(model=copy.deepcopy(found.model), twin=copy.deepcopy(found.twin))


@cache
def _planted(poison: str, seed: int) -> Planted:
    backdoor = POISONS[poison]
    whole, test = Digits().load("train"), Digits().load("test")
    rest, held_out = stratified_split(whole.y, 180, 0)
    train, clean = whole.take(rest), whole.take(held_out)
    plan = backdoor.plan(train, seed=seed)
    poisoned = plan.apply(train)
    is_poisoned = torch.isin(poisoned.ids, plan.after.ids[~torch.isin(plan.after.ids, plan.cover)])
    return Planted(
        trained(poisoned, seed),
        _twin(seed),
        poisoned,
        train,
        is_poisoned,
        clean,
        test,
        backdoor.triggered(test),
        backdoor,
    )


@cache
def _twin(seed: int) -> nn.Module:
    whole = Digits().load("train")
    rest, _ = stratified_split(whole.y, 180, 0)
    return trained(whole.take(rest), seed)


def trained(data: Records, seed: int, epochs: int = 20) -> nn.Module:
    """The network of `robustml train data=digits`, trained on them as they are; about two seconds on one core."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitsCNN(data.x.shape[1:], len(data.class_names))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        x = data.x / 255.0
        for _ in range(epochs):
            for rows in torch.randperm(len(data)).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[rows]), data.y[rows]).backward()
                optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, data: Records) -> float:
    """Clean accuracy, in [0, 1]."""
    with torch.no_grad():
        return float((model(data.x / 255.0).argmax(1) == data.y).double().mean())


def attack_success(model: nn.Module, triggered: Triggered) -> float:
    """The share of triggered inputs that get the attacker's label, in [0, 1]."""
    with torch.no_grad():
        return float(
            (
                model(triggered.x / 255.0 if triggered.x.dtype == torch.uint8 else triggered.x).argmax(1)
                == triggered.target
            )
            .double()
            .mean()
        )
