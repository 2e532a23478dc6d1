"""Fixtures that the tests of several rooms share: small models, seeded batches, and a net trained on digits."""

from __future__ import annotations

import copy
import gc
from typing import NamedTuple

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

# The folders whose files take longest.
LONG = ("integration", "workflows")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: a long one that is handed out last leaves the other processes with nothing to do."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_collection_finish() -> None:
    """What was imported stays: looking through it at each collection of garbage is a tenth of the time of the tests."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Else libraries complain about what is left at exit."""
    gc.unfreeze()


class Batch(NamedTuple):
    """Images (N, ...) in [0, 1] and labels (N,)."""

    x: Tensor
    y: Tensor


class Trained(NamedTuple):
    """A model in eval mode, and the images that it was not trained on."""

    model: nn.Module
    test: Batch


@pytest.fixture
def linear_model() -> nn.Module:
    """Flat inputs (N, 12) to 5 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))


@pytest.fixture
def flat_batch() -> Batch:
    """8 vectors (8, 12), some values on the edge of the box."""
    generator = torch.Generator().manual_seed(12)
    x = (torch.rand(8, 12, generator=generator) * 1.4 - 0.2).clamp_(0, 1)
    return Batch(x, torch.randint(0, 5, (8,), generator=generator))


@pytest.fixture
def conv_model() -> nn.Module:
    """Grey images (N, 1, 6, 6) to 5 classes, through batch norm with running statistics of its own, and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(24, 5),
        )
        for _ in range(5):
            model(torch.rand(32, 1, 6, 6))
    return model.eval()


@pytest.fixture
def image_batch() -> Batch:
    """8 grey images (8, 1, 6, 6), some pixels on the edge of the box."""
    generator = torch.Generator().manual_seed(14)
    x = (torch.rand(8, 1, 6, 6, generator=generator) * 1.4 - 0.2).clamp_(0, 1)
    return Batch(x, torch.randint(0, 5, (8,), generator=generator))


@pytest.fixture(scope="session")
def trained_digits() -> Trained:
    """A small net that gets more than 9 of 10 of scikit-learn's digits (N, 1, 8, 8) right; to be looked at only."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(15)
        order = torch.randperm(len(labels))
        train, test = order[:1400], order[1400:1700]
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        # By hand: the first torch optimizer of a process costs seconds of imports.
        for _ in range(150):
            loss = nn.functional.cross_entropy(model(images[train]), labels[train])
            for parameter, gradient in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.data -= gradient
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
    assert accuracy > 0.9, "the tests below need a net that has learnt something"
    return Trained(model.eval(), Batch(images[test], labels[test]))


@pytest.fixture
def digits_net(trained_digits: Trained) -> Trained:
    """The same for a test of its own, which may leave gradients in it: some libraries do."""
    return Trained(copy.deepcopy(trained_digits.model), trained_digits.test)
