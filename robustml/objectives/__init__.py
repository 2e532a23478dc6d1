"""Training objectives: one paper a file, all of them `robustml.types.Objective`."""

from robustml.objectives.adversarial import Adversarial
from robustml.objectives.gaussian import GaussianNoise
from robustml.objectives.interval import IntervalBound
from robustml.objectives.standard import Standard

__all__ = ["Adversarial", "GaussianNoise", "IntervalBound", "Standard"]
