"""Averages of the weights along the run, which validation, checkpoints and the final model use in their place.

Exponential moving average: Gowal et al. 2020, arXiv:2010.03593, section 4, for adversarial training. Stochastic weight
averaging: Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018,
arXiv:1803.05407; for adversarial training, Chen et al., "Robust overfitting may be mitigated by properly learned
smoothening", ICLR 2021. The bookkeeping is Lightning's: a checkpoint holds the average as its `state_dict`, and the
weights that training goes on with beside it, so that a run resumes exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from robustml.errors import RequestError
from robustml.modes import evaluating
from robustml.training.batches import images_and_labels
from robustml.training.classifier import RobustClassifier

Statistics = Literal["examples", "clean", "average"]


class _Average(WeightAveraging):
    """What both averages share: where they live, and the batch statistics of the averaged model."""

    def __init__(self, weight: Callable[[int], float], statistics: Statistics, batches: int) -> None:
        if statistics not in ("examples", "clean", "average"):
            raise RequestError(f"statistics={statistics!r} is unknown; expected 'examples', 'clean' or 'average'")
        if batches < 1:
            raise RequestError(f"batch statistics need batches >= 1, got {batches}")

        @torch.no_grad()
        def move(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
            share = weight(int(count))
            for mean, value in zip(averaged, current, strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, share)
                else:  # counters have no average
                    mean.copy_(value)

        super().__init__(use_buffers=True, multi_avg_fn=move)
        self.statistics = statistics
        self.batches = batches

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the copy that holds the average, on the device of training: here the model is not there yet."""
        if stage == "fit":
            if sum(isinstance(callback, WeightAveraging) for callback in _callbacks(trainer)) > 1:
                raise RequestError("a run has one average of its weights: choose callbacks=ema or swa, not both")
            if not isinstance(pl_module, RobustClassifier):
                raise RequestError(f"weights are averaged for a RobustClassifier, got a {type(pl_module).__name__}")
            self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights into the average; after an epoch's last batch, make its batch statistics fit it."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.is_last_batch and self._end_epoch(trainer, pl_module) and self.statistics != "average":
            with averaged_weights(trainer, pl_module):
                self._recompute_statistics(trainer, pl_module)

    def _end_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """What there is to do once an epoch, before validation; whether the weights are an average now."""
        return True

    def _recompute_statistics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the running statistics of `pl_module`, which holds the average now, by those of training batches."""
        assert isinstance(pl_module, RobustClassifier)
        norms = [module for module in pl_module.model.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            return
        # a copy each: neither the loader's place in the epoch nor what an objective counts may move
        loader: Any = copy.copy(trainer.train_dataloader)
        objective = copy.deepcopy(pl_module.objective)
        examples = []
        device = pl_module.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # all are crafted before the statistics change, for an attack may look at these
            for batch in islice(loader, int(min(self.batches, trainer.num_training_batches))):
                x, y = (part.to(device) for part in images_and_labels(batch))
                x = x.to(next(pl_module.model.parameters()).dtype)
                if self.statistics == "examples":
                    x = objective.perturb(pl_module.model, x, y, pl_module.training_threat)
                examples.append(x)
            with evaluating(pl_module.model):  # to have every module's mode back
                update_bn(examples, pl_module.model)
        for norm in norms:
            for buffer in (norm.running_mean, norm.running_var):
                if buffer is not None:
                    buffer.copy_(trainer.strategy.reduce(buffer, reduce_op="mean"))


class EMA(_Average):
    """Exponential moving average: after every step, average = decay * average + (1 - decay) * weights.

    It begins as the weights after the first step.

    Args:
        decay: see above; 0.995 in Gowal 2020 and Wang 2023, 0.999 is common for longer runs.
        warmup: use the smaller decay (1 + n) / (10 + n) after n steps as long as it is smaller, as PyTorch code
            after Gowal 2020 does: short runs would else hold too much of their beginning.
        statistics: the averaged model's running batch statistics: ``"average"`` is theirs along the run, by the same
            rule; otherwise they are computed anew before each validation on training batches, as training sees them
            (augmented, mixed): ``"examples"``, those that the objective trains on, crafted against the averaged model;
            ``"clean"``, before any attack.
        batches: how many batches at most, the first of the epoch. They are held in memory together. With several
            processes, each takes its share, and the statistics are averaged.

    Raises:
        RequestError: a value out of range, or another average beside this one.
    """

    def __init__(
        self, decay: float = 0.995, warmup: bool = False, statistics: Statistics = "average", batches: int = 100
    ) -> None:
        if not 0 <= decay < 1:
            raise RequestError(f"the decay of a moving average must be in [0, 1), got {decay}")

        def weight(count: int) -> float:
            return 1 - (min(decay, (1 + count) / (10 + count)) if warmup else decay)

        super().__init__(weight, statistics, batches)


class SWA(_Average):
    """Stochastic weight averaging: the mean of the weights at the ends of the epochs after `start`.

    Until then validation and checkpoints use the weights and the statistics as they are. The learning rate is left
    to the scheduler.

    Args:
        start: share of the run's epochs that are left out; in the paper 0.75. The last epoch is never left out.
        statistics: as for `EMA`; the mean has none of its own, so they are computed anew by default.
        batches: as for `EMA`.

    Raises:
        RequestError: a value out of range, another average beside this one, or a run without `max_epochs`.
    """

    def __init__(self, start: float = 0.75, statistics: Statistics = "examples", batches: int = 100) -> None:
        if not 0 <= start < 1:
            raise RequestError(f"start is a share of the run in [0, 1), got {start}: write epoch 150 of 200 as 0.75")
        super().__init__(lambda count: 1 / (count + 1), statistics, batches)
        self.start = start

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Never by itself: Lightning would do it after validation."""
        return False

    def _end_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        assert self._average_model is not None
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise RequestError("weights are averaged over the last share of the run: set trainer.max_epochs")
        left_out = self.start * trainer.max_epochs
        if trainer.current_epoch <= left_out:
            self._average_model.n_averaged.zero_()  # begin again, with the weights as they are
        self._average_model.update_parameters(pl_module)
        return trainer.current_epoch + 1 > left_out


@contextmanager
def averaged_weights(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
    """Let the model hold the average of its weights, where the trainer has a callback that keeps one."""
    averages = [callback for callback in _callbacks(trainer) if isinstance(callback, _Average)]
    for average in averages:
        average._swap_models(pl_module)
    try:
        yield
    finally:
        for average in averages:
            average._swap_models(pl_module)


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]
