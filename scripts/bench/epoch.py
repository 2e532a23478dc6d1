"""PGD-10 training, `robustml train` against bare loops: `python scripts/bench/epoch.py mnist`.

In one process, on the same batches, interleaved so that a noisy machine slows all of them alike:

- bare: the k input-gradient passes and one training pass, in plain PyTorch written with equal care;
- robustml: `Trainer.fit` with `RobustClassifier`, its loader and its callbacks, as `robustml train` builds them;
- torchattacks: a hand loop around torchattacks' PGD;
- ART: `AdversarialTrainerMadryPGD`.

Prints the median seconds a step and the ratios to bare (each the median over rounds of the ratio within a round),
and writes them as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = {"mnist": 0.3, "cifar10": 8 / 255}
STEPS = 10


def network(name: str) -> nn.Module:
    """The network of the benchmark."""
    from robustml.models import PreActResNet18, WongCNN

    torch.manual_seed(0)
    return WongCNN((1, 28, 28), 10) if name == "mnist" else PreActResNet18((3, 32, 32), 10)


def batches(name: str, count: int, size: int) -> tuple[Tensor, Tensor]:
    """uint8 images and labels, random: the arithmetic does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 28, 28) if name == "mnist" else (3, 32, 32)
    x = torch.randint(0, 256, (count * size, *shape), generator=generator, dtype=torch.uint8)
    return x, torch.randint(0, 10, (count * size,), generator=generator)


def bare(name: str, x: Tensor, y: Tensor, size: int) -> Callable[[], None]:
    """A hand-written loop: nothing in it that the work does not need."""
    model, eps = network(name).train(), EPS[name]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    alpha = 2.5 * eps / STEPS

    def epoch() -> None:
        order = torch.randperm(len(x))
        for start in range(0, len(x), size):
            chosen = order[start : start + size]
            images, labels = x[chosen].float().div_(255), y[chosen]
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            model.eval()
            low, high = (images - eps).clamp_(0, 1), (images + eps).clamp_(0, 1)
            x_adv = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp_(0, 1)
            for _ in range(STEPS):
                x_adv.requires_grad_()
                loss = functional.cross_entropy(model(x_adv), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, x_adv)
                x_adv = torch.clamp(x_adv.detach() + alpha * gradient.sign_(), low, high)
            model.train()
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            optimizer.zero_grad()
            functional.cross_entropy(model(x_adv), labels).backward()
            optimizer.step()

    return epoch


def hand_loop_torchattacks(name: str, x: Tensor, y: Tensor, size: int) -> Callable[[], None]:
    """What users of torchattacks write."""
    import torchattacks

    model, eps = network(name).train(), EPS[name]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    attack = torchattacks.PGD(model, eps=eps, alpha=2.5 * eps / STEPS, steps=STEPS)

    def epoch() -> None:
        order = torch.randperm(len(x))
        for start in range(0, len(x), size):
            chosen = order[start : start + size]
            images, labels = x[chosen].float().div_(255), y[chosen]
            x_adv = attack(images, labels)
            optimizer.zero_grad()
            functional.cross_entropy(model(x_adv), labels).backward()
            optimizer.step()

    return epoch


def art(name: str, x: Tensor, y: Tensor, size: int) -> Callable[[], None]:
    """ART's trainer for the same method."""
    from art.defences.trainer import AdversarialTrainerMadryPGD
    from art.estimators.classification import PyTorchClassifier

    model, eps = network(name), EPS[name]
    classifier = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    trainer = AdversarialTrainerMadryPGD(
        classifier, nb_epochs=1, batch_size=size, eps=eps, eps_step=2.5 * eps / STEPS, max_iter=STEPS
    )
    images, labels = x.float().div(255).numpy(), np.eye(10)[y.numpy()]

    def epoch() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            trainer.fit(images, labels, nb_epochs=1)

    return epoch


def robustml(name: str, x: Tensor, y: Tensor, size: int, folder: Path) -> Callable[[], float]:
    """The trainer that `robustml train` builds, from the composed config."""
    import hydra

    from robustml.commands.quiet import quiet
    from robustml.commands.settings import plain
    from robustml.commands.train import build_module, build_trainer
    from robustml.config import config_dir
    from robustml.data import Arrays, DataModule
    from robustml.training.callbacks import EpochTable

    class Given:
        """A source that has the benchmark's images already."""

        def load(self, split: str) -> Arrays:
            return Arrays(x, y, tuple("0123456789"))

    quiet()
    model = "wong_cnn" if name == "mnist" else "preact_resnet18"
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose(
            "train",
            [
                f"model={model}",
                f"threat.eps={EPS[name]}",
                f"attack.steps={STEPS}",
                "optimizer=sgd",
                "optimizer.lr=0.01",
                "optimizer.weight_decay=0",
                "trainer.max_epochs=1",
                "trainer.accelerator=cpu",
                "trainer.enable_progress_bar=false",
                f"data.shape={list(x.shape[1:])}",
            ],
        )
        settings = plain(config)
    module = build_module(settings)

    def epoch() -> float:
        data = DataModule(Given(), name=name, batch_size=size, val_size=0)
        trainer = build_trainer(settings, folder, has_validation=False, say=None)
        trainer.fit(module, datamodule=data)
        (table,) = (callback for callback in trainer.callbacks if isinstance(callback, EpochTable))
        # Lightning's set-up is paid once a run, not once an epoch: the table's clock starts with the epoch.
        return float(table.rows[-1]["seconds"])

    return epoch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=EPS, nargs="?", default="mnist")
    parser.add_argument("--batches", type=int, default=None, help="batches an epoch; 60 for mnist, 2 for cifar10")
    parser.add_argument("--size", type=int, default=None, help="batch size; 100 for mnist, 64 for cifar10")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="leave these out: torchattacks art")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    name = arguments.name
    count = arguments.batches or {"mnist": 60, "cifar10": 2}[name]
    size = arguments.size or {"mnist": 100, "cifar10": 64}[name]
    x, y = batches(name, count, size)
    with tempfile.TemporaryDirectory() as folder:
        loops: dict[str, Any] = {"bare": bare(name, x, y, size), "robustml": robustml(name, x, y, size, Path(folder))}
        loops |= {
            other: make(name, x, y, size)
            for other, make in (("torchattacks", hand_loop_torchattacks), ("art", art))
            if other not in arguments.without
        }
        seconds: dict[str, list[float]] = {loop: [] for loop in loops}
        for round_number in range(arguments.rounds + 1):
            for loop, epoch in loops.items():
                began = time.perf_counter()
                took = epoch() or time.perf_counter() - began
                if round_number:  # the first round warms up
                    seconds[loop].append(took)
    report(name, count, size, seconds, arguments.json)


def report(name: str, count: int, size: int, seconds: dict[str, list[float]], path: Path | None) -> None:
    """Print the table; write the JSON."""
    rows = {
        loop: {
            "seconds_per_step": statistics.median(times) / count,
            "ratio_to_bare": statistics.median(a / b for a, b in zip(times, seconds["bare"], strict=True)),
        }
        for loop, times in seconds.items()
    }
    where = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{name}: PGD-{STEPS}, {count} batches of {size}, {where}")
    for loop, row in rows.items():
        print(f"{loop:<14}{row['seconds_per_step'] * 1000:9.1f} ms a step   {row['ratio_to_bare']:.3f} x bare")
    if path is not None:
        path.write_text(json.dumps({"name": name, "batches": count, "size": size, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
