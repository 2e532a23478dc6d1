"""Captured passes with something else in the place of CUDA graphs: padding, cutting, gradients, and what is refused.

What only a graph can get wrong, `tests/test_gpu.py` looks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from bound import Brief, bound
from torch import Generator, Tensor, nn

from robustml.attacks import AutoAttack, autoattack
from robustml.attacks.engine.captured import Captured, cuda_graphs
from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.attacks.engine.low_precision import HalfPrecision
from robustml.attacks.fab import FAB
from robustml.errors import RequestError
from robustml.threats import LpBall


class Graphs:
    """As graphs behave, without any: one size, and results in memory that the next replay overwrites."""

    def __init__(self) -> None:
        self.captured: list[tuple[int, int]] = []
        self.replayed: list[int] = []

    def __call__(self, functions: Sequence[Callable[[Tensor], Tensor]], example: Tensor) -> list[Any]:
        self.captured.append((len(example), len(functions)))
        return [self.replay(function, len(example)) for function in functions]

    def replay(self, function: Callable[[Tensor], Tensor], size: int) -> Callable[[Tensor], Tensor]:
        memory: list[Tensor] = []

        def run(x: Tensor) -> Tensor:
            assert len(x) == size
            self.replayed.append(size)
            result = function(x)
            if not memory:
                memory.append(result.detach().clone())
            return memory[0].copy_(result.detach())

        return run


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


class Net(nn.Module):
    """Batch norm and dropout in eval mode, and a curve, so that no two examples have the same gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.SiLU(), nn.Dropout(), nn.Flatten())
        self.head = nn.Linear(64, 5)
        self.asked: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(len(x))
        scores: Tensor = self.head(self.layers(x)).square()
        return scores


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net().eval()


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 4, 4, generator=Generator().manual_seed(seed))


def test_passes_of_every_number_of_examples_are_those_of_the_model(net: Net, graphs: Graphs) -> None:
    captured = Captured(net, 11, graphs)
    weights = torch.linspace(-1, 2, 5)
    with crafting(captured):
        for count in (1, 2, 3, 8, 9, 14, 4, 5):
            x = images(count, seed=count)
            torch.testing.assert_close(captured(x), net(x))
            found = input_gradient(captured, x, lambda scores: scores @ weights)
            for one, other in zip(found, input_gradient(net, x, lambda scores: scores @ weights), strict=True):
                assert len(one) == count
                torch.testing.assert_close(one, other)
    # Fourteen are more than a batch.
    sizes = [1, 2, 4, 8, 11]
    assert sorted(graphs.captured) == [(size, functions) for size in sizes for functions in (1, 2)]


def test_what_was_captured_goes_on_being_used(net: Net, graphs: Graphs) -> None:
    captured = Captured(net, 8, graphs)
    with crafting(captured):
        for _ in range(3):
            captured(images(6))
            net.asked.clear()
            graphs.replayed.clear()
    assert graphs.captured == [(8, 1)]
    with crafting(captured):
        captured(images(7))
    assert net.asked == graphs.replayed == [8], "one replay, and no question to the model beside it"


def test_two_passes_do_not_disturb_each_other(net: Net, graphs: Graphs) -> None:
    """The first batch's way back comes after the second's pass through the same memory, twice."""
    captured = Captured(net, 4, graphs)
    first, second = images(3, seed=1).requires_grad_(), images(4, seed=2).requires_grad_()
    early, late = captured(first), captured(second)
    torch.testing.assert_close(early, net(first))
    for column in (0, 3):
        for x, logits in ((first, early), (second, late)):
            (found,) = torch.autograd.grad(logits[:, column].sum(), x, retain_graph=True)
            (expected,) = torch.autograd.grad(net(x)[:, column].sum(), x)
            torch.testing.assert_close(found, expected)
    assert graphs.captured == [(4, 2)]


def test_one_pass_is_walked_back_for_every_class(net: Net, graphs: Graphs) -> None:
    x, threat = images(6), LpBall(2, 1.0)
    y = net(x).argmax(dim=1)
    attack = bound(threat, FAB(steps=5, targets=None))
    torch.testing.assert_close(attack(Captured(net, 250, graphs), x, y), attack(net, x, y), atol=1e-5, rtol=0)
    assert 250 not in [size for size, _ in graphs.captured]
    assert not torch.equal(attack(net, x, y), x)


def test_other_shapes_and_precisions_are_captured_apart(graphs: Graphs) -> None:
    model = nn.Flatten().eval()
    captured = Captured(model, 4, graphs)
    for x in (torch.rand(3, 4), torch.rand(3, 5), torch.rand(3, 4).double(), torch.rand(4, 4)):
        assert torch.equal(captured(x), x)
        assert captured(x).dtype == x.dtype
    assert graphs.captured == [(4, 1)] * 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_autoattack_finds_the_same(
    precision: Any, digits_net: Any, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x, y) = digits_net
    x, y, threat = x[:9], y[:9], LpBall("inf", 0.12)
    monkeypatch.setattr(autoattack, "cuda_graphs", lambda device: graphs)
    found = [
        bound(threat, Brief(batch_size=3, precision=precision, processes=1, graphs=captured))(
            model, x, y, generator=Generator().manual_seed(0)
        )
        for captured in (False, True)
    ]
    robust = [model(x_adv).argmax(dim=1) == y for x_adv in found]
    assert 0 < robust[0].float().mean() < 1
    assert torch.equal(robust[0], robust[1])
    assert threat.contains(found[1], x).all()
    # Each of the models, the whole and the halved one, once a size and kind.
    models = 1 if precision == "float32" else 2
    assert {size for size, _ in graphs.captured} <= {1, 2, 3}
    assert max(graphs.captured.count(one) for one in graphs.captured) == models
    assert len(graphs.replayed) > 50


def test_the_model_is_left_as_it_was_found(net: Net, graphs: Graphs) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    captured = Captured(net, 8, graphs)
    logits = captured(images(5).requires_grad_())
    logits.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert not any(module.training for module in captured.modules())


def test_half_precision_is_captured_with_the_model(net: Net, graphs: Graphs) -> None:
    half = HalfPrecision(net)
    with crafting(net):
        assert torch.equal(Captured(half, 8, graphs)(images(8)), half(images(8)))
        assert not torch.equal(half(images(8)), net(images(8)))


def test_random_outputs_are_refused(net: Net, graphs: Graphs) -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = net(x)
            return logits + logits.abs().max() * torch.rand_like(logits)

    with pytest.raises(RequestError, match="outputs random"):
        Captured(Noisy().eval(), 8, graphs)(images(4))


def test_a_wrong_way_back_is_noticed(net: Net) -> None:
    """Such as one whose activations lie in memory that something else has used since."""

    def broken(functions: Sequence[Callable[[Tensor], Tensor]], example: Tensor) -> list[Callable[[Tensor], Tensor]]:
        return [*functions[:1], *(lambda slope: torch.zeros_like(example) for _ in functions[1:])]

    captured = Captured(net, 8, broken)
    captured(images(4))
    with pytest.raises(RequestError, match="from the model's own"):
        captured(images(4).requires_grad_())


def test_a_model_without_gradient_and_one_that_says_nan_are_passed_on(graphs: Graphs) -> None:
    class Blind(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().round().log()

    x = torch.tensor([[0.7, 0.9], [0.1, 0.8]])
    found = Captured(Blind().eval(), 4, graphs)(x)
    assert found.tolist() == [[0, 0], [-torch.inf, 0]]


def test_training_mode_and_other_devices_are_refused(net: Net, graphs: Graphs) -> None:
    net.layers[3].train()
    with pytest.raises(RequestError, match="its Dropout is in training mode"):
        Captured(net, 8, graphs)
    with pytest.raises(RequestError, match="the images are on cpu"):
        cuda_graphs(torch.device("cpu"))

    def unasked(x: Tensor) -> Tensor:
        raise AssertionError("refused before any work")

    net.forward = unasked  # type: ignore[method-assign]
    with pytest.raises(RequestError, match=r"attack\.graphs=true needs a CUDA device"):
        bound(LpBall("inf", 0.1), AutoAttack(graphs=True))(net, images(2), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(("settings", "message"), [({"version": "rand"}, "random"), ({"processes": 2}, "choose one")])
def test_graphs_beside_what_they_cannot_go_with(settings: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        bound(LpBall("inf", 0.1), AutoAttack(graphs=True, **settings))
    bound(LpBall("inf", 0.1), AutoAttack(graphs=True))
