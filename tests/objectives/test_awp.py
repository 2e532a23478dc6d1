from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustml.attacks import FGSM, PGD
from robustml.errors import RequestError
from robustml.objectives import AWP, TRADES, Adversarial, Free, IntervalBound, Standard
from robustml.threats import LpBall
from robustml.types import LossOutput, Objective, Threat

THREAT = LpBall("inf", 0.1)


def convolutional(conv_model: nn.Module) -> nn.Module:
    """In double precision, training, and without its dropout, whose masks two procedures would draw apart."""
    model = conv_model.double().train()
    model[7].p = 0.0  # type: ignore[index, union-attr, assignment]
    return model


def perturbed_by_the_authors(
    model: nn.Module, gamma: float, learning_rate: float, loss_of: Callable[[nn.Module], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Wu et al.'s procedure on a model that it changes: a proxy's optimizer step, scaled, added and taken back."""
    proxy = copy.deepcopy(model)
    (-loss_of(proxy)).backward()
    with torch.no_grad():
        for parameter in proxy.parameters():  # a step of SGD, whose import costs seconds
            parameter.sub_(parameter.grad, alpha=learning_rate)
    moved = proxy.state_dict()
    change = {}
    for name, weight in model.state_dict().items():
        if weight.dim() > 1 and "weight" in name:
            difference = moved[name] - weight
            change[name] = (weight.norm() / (difference.norm() + 1e-20) * difference).clone()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in change:
                parameter.add_(change[name], alpha=gamma)
    loss = loss_of(model)
    gradients = list(torch.autograd.grad(loss, list(model.parameters())))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in change:
                parameter.sub_(change[name], alpha=gamma)
    return loss.detach(), gradients


def adversarial_training(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    return nn.CrossEntropyLoss()(model(x_adv), y)


def trades(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    clean, adversarial = model(x), model(x_adv)
    p, q = clean.softmax(1), adversarial.softmax(1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    return -clean.log_softmax(1)[torch.arange(len(y)), y].mean() + 6 * divergence


METHODS: dict[str, tuple[Objective, Callable[..., Tensor], int]] = {
    "adversarial": (Adversarial(FGSM()), adversarial_training, 1),
    "trades": (TRADES(FGSM(), beta=6.0), trades, 2),
}


@pytest.mark.parametrize("learning_rate", [0.01, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_the_authors(
    method: str, learning_rate: float, conv_model: nn.Module, image_batch: Any
) -> None:
    objective, formula, passes = METHODS[method]
    model, x, y = convolutional(conv_model), image_batch.x.double(), image_batch.y
    awp = AWP(objective, gamma=0.05)
    x_adv = awp.perturb(model, x, y, THREAT)
    theirs = copy.deepcopy(model)
    expected, expected_gradients = perturbed_by_the_authors(
        theirs, 0.05, learning_rate, lambda model: formula(model, x, x_adv, y)
    )
    before = copy.deepcopy(model.state_dict())
    output = awp.loss(model, x, x_adv, y, THREAT)
    output.loss.backward()
    torch.testing.assert_close(output.loss.double(), expected, atol=1e-6, rtol=1e-6)
    for parameter, gradient in zip(model.parameters(), expected_gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-6)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), "the weights are as they were, to the bit"
    for name, buffer in model.named_buffers():
        # The cross-entropy is in single precision, and so is the change of the weights that led to these.
        torch.testing.assert_close(buffer, theirs.get_buffer(name), atol=1e-7, rtol=0)
    tracked = model.get_buffer("1.num_batches_tracked") - before["1.num_batches_tracked"]
    assert tracked == passes


def test_the_loss_is_higher_where_the_weights_were_changed(conv_model: nn.Module, image_batch: Any) -> None:
    model, (x, y) = conv_model.eval(), image_batch
    plain = Standard().loss(model, x, x, y, THREAT).loss
    losses = [float(AWP(Standard(), gamma).loss(model, x, x, y, THREAT).loss.detach()) for gamma in (0.0, 0.005, 0.02)]
    assert losses[0] == plain
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": 0.3, "warmup_steps": 3}])
def test_alone_it_is_the_wrapped_objective(settings: dict[str, Any], conv_model: nn.Module, image_batch: Any) -> None:
    """To the bit, dropout and running statistics included: with gamma = 0, and in the first steps of a warm-up."""
    inner = Adversarial(PGD(steps=2))
    awp = AWP(inner, **settings)
    results = []
    for objective in (inner, awp, awp, awp):
        model = copy.deepcopy(conv_model).train()
        torch.manual_seed(3)
        x_adv = objective.perturb(model, *image_batch, THREAT)
        output = objective.loss(model, image_batch.x, x_adv, image_batch.y, THREAT)
        output.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append([output.loss, output.logits, *gradients, *model.state_dict().values()])
    for result in results[1:]:
        assert all(torch.equal(ours, plain) for ours, plain in zip(result, results[0], strict=True))
    if awp.warmup_steps:
        awp.perturb(conv_model, *image_batch, THREAT)
        after = awp.loss(conv_model, image_batch.x, image_batch.x, image_batch.y, THREAT).loss
        assert after > inner.loss(conv_model, image_batch.x, image_batch.x, image_batch.y, THREAT).loss


def test_examples_are_crafted_once(conv_model: nn.Module, image_batch: Any) -> None:
    calls: list[int] = []

    def attack(model: nn.Module, x: Tensor, y: Tensor, *, generator: Any = None) -> Tensor:
        calls.append(len(x))
        return x

    awp = AWP(Adversarial(attack))
    passes: list[nn.Module] = []
    conv_model.train().register_forward_hook(lambda model, *_: passes.append(model))
    awp.loss(
        conv_model, image_batch.x, awp.perturb(conv_model, *image_batch, THREAT), image_batch.y, THREAT
    ).loss.backward()
    assert calls == [8]
    assert passes == [conv_model, conv_model], "one pass for the change, and one for the loss"


def test_frozen_and_unused_weights_are_left_alone(image_batch: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(36, 6)
            self.used = nn.Linear(6, 5)
            self.unused = nn.Linear(6, 5)
            self.frozen.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.frozen.weight.detach().clone())
            logits: Tensor = self.used(self.frozen(x.flatten(1)))
            return logits

    seen: list[Tensor] = []
    model = Net()
    AWP(Standard(), gamma=0.5).loss(model, image_batch.x, image_batch.x, image_batch.y, THREAT).loss.backward()
    assert torch.equal(seen[0], seen[1])
    assert model.used.weight.grad is not None
    assert model.frozen.weight.grad is None
    assert model.unused.weight.grad is None


def test_an_objective_may_look_inside_the_model(conv_model: nn.Module, image_batch: Any) -> None:
    """Interval bounds walk through the layers: they have to meet the changed weights there."""
    model, (x, y) = conv_model.eval(), image_batch
    inner = IntervalBound(kappa=0.0)
    inner.step += 1
    plain = inner.loss(model, x, x, y, THREAT).loss
    assert AWP(inner, gamma=0.02).loss(model, x, x, y, THREAT).loss > plain


def test_with_free_the_perturbation_moves_once(conv_model: nn.Module, image_batch: Any) -> None:
    (x, y), free = image_batch, Free()
    awp = AWP(free, gamma=0.1)
    output = awp.loss(conv_model, x, awp.perturb(conv_model, x, y, THREAT), y, THREAT)
    assert not free.get_extra_state().any(), "the gradient that changes the weights is not of the images"
    output.loss.backward()
    assert free.get_extra_state().any()


def test_state_is_saved_with_that_of_the_wrapped_objective() -> None:
    make: Callable[[], AWP] = lambda: AWP(IntervalBound(ramp_steps=9), warmup_steps=2)  # noqa: E731
    awp = make()
    for _ in range(3):
        awp.perturb(nn.Identity(), torch.rand(2, 3), torch.tensor([0, 1]), THREAT)
    resumed = make()
    resumed.load_state_dict(awp.state_dict())
    assert resumed.step == 3
    assert resumed.objective.step == 3  # type: ignore[attr-defined]


def test_a_failing_objective_leaves_the_weights(conv_model: nn.Module, image_batch: Any) -> None:
    class Fails(Standard):
        calls = 0

        def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
            Fails.calls += 1
            if Fails.calls == 2:
                raise ZeroDivisionError
            return super().loss(model, x, x_adv, y, threat)

    before = copy.deepcopy(conv_model.train().state_dict())
    parameters = list(conv_model.parameters())
    with pytest.raises(ZeroDivisionError):
        AWP(Fails(), gamma=0.5).loss(conv_model, image_batch.x, image_batch.x, image_batch.y, THREAT)
    assert all(ours is found for ours, found in zip(conv_model.parameters(), parameters, strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in conv_model.state_dict().items())


@pytest.mark.parametrize("settings", [{"gamma": -0.1}, {"gamma": float("nan")}, {"warmup_steps": -1}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        AWP(Standard(), **settings)
