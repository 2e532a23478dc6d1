"""Victims that have learnt digits."""

from __future__ import annotations

import pytest
from torch.nn import functional

from extraction.victims import SHAPE, Owned, seeded
from robustml.data import DataModule, Digits
from robustml.extraction import MakeStudent, ModelVictim, Reference, StudentTraining
from robustml.models import MLP, DigitsCNN


@pytest.fixture(scope="session")
def digits() -> DataModule:
    data = DataModule(Digits(), name="digits", val_size=180)
    data.setup()
    return data


def trained(digits: DataModule, model: MakeStudent, training: StudentTraining) -> Owned:
    targets = functional.one_hot(digits.train.y, 10).float()
    victim = training(model, digits.train.x.float() / 255, targets, generator=seeded(0))
    x = digits.test.x.float() / 255
    return Owned(victim, Reference(x, digits.test.y, ModelVictim(victim)(x)))


@pytest.fixture(scope="session")
def owned(digits: DataModule) -> Owned:
    """A convolutional victim."""
    found = trained(digits, DigitsCNN, StudentTraining(steps=300))
    right = (found.reference.labels == found.reference.y).float().mean()
    assert float(right) > 0.95, "the bars need a victim that has learnt something"
    return found


@pytest.fixture(scope="session")
def regression(digits: DataModule) -> Owned:
    """A softmax regression."""
    return trained(digits, lambda: MLP(SHAPE, 10, ()), StudentTraining(steps=300, learning_rate=0.01))
