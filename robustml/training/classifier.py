"""The one LightningModule: it trains any model with any objective and knows no method by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from robustml.attacks.gradient import logits_of
from robustml.errors import RequestError, RunFailed
from robustml.training.passes import PassCounter
from robustml.training.stopwatch import Stopwatch
from robustml.types import Attack, Objective

__all__ = ["ADVERSARIAL_ACCURACY", "CLEAN_ACCURACY", "RobustClassifier", "derived_seed"]

ADVERSARIAL_ACCURACY = "val/adversarial_accuracy"
CLEAN_ACCURACY = "val/clean_accuracy"


class RobustClassifier(pl.LightningModule):
    """Minimise an objective; validate clean and adversarial accuracy.

    Each epoch is seeded by (seed, epoch, rank), so that a run which resumes at an epoch's start does what an
    uninterrupted one does. Attacks see the unwrapped `model`, never the DDP wrapper.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C).
        objective: crafts the examples of a step and computes its loss.
        optimizer: parameters to optimizer, for example `functools.partial(torch.optim.SGD, lr=0.1)`.
        scheduler: (optimizer, steps of the whole run) to a schedule that is stepped after every batch; None keeps the
            learning rate.
        validation_attack: measures adversarial accuracy on the validation split, from the same random starts in every
            epoch; None leaves it out.
        seed: of everything that is random in training.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
        validation_attack: Attack | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.validation_attack = validation_attack
        self.seed = seed
        self.attack_time = Stopwatch()
        self.passes = PassCounter()
        self._means: dict[str, MeanMetric] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of images (N, ...) in [0, 1]."""
        logits: Tensor = self.model(x)
        return logits

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule stepped after every batch."""
        optimizer = self.optimizer_factory(self.model.parameters())
        if self.scheduler_factory is None:
            return optimizer
        schedule = self.scheduler_factory(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Count passes from here on: a compiled model has been compiled by now."""
        self._end_watch = self.passes.watch(self.model)

    def on_fit_end(self) -> None:
        """Leave the model as it was found."""
        self._end_watch()

    def on_train_epoch_start(self) -> None:
        """Reseed, so that the epoch does not depend on what ran before it."""
        pl.seed_everything(derived_seed(self.seed, self.current_epoch, self.global_rank), verbose=False)
        self.attack_time.reset()
        self.passes.reset()

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Look at the first images of an epoch: attacks and their eps mean nothing outside [0, 1]."""
        if batch_idx == 0:
            low, high = float(batch[0].min()), float(batch[0].max())
            if not (low >= -1e-6 and high <= 1 + 1e-6):
                raise RequestError(
                    f"training images must be in [0, 1], got values from {low:.4g} to {high:.4g}: divide by 255, and "
                    "normalise inside the model (robustml.models.Normalize) instead of in the data"
                )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Craft, then compute the loss.

        Raises:
            RunFailed: the loss is not finite.
        """
        x, y = batch
        with self.passes.counting():
            with self.attack_time.running(x.device):
                x_adv = self.objective.perturb(self.model, x, y)
            output = self.objective.loss(self.model, x, x_adv, y)
        loss = output.loss.detach()
        if not torch.isfinite(loss):
            raise RunFailed(
                f"the loss became {loss.item()} at step {self.global_step} (epoch {self.current_epoch}, batch "
                f"{batch_idx}): lower the learning rate, clip gradients (trainer.gradient_clip_val=1), or train in "
                "trainer.precision=32-true"
            )
        self._record("train/loss", loss, len(y))
        for name, value in output.logs.items():
            self._record(f"train/{name}", value, len(y))
        return output.loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the epoch's means after its last batch, so that every callback finds them at the epoch's end."""
        # A callback that stops training makes any batch the last one; callbacks run before this.
        if self.trainer.is_last_batch or self.trainer.should_stop:
            self._log_means("train/")

    def on_validation_epoch_start(self) -> None:
        """Know every figure, even in a process that gets no batch: all of them take part in the sum."""
        self._sync_buffers(False)
        names = ["val/loss", CLEAN_ACCURACY] + ([] if self.validation_attack is None else [ADVERSARIAL_ACCURACY])
        for name in names:
            self._mean(name)

    def _sync_buffers(self, each_batch: bool) -> None:
        """Let DDP hand round the buffers once, not with every batch: processes that get more batches would wait."""
        wrapped = self.trainer.model
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_forward_param_sync = each_batch
            if not each_batch:
                for buffer in wrapped.buffers():
                    torch.distributed.broadcast(buffer, 0)

    @torch.no_grad()
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count clean and adversarial accuracy; an image that is wrong to begin with is not robust."""
        x, y = batch
        logits = logits_of(self.model, x)
        correct = logits.argmax(1) == y
        self._record("val/loss", nn.functional.cross_entropy(logits, y), len(y))
        self._record(CLEAN_ACCURACY, correct.float().mean(), len(y))
        if self.validation_attack is None:
            return
        robust = torch.zeros_like(correct)
        index = batch_idx * self.trainer.world_size + self.global_rank
        generator = Generator(device=x.device).manual_seed(derived_seed(self.seed, index))
        if correct.any():
            x_adv = self.validation_attack(self.model, x[correct], y[correct], generator=generator)
            robust[correct] = logits_of(self.model, x_adv).argmax(1) == y[correct]
        self._record(ADVERSARIAL_ACCURACY, robust.float().mean(), len(y))

    def on_validation_epoch_end(self) -> None:
        """Log the split's means."""
        self._sync_buffers(True)
        self._log_means("val/")

    def _record(self, name: str, value: Tensor, weight: int) -> None:
        """Add to an epoch's mean. Lightning's own `log` would cost milliseconds a step."""
        self._mean(name).update(value.detach().float(), weight)

    def _mean(self, name: str) -> MeanMetric:
        if name not in self._means:
            self._means[name] = MeanMetric().to(self.device)
        return self._means[name]

    def _log_means(self, prefix: str) -> None:
        for name, metric in self._means.items():
            if name.startswith(prefix):
                self.log(name, metric.compute(), on_step=False, on_epoch=True, prog_bar=True, batch_size=1)
                metric.reset()


def derived_seed(*parts: int) -> int:
    """A seed made of several integers, without the collisions that adding them would have."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
