"""The one LightningModule: it trains any model with any objective and knows no method by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from robustml.attacks.engine.gradient import logits_of
from robustml.calling import refuse_misfit, run_attack
from robustml.errors import RequestError
from robustml.training.batches import images_and_labels
from robustml.training.crafted import crafted
from robustml.training.finite import FiniteLosses
from robustml.training.means import Means
from robustml.training.passes import PassCounter
from robustml.training.stopwatch import Stopwatch
from robustml.training.trial import require_trainable
from robustml.types import Attack, Objective, Threat

ADVERSARIAL_ACCURACY = "val/adversarial_accuracy"
CLEAN_ACCURACY = "val/clean_accuracy"


class RobustClassifier(pl.LightningModule):
    """Minimise an objective; validate clean and adversarial accuracy.

    Each epoch is seeded by (seed, epoch, rank), so that a run which resumes at an epoch's start does what an
    uninterrupted one does. Attacks see the unwrapped `model`, never the DDP wrapper. Batches may be of any loader, see
    `images_and_labels`; images take on the type of the model's weights.

    Attributes:
        training_threat: what the training attack may do in the step at hand; `threat`, unless a schedule sets another.
        figures: what has been measured in the epoch at hand and nowhere else, by name: the means of training once its
            last step is done, and those of the last validation, where there was one.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C).
        objective: crafts the examples of a step and computes its loss.
        threat: what the attacker may do, in training and in validation.
        optimizer: parameters to optimizer, for example `functools.partial(torch.optim.SGD, lr=0.1)`.
        scheduler: (optimizer, steps of the whole run) to a schedule that is stepped after every batch; None keeps the
            learning rate.
        validation_attack: measures adversarial accuracy on the validation split, from the same random starts in every
            epoch; None leaves it out.
        seed: of everything that is random in training.

    Raises:
        RequestError: the objective or the validation attack is not for such a threat.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        threat: Threat,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
        validation_attack: Attack | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for method in (objective, validation_attack):
            refuse_misfit(method, threat)
        self.model = model
        self.objective = objective
        self.threat = self.training_threat = threat
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.validation_attack = validation_attack
        self.seed = seed
        self.attack_time = Stopwatch()
        self.passes = PassCounter()
        self.figures: dict[str, float] = {}
        self._means = Means()
        self._losses = FiniteLosses()
        self._weights: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of images (N, ...) in [0, 1]."""
        logits: Tensor = self.model(x)
        return logits

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule stepped after every batch.

        Raises:
            RequestError: nothing can be trained, the optimizer refuses its settings, or a schedule has no end.
        """
        require_trainable(self.model)
        try:
            optimizer = self.optimizer_factory(self.model.parameters())
        except (TypeError, ValueError) as error:
            raise RequestError(f"the optimizer cannot be made: {str(error).splitlines()[0]}") from error
        if not all(math.isfinite(group["lr"]) for group in optimizer.param_groups):
            raise RequestError(f"the learning rate must be finite, got lr={optimizer.param_groups[0]['lr']}")
        if self.scheduler_factory is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise RequestError(
                "a schedule of the learning rate needs to know the end of the run: set trainer.max_epochs or "
                "trainer.max_steps, or choose scheduler=none"
            )
        schedule = self.scheduler_factory(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Count passes from here on: a compiled model has been compiled by now."""
        self._weights = None
        self._end_watch = self.passes.watch(self.model)

    def on_fit_end(self) -> None:
        """Leave the model as it was found."""
        self._end_watch()

    def on_train_epoch_start(self) -> None:
        """Reseed, so that the epoch does not depend on what ran before it."""
        pl.seed_everything(derived_seed(self.seed, self.current_epoch, self.global_rank), verbose=False)
        self.attack_time.reset()
        self.passes.reset()
        self.figures = {}
        self._means.clear("train/")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Look at the first images of an epoch: attacks and their eps mean nothing outside [0, 1]."""
        if batch_idx == 0:
            x, _ = self._read(batch)
            low, high = float(x.min()), float(x.max())
            if not (low >= -1e-6 and high <= 1 + 1e-6):
                raise RequestError(
                    f"training images must be in [0, 1], got values from {low:.4g} to {high:.4g}: divide by 255, and "
                    "normalise inside the model (robustml.models.Normalize) instead of in the data"
                )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Craft, then compute the loss. Nothing here waits for an accelerator, but for the guard, once in many steps.

        Raises:
            RunFailed: the loss of this step or of one before it, not looked at until now, is not finite.
            RequestError: the batch, the model's output or the attack's is not what it should be.
        """
        x, y = self._read(batch)
        try:
            with self.passes.counting():
                with self.attack_time.running(x.device):
                    x_adv = crafted(self.objective.perturb(self.model, x, y, self.training_threat), x)
                output = self.objective.loss(self.model, x, x_adv, y, self.training_threat)
        except Exception:
            self._losses.look()  # what follows a broken step is not the reason
            raise
        loss = output.loss.detach()
        self._losses.note(loss, step=self.global_step, epoch=self.current_epoch, batch=batch_idx)
        self._means.add("train/loss", loss, len(y))
        for name, value in output.logs.items():
            self._means.add(f"train/{name}", value, len(y))
        return output.loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the epoch's means after its last batch, so that every callback finds them at the epoch's end."""
        if self._ends_epoch():
            self._losses.look()
            self._log_means("train/")
            self._log_means("schedule/")

    def _ends_epoch(self) -> bool:
        """Whether this step is the last of its epoch: of the loader, of the run, or as a callback stops training."""
        trainer = self.trainer
        over = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
        return trainer.is_last_batch or over or (trainer.should_stop and trainer.fit_loop._can_stop_early)

    def on_validation_epoch_start(self) -> None:
        """Know every figure, even in a process that gets no batch: all of them take part in the sum."""
        self._losses.look()  # no figures of weights that are broken, and no checkpoint
        self._sync_buffers(False)
        names = ["val/loss", CLEAN_ACCURACY] + ([] if self.validation_attack is None else [ADVERSARIAL_ACCURACY])
        for name in names:
            self._means.begin(name, self.device)

    def _sync_buffers(self, each_batch: bool) -> None:
        """Let DDP hand round the buffers once, not with every batch: processes that get more batches would wait."""
        wrapped = self.trainer.model
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_forward_param_sync = each_batch
            if not each_batch:
                for buffer in wrapped.buffers():
                    torch.distributed.broadcast(buffer, 0)

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count clean and adversarial accuracy; an image that is wrong to begin with is not robust."""
        x, y = self._read(batch)
        logits = logits_of(self.model, x)
        correct = logits.argmax(1) == y
        self._means.add("val/loss", nn.functional.cross_entropy(logits, y), len(y))
        self._means.add(CLEAN_ACCURACY, correct.float().mean(), len(y))
        if self.validation_attack is None:
            return
        robust = torch.zeros_like(correct)
        index = batch_idx * self.trainer.world_size + self.global_rank
        generator = Generator(device=x.device).manual_seed(derived_seed(self.seed, index))
        if correct.any():
            found = run_attack(self.validation_attack, self.model, x[correct], y[correct], self.threat, generator)
            x_adv = crafted(found, x[correct])
            robust[correct] = logits_of(self.model, x_adv).argmax(1) == y[correct]
        self._means.add(ADVERSARIAL_ACCURACY, robust.float().mean(), len(y))

    def on_validation_epoch_end(self) -> None:
        """Log the split's means."""
        self._sync_buffers(True)
        self._log_means("val/")

    def note(self, name: str, value: float, weight: int = 1) -> None:
        """Count a figure that a callback sets, ``schedule/...``, in the mean of its epoch."""
        self._means.add(name, torch.full((), value, device=self.device), weight)

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Images, of the type of the weights, and labels, both where the model is."""
        if self._weights is None:
            floating = (parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point())
            self._weights = next(floating, torch.float32)
        x, y = images_and_labels(batch)
        # Lightning has moved tensors to the device by now, but no arrays.
        device = self.device if x.device.type == "cpu" else x.device
        return x.to(device, self._weights), y.to(device)

    def _log_means(self, prefix: str) -> None:
        def total(part: Tensor) -> Tensor:
            whole: Tensor = self.trainer.strategy.reduce(part, reduce_op="sum")
            return whole

        for name, mean in self._means.take(prefix, total).items():
            self.log(name, mean, on_step=False, on_epoch=True, prog_bar=name == "train/loss", batch_size=1)
            self.figures[name] = float(mean)


def derived_seed(*parts: int) -> int:
    """A seed made of several integers, without the collisions that adding them would have."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
