"""What backdoors by data must show on digits: success beside clean accuracy and the clean twin, medians of 3 seeds."""

from __future__ import annotations

from statistics import mean, median
from typing import NamedTuple

import pytest
import torch
from torch import nn

from robustml.attacks import PGD
from robustml.data import Digits, Records
from robustml.evaluation import backdoor_success
from robustml.poisoning import (
    SIG,
    Backdoor,
    BadNets,
    Blended,
    FourCorners,
    GradientMatching,
    InputAware,
    LabelConsistent,
    Square,
    WaNet,
)
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.3)

SEEDS = (0, 1, 2)


class Setting(NamedTuple):
    """Digits, and a model of each seed that was trained on them untouched."""

    train: Records
    test: Records
    twins: list[nn.Module]


class Figures(NamedTuple):
    """The four numbers of a backdoor, each a median."""

    accuracy: float
    twin_accuracy: float
    success: float
    twin_success: float


def trained(data: Records, seed: int, steps: int = 400) -> nn.Module:
    """A small network that sees 128 rows a step; the same seed starts alike and draws alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        x = data.x / 255.0
        for _ in range(steps):
            rows = torch.randint(len(data), (128,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), data.y[rows]).backward()
            optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, data: Records) -> float:
    with torch.no_grad():
        return float((model(data.x / 255.0).argmax(1) == data.y).double().mean())


@pytest.fixture(scope="module")
def setting() -> Setting:
    train, test = Digits().load("train"), Digits().load("test")
    return Setting(train, test, [trained(train, seed) for seed in SEEDS])


def figures(poison: Backdoor, setting: Setting, seeds: tuple[int, ...] = SEEDS) -> Figures:
    shown = poison.triggered(setting.test)
    rows = []
    for seed in seeds:
        model, twin = trained(poison.plan(setting.train, seed=seed).apply(setting.train), seed), setting.twins[seed]
        success = [backdoor_success(other, shown).attack_success_rate.value for other in (model, twin)]
        rows.append((accuracy(model, setting.test), accuracy(twin, setting.test), *success))
    print(f"{type(poison).__name__}, CA, CA of the twin, ASR, ASR of the twin a seed:")  # for docs/measured/threats.md
    print("\n".join("  " + " ".join(f"{value:.3f}" for value in row) for row in rows))
    return Figures(*(median(column) for column in zip(*rows, strict=True)))


def test_badnets(setting: Setting) -> None:
    found = {rate: figures(BadNets(Square(2), rate), setting) for rate in (0.01, 0.05, 0.1)}
    assert found[0.05].success >= 0.90
    assert found[0.05].accuracy >= found[0.05].twin_accuracy - 0.02
    assert found[0.05].twin_success <= 0.02
    assert found[0.01].success < found[0.05].success <= found[0.1].success


def test_badnets_all_to_all(setting: Setting) -> None:
    poison = BadNets(Square(2), 0.1, "next")
    shown = poison.triggered(setting.test)
    models = [trained(poison.plan(setting.train, seed=seed).apply(setting.train), seed, steps=1000) for seed in SEEDS]
    success = [backdoor_success(model, shown).attack_success_rate.value for model in models]
    print(f"all to all, ASR a seed: {success}")
    assert median(success) >= 0.80
    assert max(backdoor_success(twin, shown).attack_success_rate.value for twin in setting.twins) <= 0.05


@pytest.mark.parametrize(
    ("poison", "least", "cost"),
    [
        pytest.param(Blended(), 0.90, 0.02, id="blended"),
        # The strokes of an 8 are hard enough for stripes to be of help; a 0 is learnt from its own.
        pytest.param(SIG(0.3, 0.6, 2, rate=0.09, target=8), 0.80, 0.04, id="sig"),
        pytest.param(WaNet(strength=1.0, noise_rate=0.1), 0.40, 0.03, id="wanet"),
    ],
)
def test_success_is_the_poisons_doing(poison: Backdoor, least: float, cost: float, setting: Setting) -> None:
    found = figures(poison, setting)
    assert found.success >= least
    assert found.twin_success <= 0.05
    assert found.accuracy >= found.twin_accuracy - cost


def test_label_consistent(setting: Setting) -> None:
    attack = PGD(steps=10)
    found = figures(
        LabelConsistent(setting.twins[1], attack, THREAT, FourCorners(amplitude=64 / 255), FourCorners()), setting
    )
    assert found.success >= 0.90
    assert found.twin_success <= 0.05
    assert found.accuracy >= found.twin_accuracy - 0.02


def test_input_aware(setting: Setting) -> None:
    poison = InputAware(setting.twins[1], Digits(), density=0.1, width=4, mask_steps=60, steps=150, batch_size=64)
    found = figures(poison, setting, (0,))
    # some, not most: the victim never met the generator (the module says so)
    assert found.success >= found.twin_success + 0.2


def test_gradient_matching(setting: Setting) -> None:
    # Random rows and classes, a poison and a victim each. Within the paper's 16/255 none is hit on digits, whose pixels
    # reach from black to white: docs/measured/threats.md has the figures.
    draws = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(setting.test), generator=draws)[:8]
    offsets = torch.randint(1, 10, (8,), generator=draws)
    targets = (setting.test.y[rows] + offsets) % 10
    hits, hits_of_twins = [], []
    for number, (row, target) in enumerate(zip(rows.tolist(), targets.tolist(), strict=True)):
        poison = GradientMatching(
            setting.twins[1], Digits(), [row], target, rate=0.09, eps=0.65, steps=60, step_size=0.13
        )
        model = trained(poison.plan(setting.train, seed=number).apply(setting.train), seed=100 + number)
        shown = poison.triggered(setting.test)
        hits.append(backdoor_success(model, shown).attack_success_rate.value)
        hits_of_twins += [backdoor_success(twin, shown).attack_success_rate.value for twin in setting.twins]
        assert accuracy(model, setting.test) >= accuracy(setting.twins[0], setting.test) - 0.05
    print(f"GradientMatching, hits of 8: {sum(hits):.0f}, of the twins: {sum(hits_of_twins):.0f} of 24")
    assert mean(hits) >= 0.6
    assert mean(hits_of_twins) <= 0.05
