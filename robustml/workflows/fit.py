"""Train a network of one's own on data of one's own, against a threat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from robustml.attacks import PGD
from robustml.calling import Attacks, named
from robustml.data import DataModule
from robustml.evaluation.batches import Loader
from robustml.objectives import Adversarial
from robustml.poisoning import Poison
from robustml.say import without_notices
from robustml.types import Attack, Objective, Threat
from robustml.workflows.given import data_of
from robustml.workflows.run import Run
from robustml.workflows.training.train import train


def fit(
    model: nn.Module,
    data: DataModule | Loader,
    objective: Objective | None,
    threat: Threat,
    *,
    out: str | Path,
    test: Loader | None = None,
    class_names: Sequence[str] | None = None,
    epochs: int = 10,
    batch_size: int = 128,
    val_size: float = 0.1,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
    validation_attack: Attack | None = None,
    monitor: Literal["adversarial", "clean"] = "adversarial",
    attacks: Attacks | None = None,
    poison: Poison | None = None,
    callbacks: Sequence[pl.Callback] = (),
    seed: int = 0,
    resume: bool = False,
    **trainer: Any,
) -> Run:
    """Train a model, judge its best weights clean and under attack on the test part, and leave a run directory.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C). Trained in place, on from the weights that it has; after the
            call it has the weights of the best epoch.
        data: what to train on: a data set of single examples, or tensors (x, y), which are held in memory; a
            DataLoader, whose own batches are trained on; or one of our DataModules.
        objective: how to train; None is adversarial training by PGD.
        threat: what the attacker may do, such as ``LpBall("inf", 8 / 255)``.
        out: the run directory; it must not hold a run already, unless `resume` is set.
        test: what to judge on, in any form that an evaluation understands; by default a fifth of the data.
        class_names: one a class, in label order.
        epochs: passes over the training part.
        batch_size: samples a step; a DataLoader has its own.
        val_size: how much of the training part is held out to select the weights on: a count, a fraction, or 0.
        optimizer: parameters to optimizer; Adam with a learning rate of 0.001 by default.
        scheduler: (optimizer, steps of the whole run) to a schedule of the learning rate, stepped after every batch.
        validation_attack: measures adversarial accuracy on the validation part; PGD by default.
        monitor: which accuracy on the validation part the weights are selected by.
        attacks: to judge with, one, a list, or by name; PGD with 20 steps by default.
        poison: what an attacker does to the training part first.
        callbacks: of Lightning, or `robustml.training.callbacks`.
        seed: of everything that is random.
        resume: go on with what is in `out`.
        trainer: arguments of Lightning's Trainer, such as ``accelerator="gpu"``.

    Returns:
        The run, with `model` and the data at hand.

    Raises:
        RequestError: something does not fit together; one line says what.
        RunFailed: the training failed, for example because the loss is not finite.
    """
    given = data_of(
        data, test, class_names=class_names, batch_size=batch_size, val_size=val_size, seed=seed, split_seed=seed
    )
    settings: dict[str, Any] = {
        "name": Path(out).name,
        "seed": seed,
        "output": str(Path(out).parent),
        "data": given,
        "model": model,
        "threat": threat,
        "objective": objective or Adversarial(PGD()),
        "optimizer": optimizer or partial(torch.optim.Adam, lr=0.001),
        "scheduler": scheduler,
        "validation": {"monitor": monitor, "attack": validation_attack or PGD()},
        "evaluation": {
            "attacks": named(PGD(steps=20) if attacks is None else attacks),
            "seed": seed,
            "limit": None,
            "batch_size": given.eval_batch_size,
        },
        "poison": poison,
        "callbacks": {f"{number}": callback for number, callback in enumerate(callbacks)},
        "logger": {},
        "trainer": {
            "_target_": "pytorch_lightning.Trainer",
            "max_epochs": epochs,
            "accelerator": "auto",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "inference_mode": False,
            "use_distributed_sampler": False,
            **trainer,
        },
        "compile": False,
        "channels_last": False,
    }
    with without_notices():
        train(settings, copy(given), Path(out), resume=resume)  # which poisons what it is given
    return Run(Path(out), given={"model": model, "data": given})
