"""A limit of time holds within an attack, whichever it is; what was found until then counts, and is not lost."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Generator, Tensor, nn

from robustml import deadline
from robustml.attacks import PGD, AutoAttack, Transfer, UniversalPGD
from robustml.deadline import Deadline, OutOfTime
from robustml.evaluation import evaluate
from robustml.threats import LpBall, Patch, SparseBall, Spatial
from robustml.types import Threat

CONFIGS = Path(__file__).parents[2] / "configs"
THREATS: dict[str, Threat] = {
    "ddn": LpBall(2, 1.0),
    "patch_pgd": Patch(3),
    "pgd_l0": SparseBall(4),
    "sparse_rs": SparseBall(4),
    "spatial": Spatial(rotations=5, shifts=3),
}
INF = LpBall("inf", 0.1)
NAMES = sorted(path.stem for path in (CONFIGS / "attack").glob("*.yaml"))
LIMIT = 1.0


class Slow(nn.Module):
    """A model that thinks for a while, about each layer."""

    def __init__(self, model: nn.Module, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds = model, seconds

    def forward(self, x: Tensor) -> Any:
        time.sleep(self.seconds)
        return self.model(x)


class Costly(nn.Module):
    """A model by whose work alone the time passes: so much an image, whatever else the machine does."""

    def __init__(self, model: nn.Module, seconds: float, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.model, self.seconds, self.now = model, seconds, 0.0
        patch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: self.now))

    def forward(self, x: Tensor) -> Any:
        self.now += self.seconds * len(x)
        return self.model(x)


def attack_of(name: str, model: nn.Module) -> Any:
    """What a config describes, aimed through another model where it needs one."""
    if name == "transfer":
        return Transfer(model, PGD(steps=100))
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # imports a compiler when it is first made, which takes seconds
    if name.startswith("torchattacks."):
        with initialize_config_dir(str(CONFIGS), version_base=None):
            return instantiate(compose("attack/torchattacks", [f"attack.name={name.partition('.')[2]}"]).attack)
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return instantiate(compose(f"attack/{name}").attack)


ROWS = [*NAMES, *(f"torchattacks.{name}" for name in ("CW", "AutoAttack", "DeepFool", "OnePixel", "EADL1"))]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "pgd" else pytest.mark.slow) for name in ROWS])
def test_a_limit_holds_within_every_attack(name: str, digits_net: Any) -> None:
    model, (x, y) = digits_net
    slow, attacked = Slow(model, 0.06), []
    attack = attack_of(name, slow)
    began = time.monotonic()
    results = evaluate(
        slow,
        list(zip(x[:60].split(20), y[:60].split(20), strict=True)),
        {name: attack},
        THREATS.get(name, INF),
        time_limit=LIMIT,
        on_attack=lambda *which: attacked.append(which),
    )
    took = time.monotonic() - began
    print(f"{name}: {took:.2f} s, {results.attacks[name].pending} to go")
    assert took <= 1.1 * LIMIT + 2
    assert results.attacks[name].seconds > 0.3, "it never began"
    if name not in ("fgsm", "fgsm_rs"):  # a single step ends in time
        assert not results.complete
        assert len(attacked) < 3
    assert results.worst_case.robust_accuracy.value <= results.clean_accuracy.value


def test_what_was_found_counts_and_a_large_batch_is_taken_up_by_halves(
    digits_net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x, y) = digits_net
    costly = Costly(model, 0.0004, monkeypatch)
    attack = {"pgd": PGD(steps=5, restarts=4, early_stop=True)}
    loader, record = [(x[:60], y[:60])], tmp_path / "verdicts.jsonl"
    whole = evaluate(model, loader, attack, INF).verdicts.attacks["pgd"]
    found = []
    for _ in range(15):
        results = evaluate(costly, loader, attack, INF, progress=record, time_limit=0.3, examples=0)
        verdicts = results.verdicts.attacks["pgd"]
        assert (verdicts.robust >= whole.robust).all()
        found.append(int((~verdicts.robust).sum()))
        if results.complete:
            break
    assert results.complete
    assert len(found) > 1, "nothing was ever stopped"
    assert found == sorted(found)
    assert np.array_equal(verdicts.robust, whole.robust)
    assert np.allclose(verdicts.distance, whole.distance, atol=1e-6)


@pytest.mark.parametrize("processes", [1, 2])
def test_members_of_autoattack_that_ended_are_kept(
    digits_net: Any, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x, y) = digits_net
    threat, costly = LpBall("inf", 0.12), Costly(model, 0.0001, monkeypatch)
    with pytest.raises(OutOfTime) as stopped, Deadline(0.8).held():
        AutoAttack(processes=processes)(costly, x[:40], y[:40], threat, generator=Generator().manual_seed(0))
    found = stopped.value.found
    assert found is not None
    assert threat.contains(found, x[:40]).all()
    assert (model(found).argmax(1) != y[:40]).sum() > (model(x[:40]).argmax(1) != y[:40]).sum()


def test_ctrl_c_within_an_attack_keeps_what_it_found(digits_net: Any, tmp_path: Path) -> None:
    model, (x, y) = digits_net
    asked = 0

    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Any:
            nonlocal asked
            asked += 1
            if asked == 40:
                raise KeyboardInterrupt
            return self.model(images)

    attack = {"pgd": PGD(steps=10, restarts=20, early_stop=True)}
    record = tmp_path / "verdicts.jsonl"
    early = evaluate(Stopped(), [(x[:50], y[:50])], attack, INF, progress=record)
    assert not early.complete
    assert early.attacks["pgd"].robust_accuracy.value < early.clean_accuracy.value
    later = evaluate(Stopped(), [(x[:50], y[:50])], attack, INF, progress=record)
    whole = evaluate(model, [(x[:50], y[:50])], attack, INF)
    assert later.complete
    assert np.array_equal(later.verdicts.attacks["pgd"].robust, whole.verdicts.attacks["pgd"].robust)


def test_an_attack_that_catches_everything_is_stopped_too(digits_net: Any) -> None:
    model, (x, y) = digits_net

    def stubborn(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        while True:
            try:
                model(x)
            except Exception:
                continue

    results = evaluate(
        model, [(x[:20], y[:20])], {"stubborn": stubborn, "universal": UniversalPGD()}, INF, time_limit=0.2
    )
    assert results.attacks["stubborn"].pending == int(results.verdicts.correct.sum())
    assert not torch.nn.modules.module._global_forward_pre_hooks
