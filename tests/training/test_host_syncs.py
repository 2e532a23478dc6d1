"""A training step must not wait for an accelerator: counted where there is none.

Tensors on torch's "meta" device have shapes and no values. Whatever asks for a value (item, a truth value, a boolean
index, a copy to the host) raises there, and what is copied from the host is seen by a dispatch mode: both would stop an
accelerator's queue.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from robustml.attacks import FGSM, FGSMRS, KLPGD, MIFGSM, PGD
from robustml.attacks.engine.thin_convolution import ThinConvolutions, thin_convolutions
from robustml.errors import RunFailed
from robustml.objectives import AWP, MART, TRADES, Adversarial, Free, GradAlign, Standard
from robustml.threats import LpBall
from robustml.training import RobustClassifier
from robustml.training.finite import FiniteLosses
from robustml.training.means import Means

ASKS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select"}


class HostSyncs(TorchDispatchMode):
    """Counts what needs a value on the host, or brings a tensor from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        result = func(*args, **(kwargs or {}))
        devices = {part.device for part in (*args, result) if isinstance(part, Tensor)}
        copies = name in ("_to_copy", "copy_") and len(devices) > 1
        # a mask as an index is turned into numbers first
        masks = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for part in args
            if isinstance(part, list | tuple)
            for index in part
        )
        if name in ASKS or copies or masks:
            self.found.append(name)
        return result


def objectives(norm: str = "inf") -> dict[str, Any]:
    pgd = PGD(steps=3)
    made = {
        "standard": Standard(),
        "pgd": Adversarial(pgd),
        "mixture": Adversarial(pgd, share=0.5, attack_mode="batch_stats"),
        "fgsm": Adversarial(FGSM()),
        "fgsm_rs": Adversarial(FGSMRS(), attack_mode="train"),
        "momentum": Adversarial(MIFGSM(steps=3)),
        "trades": TRADES(KLPGD(steps=3)),
        "mart": MART(PGD(steps=3, start_noise=0.001)),
        "awp": AWP(Adversarial(pgd), warmup_steps=1),
        "grad_align": GradAlign(FGSM()),
    }
    return made | ({"free": Free()} if norm == "inf" else {})


CASES = [("inf", name) for name in objectives()] + [("2", "pgd"), ("2", "trades"), ("1", "pgd")]


def step_of(objective: Any, device: str, norm: str = "inf") -> Callable[[int], Tensor]:
    with torch.device(device):
        x, y = torch.rand(4, 1, 8, 8), torch.randint(0, 10, (4,))
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    module = RobustClassifier(model, objective, LpBall(norm, 0.3), partial(SGD, lr=0.1))
    module.attack_time.running = lambda device: contextlib.nullcontext()  # of CUDA's events
    if isinstance(objective, nn.Module):
        objective.to(device)
    if isinstance(objective, AWP):
        objective._done = 0
    return lambda index: module.training_step((x, y), index)


@pytest.mark.parametrize(("norm", "name"), CASES)
def test_no_step_waits_for_the_device(norm: str, name: str) -> None:
    step = step_of(objectives(norm)[name], "meta", norm)
    with HostSyncs() as syncs:
        for index in range(3):
            step(index).backward()
    assert syncs.found == []


def test_the_counter_sees_what_it_is_to_see() -> None:
    value = torch.ones(3)
    for ask in (float, bool, Tensor.nonzero, lambda one: one[one > 0]):
        with HostSyncs() as syncs:
            ask(value[:1])
        assert syncs.found, ask
        with pytest.raises((RuntimeError, NotImplementedError)):
            ask(value[:1].to("meta"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        value.to("meta").tolist()
    with HostSyncs() as syncs:
        value.to("meta")
    assert syncs.found == ["_to_copy"]


def test_a_pgd_step_on_the_cpu_asks_for_no_value() -> None:
    step = step_of(objectives()["pgd"], "cpu")
    with HostSyncs() as syncs:
        for index in range(3):
            step(index).backward()
    assert syncs.found == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_loss_that_is_not_finite_is_named_though_it_is_looked_at_later(bad: float, at: int) -> None:
    losses, noted = FiniteLosses(every=4), 0

    def run() -> None:
        nonlocal noted
        for index in range(7):
            noted = index + 1
            losses.note(torch.tensor(bad if index >= at else 1.0), step=100 + index, epoch=5, batch=index)
        losses.look()

    with pytest.raises(RunFailed, match=rf"became {bad} at step {at + 101} \(epoch 6, batch {at + 1}\)"):
        run()
    assert noted == (4 if at < 4 else 7), "looked at after the fourth step, and at the end"
    losses.look()  # nothing is left


def test_means_are_weighted_and_begin_anew() -> None:
    means = Means()
    means.add("a/x", torch.tensor(1.0), 3)
    means.add("a/x", torch.tensor(2.0, dtype=torch.float16), 1)
    means.add("b/x", torch.tensor(math.nan), 1)
    assert {name: float(mean) for name, mean in means.take("a/").items()} == {"a/x": 1.25}
    assert means.take("a/") == {}
    assert math.isnan(means.take("b/")["b/x"])
    means.begin("c/none", torch.device("cpu"))
    means.add("c/some", torch.tensor(3.0), 2)
    both = means.take("c/", lambda part: part * torch.tensor([1.0, 2.0]) + torch.tensor([4.0, 0.0]))
    assert {name: float(mean) for name, mean in both.items()} == {"c/none": 1.0, "c/some": 3.0}


@pytest.mark.parametrize(
    ("layers", "shape", "device", "expected"),
    [
        ([nn.Conv2d(1, 8, 3)], (2, 1, 8, 8), "cpu", True),
        ([nn.Identity(), nn.Sequential(nn.Conv2d(3, 24, 3))], (2, 3, 8, 8), "cpu", True),
        ([nn.Conv2d(1, 8, 3)], (2, 1, 8, 8), "meta", False),
        ([nn.Conv2d(3, 23, 3)], (2, 3, 8, 8), "cpu", False),
        ([nn.Conv2d(4, 64, 3)], (2, 4, 8, 8), "cpu", False),
        ([nn.Flatten(), nn.Linear(64, 10)], (2, 1, 8, 8), "cpu", False),
        ([nn.Conv2d(1, 8, 3)], (2, 64), "cpu", False),
    ],
)
def test_thin_convolutions_are_looked_for_where_they_can_be(
    layers: list[nn.Module], shape: tuple[int, ...], device: str, expected: bool
) -> None:
    model = nn.Sequential(*layers)
    for _ in range(2):
        assert isinstance(thin_convolutions(model, torch.empty(shape, device=device)), ThinConvolutions) is expected
