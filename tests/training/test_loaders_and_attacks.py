"""Batches of anybody's loader, and what anybody's attack returns, as training takes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from training.test_classifier import Batches, fit, network, pytestmark, weights  # noqa: F401

from robustml.attacks import PGD
from robustml.errors import RequestError
from robustml.objectives import Adversarial
from robustml.threats import LpBall
from robustml.training import RobustClassifier
from robustml.training.batches import images_and_labels

THREAT = LpBall("inf", 0.1)

LOADERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "list": lambda x, y: [x, y],
    "triple": lambda x, y: (x, y, torch.arange(len(y))),
    "dict": lambda x, y: {"label": y, "index": torch.arange(len(y)), "image": x},
    "hub dict": lambda x, y: {"pixel_values": x, "labels": y},
    "numpy": lambda x, y: (x.numpy(), y.numpy()),
    "float64": lambda x, y: (x.double(), y),
    "numpy float64 dict": lambda x, y: {"x": x.double().numpy(), "y": y.int().numpy()},
    "int32": lambda x, y: (x, y.int()),
    "uint8 labels": lambda x, y: (x, y.to(torch.uint8)),
    "column of labels": lambda x, y: (x, y.unsqueeze(1)),
}


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(24, 1, 8, 8, generator=generator)
    return list(zip(x.split(8), torch.randint(0, 10, (24,), generator=generator).split(8), strict=True))


def trained(batches: list[Any], attack: Any = None) -> tuple[Tensor, dict[str, float]]:
    attack = PGD(steps=1, random_start=False) if attack is None else attack
    classifier = RobustClassifier(
        network(), Adversarial(attack), THREAT, partial(SGD, lr=0.5), validation_attack=attack
    )
    (figures,) = fit(classifier, Batches(batches), Batches(batches[:1]))
    return weights(classifier), figures


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_any_loader_trains_the_same_model(make: Callable[[Tensor, Tensor], Any], pairs: list[Any]) -> None:
    expected, known = trained(pairs)
    found, figures = trained([make(x, y) for x, y in pairs])
    assert torch.equal(found, expected)
    assert figures == known


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (torch.rand(4, 3), "a Tensor; expected pairs"),
        ((torch.rand(4, 3),), "a tuple; expected pairs"),
        ({"left": 1, "right": 2}, "a dict of left, right: none of them is known to hold images"),
        ({"image": torch.rand(4, 3), "size": 2}, "known to hold labels"),
        ((torch.rand(4, 3), torch.rand(4)), "shape (4,) and type float32; expected one class an image"),
        ((torch.rand(4, 3), torch.zeros(3).long()), "shape (4, 3) with labels of shape (3,)"),
        ((["a", "b"], torch.zeros(2).long()), "images as a list"),
        ((torch.rand(4, 3), np.array(["a", "b", "c", "d"], dtype=object)), "labels as a ndarray"),
    ],
)
def test_other_batches_are_refused_in_one_line(batch: Any, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        images_and_labels(batch)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shares_of_classes_stay_as_they_are() -> None:
    y = torch.rand(4, 10)
    assert images_and_labels((torch.rand(4, 3), y))[1] is y


def moved(x: Tensor) -> Tensor:
    return (x + 0.1 * (torch.arange(x[0].numel()).view_as(x[0]) % 2)).clamp(0, 1)


ATTACKS: dict[str, Callable[[nn.Module, Tensor, Tensor], Any]] = {
    "float64": lambda model, x, y: moved(x).double(),
    "requires grad": lambda model, x, y: moved(x).requires_grad_(),
    "inside a graph": lambda model, x, y: moved(x) + 0 * model(x.clone()).sum(),
}
REFUSED: dict[str, tuple[Callable[[nn.Module, Tensor, Tensor], Any], str]] = {
    "tuple": (lambda model, x, y: (moved(x), y), "returned a tuple for images of shape (8, 1, 8, 8)"),
    "foolbox": (lambda model, x, y: [x, x, y], "returned a list"),
    "numpy": (lambda model, x, y: moved(x).numpy(), "returned a ndarray"),
    "nothing": (lambda model, x, y: None, "returned a NoneType"),
    "other shape": (lambda model, x, y: x.flatten(1), "returned shape (8, 64) for images of shape (8, 1, 8, 8)"),
}


def as_attack(function: Callable[[nn.Module, Tensor, Tensor], Any]) -> Any:
    return lambda model, x, y, generator=None: function(model, x, y)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_any_attack_trains_the_same_model(attack: Any, pairs: list[Any]) -> None:
    expected, known = trained(pairs, as_attack(lambda model, x, y: moved(x)))
    found, figures = trained(pairs, as_attack(attack))
    assert torch.allclose(found, expected, atol=1e-6)
    assert figures == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize(("attack", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_batch_of_images_is_refused_in_one_line(attack: Any, said: str, pairs: list[Any]) -> None:
    with pytest.raises(RequestError) as caught:
        trained(pairs, as_attack(attack))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


class Returns(nn.Module):
    """A network whose forward returns something else than logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.change = network(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.network(x))


@pytest.mark.parametrize("change", [lambda logits: (logits, 0), lambda logits: {"logits": logits}, lambda logits: None])
def test_what_is_no_tensor_of_logits_is_refused_by_every_objective(change: Any, pairs: list[Any]) -> None:
    from training.test_host_syncs import objectives

    for objective in objectives().values():
        classifier = RobustClassifier(Returns(change), objective, THREAT, partial(SGD, lr=0.1))
        with pytest.raises(RequestError, match=r"the model returned a .*logits_key"):
            classifier.training_step(pairs[0], 0)
