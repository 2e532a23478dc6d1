"""Evaluate under attack inside training, at chosen epochs, into the results schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from robustml.calling import Attacks, named
from robustml.data import stratified_rows
from robustml.errors import RequestError
from robustml.evaluation import evaluate
from robustml.evaluation.batches import Batches, Loader
from robustml.files import write_text
from robustml.training.callbacks.weight_averaging import averaged_weights
from robustml.training.classifier import RobustClassifier
from robustml.training.trainer_data import TrainerData
from robustml.types import Threat


class RobustEvaluation(pl.Callback):
    """Measure clean against adversarial accuracy on the validation split while training goes on.

    Writes `<folder>/epoch-0004.json` (the evaluation blocks of results.json) and logs `evaluation/<attack>`. It works
    in any LightningModule whose `forward` turns images (N, ...) in [0, 1] into logits (N, C), of pytorch_lightning or
    of lightning.pytorch.

    Args:
        attacks: one, a list, or by name.
        folder: where the files go; by default `evaluation` in the trainer's root directory.
        every_n_epochs: evaluate after epochs n, 2n, ... and after the last.
        split: ``"val"``, or ``"train"``. The test set is not for decisions that training takes.
        limit: evaluate on so many images, drawn from every class; None takes all.
        seed: of the attacks' random starts.
        threat: what the attacker may do; that of the training if None.
        data: what to evaluate on in place of the trainer's loader: anything that `robustml.evaluate` takes.

    Raises:
        RequestError: `every_n_epochs` or `split` make no sense; or, before the first batch: nobody names a threat, the
            trainer has no such loader, or several, or only a part of one in each process. Later: what
            `robustml.evaluation.evaluate` refuses, such as a loader that shuffles.
    """

    def __init__(
        self,
        attacks: Attacks,
        folder: str | Path | None = None,
        every_n_epochs: int = 1,
        split: Literal["train", "val"] = "val",
        limit: int | None = None,
        seed: int = 0,
        threat: Threat | None = None,
        data: Loader | None = None,
    ) -> None:
        if every_n_epochs < 1:
            raise RequestError(f"every_n_epochs must be >= 1, got {every_n_epochs}")
        if split not in ("val", "train"):
            raise RequestError(f"split={split!r}: evaluate on 'val' or 'train' during training, never on the test set")
        self.attacks = named(attacks)
        self.threat = threat
        self.folder = None if folder is None else Path(folder)
        self.every_n_epochs = every_n_epochs
        self.split: Literal["train", "val"] = split
        self.limit = limit
        self.seed = seed
        self.data = data
        self._sample: tuple[Tensor, Tensor] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse now what could not be evaluated later."""
        self._threat(pl_module)
        self._loader(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate if it is this epoch's turn."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs and epoch != trainer.max_epochs:
            return
        # A loader draws from the global generator when it is walked through, and training must not notice.
        with averaged_weights(trainer, pl_module), torch.random.fork_rng(devices=[]):
            loader, class_names = self._loader(trainer, pl_module)
            results = evaluate(
                pl_module.model if isinstance(pl_module, RobustClassifier) else pl_module,
                self._drawn(loader) if class_names is None else loader,
                self.attacks,
                self._threat(pl_module),
                class_names=class_names,
                seed=self.seed,
                examples=0,
            )
        for name in self.attacks:
            pl_module.log(f"evaluation/{name}", float(results.attacks[name].robust_accuracy))
        pl_module.log("evaluation/clean", float(results.clean_accuracy))
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir, "evaluation") if self.folder is None else self.folder
            block = {"schema": 1, "epoch": epoch, "split": self.split}
            block |= results.model_dump(by_alias=True, mode="json")
            write_text(folder / f"epoch-{epoch:04d}.json", json.dumps(block, indent=2) + "\n")

    def _threat(self, pl_module: pl.LightningModule) -> Threat:
        """What the attacker may do."""
        threat: Threat | None = self.threat or getattr(pl_module, "threat", None)
        if threat is None:
            name = type(pl_module).__name__
            raise RequestError(f"a {name} trains against no threat: RobustEvaluation(threat=...) must say which to try")
        return threat

    def _loader(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> tuple[Loader, Sequence[str] | None]:
        """What to evaluate on, and of our own data the names of the classes."""
        given = getattr(trainer, "datamodule", None)
        if self.data is not None:
            return self.data, None
        if isinstance(given, TrainerData):
            data = given.data
            return data.loader(self.split, device=pl_module.device, limit=self.limit), data.class_names
        loader: Any = trainer.val_dataloaders if self.split == "val" else trainer.train_dataloader
        if isinstance(loader, list | tuple) and len(loader) == 1:
            loader = loader[0]
        if loader is None or loader == []:
            raise RequestError(
                f"the trainer has no {self.split} loader: RobustEvaluation(data=...) says what to try on"
            )
        if isinstance(loader, list | tuple | dict):
            raise RequestError(
                f"the trainer has {len(loader)} {self.split} loaders: choose one as RobustEvaluation(data=...)"
            )
        if trainer.world_size > 1:
            raise RequestError(
                f"in each of {trainer.world_size} processes the trainer's loader shows a part: give the whole as "
                "RobustEvaluation(data=...)"
            )
        return loader, None

    def _drawn(self, loader: Loader) -> Loader:
        """So many images of a loader of the user's, the same ones in every epoch."""
        if self.limit is None:
            return loader
        if self._sample is None:
            batches = Batches(loader, torch.device("cpu"))
            rows = stratified_rows(torch.cat([batch.y for batch in batches]), self.limit, self.seed)
            kept = []
            for batch in batches:
                inside = rows[(rows >= batch.first) & (rows < batch.first + len(batch.y))] - batch.first
                kept.append((batch.x[inside], batch.y[inside]))
            x, y = zip(*kept, strict=True)
            self._sample = torch.cat(x), torch.cat(y)
        return self._sample
