"""Training: one LightningModule for every objective, schedules, checkpoints and callbacks."""

from robustml.training.checkpoints import AtomicCheckpointIO, best_and_last, measured_on, read_checkpoint
from robustml.training.classifier import ADVERSARIAL_ACCURACY, CLEAN_ACCURACY, RobustClassifier, derived_seed
from robustml.training.schedules import Cosine, OneCycle, Piecewise, Triangular
from robustml.training.stopwatch import Stopwatch
from robustml.training.trainer_data import TrainerData
from robustml.training.trial import try_model

__all__ = [
    "ADVERSARIAL_ACCURACY",
    "CLEAN_ACCURACY",
    "AtomicCheckpointIO",
    "Cosine",
    "OneCycle",
    "Piecewise",
    "RobustClassifier",
    "Stopwatch",
    "TrainerData",
    "Triangular",
    "best_and_last",
    "derived_seed",
    "measured_on",
    "read_checkpoint",
    "try_model",
]
