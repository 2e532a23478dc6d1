"""Evaluate under attack inside training, at chosen epochs, into the results schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl

from robustml.errors import RequestError
from robustml.evaluation import evaluate
from robustml.files import write_text
from robustml.training.callbacks.weight_averaging import averaged_weights
from robustml.training.classifier import RobustClassifier
from robustml.training.trainer_data import TrainerData
from robustml.types import Attack, Threat


class RobustEvaluation(pl.Callback):
    """Measure clean against adversarial accuracy on the validation split while training goes on.

    Writes `<folder>/epoch-0004.json` (the evaluation blocks of results.json) and logs `evaluation/<attack>`.

    Args:
        attacks: name to attack.
        folder: where the files go.
        every_n_epochs: evaluate after epochs n, 2n, ... and after the last.
        split: ``"val"``, or ``"train"``. The test set is not for decisions that training takes.
        limit: evaluate on so many images, drawn from every class; None takes all.
        seed: of the attacks' random starts.
        threat: what the attacker may do; that of the training if None.
    """

    def __init__(
        self,
        attacks: Mapping[str, Attack],
        folder: Path,
        every_n_epochs: int = 1,
        split: Literal["train", "val"] = "val",
        limit: int | None = None,
        seed: int = 0,
        threat: Threat | None = None,
    ) -> None:
        if every_n_epochs < 1:
            raise RequestError(f"every_n_epochs must be >= 1, got {every_n_epochs}")
        if split not in ("val", "train"):
            raise RequestError(f"split={split!r}: evaluate on 'val' or 'train' during training, never on the test set")
        self.attacks = attacks
        self.threat = threat
        self.folder = Path(folder)
        self.every_n_epochs = every_n_epochs
        self.split = split
        self.limit = limit
        self.seed = seed

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate if it is this epoch's turn."""
        epoch = trainer.current_epoch + 1
        given = trainer.datamodule  # type: ignore[attr-defined]
        if not (isinstance(pl_module, RobustClassifier) and isinstance(given, TrainerData)):
            return
        data = given.data
        if epoch % self.every_n_epochs and epoch != trainer.max_epochs:
            return
        loader = data.loader(self.split, device=pl_module.device, limit=self.limit)
        with averaged_weights(trainer, pl_module):
            results = evaluate(
                pl_module.model,
                loader,
                self.attacks,
                pl_module.threat if self.threat is None else self.threat,
                class_names=data.class_names,
                seed=self.seed,
                examples=0,
            )
        for name in self.attacks:
            pl_module.log(f"evaluation/{name}", results.attacks[name].robust_accuracy.value or 0.0)
        pl_module.log("evaluation/clean", results.clean_accuracy.value or 0.0)
        if trainer.is_global_zero:
            self._write(epoch, results.model_dump(by_alias=True, mode="json"))

    def _write(self, epoch: int, results: dict[str, Any]) -> None:
        block = {"schema": 1, "epoch": epoch, "split": self.split} | results
        write_text(self.folder / f"epoch-{epoch:04d}.json", json.dumps(block, indent=2) + "\n")
