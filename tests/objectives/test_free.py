from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.objectives import Free
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.2)

EPS = THREAT.eps
LEARNING_RATE = 0.3


def step(free: Free, model: nn.Module, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """What the trainer does with one batch, with SGD by hand and a loss multiplied by `scale`."""
    loss = free.loss(model, x, free.perturb(model, x, y, THREAT), y, THREAT).loss
    model.zero_grad()
    (loss * scale).backward()
    descend(model, LEARNING_RATE / scale)
    return loss.detach()


def descend(model: nn.Module, learning_rate: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=learning_rate)


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    images = [
        (torch.rand(size, 12, generator=generator, dtype=torch.float64) * 1.6 - 0.3).clamp(0, 1) for _ in range(count)
    ]
    return [(x, torch.randint(0, 5, (size,), generator=generator)) for x in images]


def net(seed: int = 7) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 5)).double()


def clip(moved: Tensor) -> Tensor:
    """Into the box, as TensorFlow differentiates it: 1 on the edge of the box too, 0 beyond."""
    below = torch.where(moved > 1, torch.ones_like(moved), moved)
    return torch.where(below < 0, torch.zeros_like(moved), below)


def train_like_the_authors(model: nn.Module, replay: int, passes: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Algorithm 1 of Shafahi et al., with the clipped input of their code: a variable for the perturbation itself."""
    perturbation = torch.zeros_like(passes[0][0])
    for x, y in passes:
        for _ in range(replay):
            variable = perturbation[: len(x)].clone().requires_grad_()
            loss = nn.CrossEntropyLoss()(model(clip(x + variable)), y)
            *weights, slope = torch.autograd.grad(loss, [*model.parameters(), variable])
            perturbation[: len(x)] = torch.clip(perturbation[: len(x)] + EPS * torch.sign(slope), -EPS, EPS)
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), weights, strict=True):
                    parameter -= LEARNING_RATE * gradient
    return perturbation


def assert_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("replay", [1, 4])
def test_it_is_the_authors_algorithm(replay: int) -> None:
    ours, theirs, free = net(), net(), Free()
    passes = batches(5)
    passes[3] = (passes[3][0][:5], passes[3][1][:5])  # the last batch of an epoch is a smaller one
    perturbation = train_like_the_authors(theirs, replay, passes)
    for x, y in passes:
        for _ in range(replay):
            step(free, ours, x, y)
    assert_same_weights(ours, theirs)
    assert torch.equal(free.get_extra_state(), perturbation)
    assert not all(torch.equal(mine, new) for mine, new in zip(ours.parameters(), net().parameters(), strict=True))


def test_without_replay_it_is_plain_training_on_the_perturbed_input() -> None:
    """The perturbation comes from the step before, and the step itself is one of plain training."""
    ours, theirs, free = net(), net(), Free()
    for x, y in batches(6):
        given = free.perturb(ours, x, y, THREAT)
        step(free, ours, x, y)
        theirs.zero_grad()
        nn.CrossEntropyLoss()(theirs(given), y).backward()
        descend(theirs, LEARNING_RATE)
    assert_same_weights(ours, theirs)


def test_a_step_makes_one_forward_and_one_backward_pass(conv_model: nn.Module, image_batch: Any) -> None:
    counts = {"forward": 0, "backward": 0}

    def count(name: str) -> Any:
        def add(*_: Any) -> None:
            counts[name] += 1

        return add

    conv_model.register_forward_hook(count("forward"))
    conv_model.register_full_backward_hook(count("backward"))
    free = Free()
    for _ in range(3):
        step(free, conv_model, *image_batch)
    assert counts == {"forward": 3, "backward": 3}
    assert (free.get_extra_state().abs() > 0).any()


def test_the_first_images_are_clean_and_the_rest_are_perturbed_within_eps_and_the_box() -> None:
    model, free, threat = net(), Free(), LpBall("inf", EPS)
    (x, y), (other, _), *_ = batches(2)
    first = free.perturb(model, x, y, THREAT)
    assert torch.equal(first, x)
    first.add_(1)
    assert x.max() <= 1, "the result shares memory with the images"
    step(free, model, x, y)
    for images in (x, other, other[:3]):
        moved = free.perturb(model, images, y, THREAT)
        assert threat.contains(moved, images).all()
        assert (moved != images).any(dim=1).all()
        assert not moved.requires_grad


def test_a_scaled_loss_moves_the_perturbation_alike() -> None:
    states = []
    for scale in (1.0, 2.0**16):
        model, free = net(), Free()
        for x, y in batches(3):
            step(free, model, x, y, scale)
        states.append(free.get_extra_state())
    assert torch.equal(*states)


def test_a_gradient_that_is_not_finite_moves_nothing_for_good() -> None:
    """Where mixed precision scales the loss until it overflows, the optimizer's step is left out."""
    (x, y), *_ = batches(1)
    model, free = net(), Free()
    loss = free.loss(model, x, free.perturb(model, x, y, THREAT), y, THREAT).loss
    (loss * math.nan).backward()
    assert torch.equal(free.get_extra_state(), torch.zeros_like(x))
    step(free, model, x, y)
    assert free.get_extra_state().isfinite().all()


def test_a_resumed_run_goes_on_bit_equal() -> None:
    passes = batches(4)
    model, free = net(), Free()
    for x, y in passes[:2]:
        step(free, model, x, y)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "free": free.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed_model, resumed = net(seed=8), Free()
    resumed_model.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["free"])
    for x, y in passes[2:]:
        assert torch.equal(step(free, model, x, y), step(resumed, resumed_model, x, y))
    assert torch.equal(free.get_extra_state(), resumed.get_extra_state())


@pytest.mark.parametrize("through_box", [True, False])
def test_a_black_pixel_pushed_out_of_the_box_comes_back_only_without_the_clipping(through_box: bool) -> None:
    """By hand: a black image, and a model whose slope turns round after the first step."""
    free = Free(through_box=through_box)
    x, y = torch.zeros(1, 2), torch.tensor([0])
    model = nn.Linear(2, 2, bias=False)
    expected = {True: ([-EPS, EPS], [-EPS, 0.0]), False: ([-EPS, EPS], [0.0, 0.0])}[through_box]
    for slope, state in zip(([-1.0, 1.0], [1.0, -1.0]), expected, strict=True):
        model.weight.data = torch.tensor([[0.0, 0.0], slope])  # raising the wrong logit raises the loss
        free.loss(model, x, free.perturb(model, x, y, THREAT), y, THREAT).loss.backward()
        torch.testing.assert_close(free.get_extra_state(), torch.tensor([state]))


def test_a_larger_batch_after_a_smaller_one_keeps_what_is_known() -> None:
    (x, y), *_ = batches(1)
    model, free = net(), Free()
    step(free, model, x[:3], y[:3])
    known = free.get_extra_state().clone()
    moved = free.perturb(model, x, y, THREAT)
    assert torch.equal(moved[:3], (x[:3] + known).clamp(0, 1))
    assert torch.equal(moved[3:], x[3:])


def test_it_learns_labels_that_are_distributions() -> None:
    (x, y), *_ = batches(1)
    model, (one, mixed) = net(), (Free(), Free())
    weights = nn.functional.one_hot(y, 5).double()
    expected = one.loss(model, x, one.perturb(model, x, y, THREAT), y, THREAT)
    output = mixed.loss(model, x, mixed.perturb(model, x, weights, THREAT), weights.float(), THREAT)
    torch.testing.assert_close(output.loss, expected.loss)
    assert output.logs == expected.logs


def test_another_norm_is_refused() -> None:
    with pytest.raises(RequestError, match="threat=linf"):
        Free().perturb(nn.Identity(), torch.rand(2, 3), torch.tensor([0, 1]), LpBall(2, 0.5))
