from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import SGD

from robustml.attacks import FGSM, FGSMRS, PGD
from robustml.modes import evaluating
from robustml.objectives import Adversarial, Standard
from robustml.threats import LpBall
from robustml.training import RobustClassifier
from robustml.training.passes import PassCounter
from robustml.types import LossOutput, Objective

THREAT = LpBall("inf", 0.1)

pytestmark = [
    # Lightning 2.6 asks for a class of torch that torch 2.15 calls deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    # A run without a validation split is meant here.
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 5))


class Batches:
    """19 images in batches of 8, 8 and 3. Lightning takes a plain list for a collection of loaders."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        x = torch.rand(19, 1, 3, 4, generator=generator)
        y = torch.randint(0, 5, (19,), generator=generator)
        self.batches = list(zip(x.split(8), y.split(8), strict=True))

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def trainer(**settings: Any) -> pl.Trainer:
    settings = {"max_epochs": 1} | settings
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        **settings,
    )


class WeightGradient(Standard):
    """The shape of AWP: a gradient of other weights through `functional_call`, then the loss at those weights."""

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Any) -> LossOutput:
        weights = {name: weight.detach().requires_grad_() for name, weight in model.named_parameters()}
        first = nn.functional.cross_entropy(functional_call(model, weights, (x,)), y)
        gradients = torch.autograd.grad(first, list(weights.values()))
        moved = {
            name: weight + 0.1 * gradient
            for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True)
        }
        logits = functional_call(model, moved, (x,))
        return LossOutput(nn.functional.cross_entropy(logits, y), logits, {})


class DoubleBackward(Standard):
    """The shape of a gradient penalty: the gradient of the input is itself differentiated."""

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Any) -> LossOutput:
        leaf = x.detach().requires_grad_()
        logits = model(leaf)
        loss = nn.functional.cross_entropy(logits, y)
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return LossOutput(loss + gradient.square().sum(), logits, {})


# Forward and backward passes a sample, by hand.
BY_HAND: dict[str, tuple[Objective, float, float]] = {
    "standard": (Standard(), 1, 1),
    "fgsm": (Adversarial(FGSM()), 2, 2),
    "fgsm_rs": (Adversarial(FGSMRS(), attack_mode="train"), 2, 2),
    "pgd": (Adversarial(PGD(steps=10)), 11, 11),
    # Two starts of 3 steps; to choose between them, each end is looked at once, forward.
    "restarts": (Adversarial(PGD(steps=3, restarts=2)), 2 * 4 + 1, 2 * 3 + 1),
    # Clean and adversarial images pass as one batch of twice as many.
    "mixture": (Adversarial(FGSM(), share=0.5), 1 + 2, 1 + 2),
    "weights": (WeightGradient(), 2, 2),
    "double backward": (DoubleBackward(), 1, 2),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_training_step_passes_the_model_as_often_as_counted_by_hand(name: str) -> None:
    objective, forward, backward = BY_HAND[name]
    classifier = RobustClassifier(network(), objective, THREAT, partial(SGD, lr=0.1), validation_attack=PGD(steps=2))
    # Validation is not training's cost; it would add to the count if it were not kept out.
    trainer().fit(classifier, Batches(), Batches())
    assert (classifier.passes.forward, classifier.passes.backward) == (19 * forward, 19 * backward)


def test_each_epoch_is_counted_on_its_own() -> None:
    classifier = RobustClassifier(network(), Standard(), THREAT, partial(SGD, lr=0.1))
    trainer(max_epochs=3).fit(classifier, Batches())
    assert (classifier.passes.forward, classifier.passes.backward) == (19, 19)


def test_examples_that_leave_the_batch_are_not_counted() -> None:
    """A classifier that names class 0 for all: of labels 0, 1, 2, two are wrong from the first step on."""

    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0, 0.0]) + 0 * x.flatten(1)[:, :1]

    model, passes = Zero(), PassCounter()
    end = passes.watch(model)
    with passes.counting():
        PGD(steps=3, early_stop=True)(model, torch.rand(3, 4), torch.tensor([0, 1, 2]), THREAT)
    assert (passes.forward, passes.backward) == (3 + 1 + 1, 3 + 1 + 1)
    end()
    model(torch.rand(3, 4))
    assert not model._forward_hooks


def test_nothing_is_counted_outside_of_the_block_but_the_backward_passes_through_it() -> None:
    model, passes = network(), PassCounter()
    passes.watch(model)
    x = torch.rand(6, 12)
    model(x).sum().backward()
    assert (passes.forward, passes.backward) == (0, 0)
    with passes.counting():
        logits = model(x)
        with evaluating(model), torch.no_grad():
            model(x[:2])
    logits.sum().backward()
    model(x)
    assert (passes.forward, passes.backward) == (8, 6)
    passes.reset()
    assert (passes.forward, passes.backward) == (0, 0)


def test_a_compiled_model_is_counted_and_compiled_once() -> None:
    """With an eager backend of torch.compile, so that no compiler is needed."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = network()
    model.compile(backend=backend)
    classifier = RobustClassifier(model, Standard(), THREAT, partial(SGD, lr=0.1))
    before = model._compiled_call_impl
    batches = Batches()
    batches.batches = batches.batches[:2] * 4
    trainer().fit(classifier, batches)
    assert (classifier.passes.forward, classifier.passes.backward) == (64, 64)
    assert len(graphs) == 1
    assert model._compiled_call_impl is before
