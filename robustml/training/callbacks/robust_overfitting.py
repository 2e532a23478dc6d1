"""Notice robust overfitting: adversarial accuracy falls on the validation split while it rises on the training set.

Rice, Wong and Kolter, "Overfitting in adversarially robust deep learning", ICML 2020, arXiv:2002.11569. Both figures
are those of metrics.csv: training's on the examples of each step as the model was then, validation's under its attack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from robustml.errors import RequestError
from robustml.training.classifier import ADVERSARIAL_ACCURACY, RobustClassifier

TRAIN_ADVERSARIAL_ACCURACY = "train/adversarial_accuracy"


class RobustOverfitting(pl.Callback):
    """Warn once when adversarial validation accuracy has fallen from its best while training's has risen.

    Args:
        fall: by how much, as a fraction.
        say: prints a line.

    Raises:
        RequestError: `fall` is not positive.
    """

    def __init__(self, fall: float = 0.02, say: Callable[[str], None] = print) -> None:
        if not fall > 0:
            raise RequestError(f"fall must be > 0, got {fall}")
        self.fall = fall
        self.say = say
        self.best: dict[str, float] | None = None
        self.warned = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the epoch's figures; where either is not measured there is nothing to see."""
        # The trainer's own would repeat those of the last validation in epochs that have none.
        figures: Any = pl_module.figures if isinstance(pl_module, RobustClassifier) else trainer.callback_metrics
        if not {TRAIN_ADVERSARIAL_ACCURACY, ADVERSARIAL_ACCURACY} <= figures.keys():
            return
        train, val = float(figures[TRAIN_ADVERSARIAL_ACCURACY]), float(figures[ADVERSARIAL_ACCURACY])
        pl_module.log("health/robust_gap", train - val)
        if self.best is None or val > self.best["val"]:
            self.best = {"number": trainer.current_epoch + 1, "train": train, "val": val}
        elif not self.warned and self.best["val"] - val > self.fall and train > self.best["train"]:
            self.warned = True
            if trainer.is_global_zero:
                self.say(
                    f"robust overfitting: since epoch {self.best['number']:.0f}, adversarial accuracy fell from "
                    f"{self.best['val']:.1%} to {val:.1%} on the validation split and rose from "
                    f"{self.best['train']:.1%} to {train:.1%} in training"
                )

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, and whether the warning was given."""
        return {"best": self.best, "warned": self.warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stood."""
        self.best, self.warned = state_dict["best"], state_dict["warned"]
        if self.best is not None and "epoch" in self.best:  # of a version that counted from 0
            self.best["number"] = self.best.pop("epoch") + 1
