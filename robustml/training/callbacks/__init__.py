"""Callbacks of the trainer."""

from robustml.training.callbacks.attack_schedule import AttackSchedule
from robustml.training.callbacks.bars import Bars
from robustml.training.callbacks.catastrophic_overfitting import CatastrophicOverfitting
from robustml.training.callbacks.evaluation import RobustEvaluation
from robustml.training.callbacks.robust_overfitting import RobustOverfitting
from robustml.training.callbacks.table import EpochTable
from robustml.training.callbacks.verification import Verification
from robustml.training.callbacks.weight_averaging import EMA, SWA, averaged_weights

__all__ = [
    "EMA",
    "SWA",
    "AttackSchedule",
    "Bars",
    "CatastrophicOverfitting",
    "EpochTable",
    "RobustEvaluation",
    "RobustOverfitting",
    "Verification",
    "averaged_weights",
]
