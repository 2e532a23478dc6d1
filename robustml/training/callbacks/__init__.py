"""Callbacks of the trainer."""

from robustml.training.callbacks.evaluation import RobustEvaluation
from robustml.training.callbacks.table import EpochTable

__all__ = ["EpochTable", "RobustEvaluation"]
