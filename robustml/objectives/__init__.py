"""Training objectives: one paper a file, all of them `robustml.types.Objective`."""

from robustml.objectives.adversarial import Adversarial
from robustml.objectives.awp import AWP
from robustml.objectives.free import Free
from robustml.objectives.gaussian import GaussianNoise
from robustml.objectives.grad_align import GradAlign
from robustml.objectives.hat import HAT
from robustml.objectives.interval import IntervalBound
from robustml.objectives.logit_pairing import LogitPairing
from robustml.objectives.mart import MART
from robustml.objectives.several_norms import SeveralNorms
from robustml.objectives.standard import Standard
from robustml.objectives.trades import TRADES

__all__ = [
    "AWP",
    "HAT",
    "MART",
    "TRADES",
    "Adversarial",
    "Free",
    "GaussianNoise",
    "GradAlign",
    "IntervalBound",
    "LogitPairing",
    "SeveralNorms",
    "Standard",
]
