"""PGD-10 training, `robustml train` against bare loops: `python scripts/benchmarks/epoch.py mnist`.

In one process, on the same batches, interleaved so that a noisy machine slows all of them alike:

- bare: the k input-gradient passes and one training pass, in plain PyTorch written with equal care;
- robustml: `Trainer.fit` with `RobustClassifier`, its loader and its callbacks, as `robustml train` builds them;
- torchattacks: a hand loop around torchattacks' PGD;
- ART: `AdversarialTrainerMadryPGD`.

With `--device cuda` also the best bare loop that we know (bfloat16, channels last, the whole attack captured as one
graph) and ours in bfloat16 with channels last; and how often a step of ours makes the host wait for the device.

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
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
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


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def batches(name: str, count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 images and labels, random: the arithmetic does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 28, 28) if name == "mnist" else (3, 32, 32)
    x = torch.randint(0, 256, (count * size, *shape), generator=generator, dtype=torch.uint8)
    return x.to(device), torch.randint(0, 10, (count * size,), generator=generator).to(device)


def bare(name: str, x: Tensor, y: Tensor, size: int) -> Callable[[], None]:
    """A hand-written loop: nothing in it that the work does not need."""
    model, eps = network(name).to(x.device).train(), EPS[name]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    alpha = 2.5 * eps / STEPS

    def epoch() -> None:
        order = torch.randperm(len(x), device=x.device)
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


def best_bare(name: str, x: Tensor, y: Tensor, size: int) -> Callable[[], None]:
    """The fastest loop by hand that we know for CUDA: bfloat16, channels last, all steps of the attack in one graph."""
    model, eps = network(name).to(x.device, memory_format=torch.channels_last).train(), EPS[name]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    alpha = 2.5 * eps / STEPS
    images = torch.empty(size, *x.shape[1:], device=x.device).contiguous(memory_format=torch.channels_last)
    labels, found = torch.empty(size, dtype=torch.int64, device=x.device), torch.empty_like(images)

    def half() -> torch.autocast:
        # The cache of half-precision weights would outlive their change by the optimizer in a captured graph.
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)

    def climb() -> None:
        low, high = (images - eps).clamp_(0, 1), (images + eps).clamp_(0, 1)
        x_adv = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp_(0, 1)
        for _ in range(STEPS):
            x_adv.requires_grad_()
            with half():
                loss = functional.cross_entropy(model(x_adv), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x_adv)
            x_adv = torch.clamp(x_adv.detach() + alpha * gradient.sign_(), low, high)
        found.copy_(x_adv)

    def attacking() -> None:
        model.eval().requires_grad_(False)

    images.copy_(x[:size].float().div_(255))
    labels.copy_(y[:size])
    attacking()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            climb()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        climb()

    def epoch() -> None:
        order = torch.randperm(len(x), device=x.device)
        for start in range(0, len(x), size):
            chosen = order[start : start + size]
            images.copy_(x[chosen].float().div_(255))
            labels.copy_(y[chosen])
            attacking()
            graph.replay()
            model.train().requires_grad_(True)
            optimizer.zero_grad()
            with half():
                loss = functional.cross_entropy(model(found), labels)
            loss.backward()
            optimizer.step()

    return epoch


def hand_loop_torchattacks(name: str, x: Tensor, y: Tensor, size: int) -> Callable[[], None]:
    """What users of torchattacks write."""
    import torchattacks

    model, eps = network(name).to(x.device).train(), EPS[name]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    attack = torchattacks.PGD(model, eps=eps, alpha=2.5 * eps / STEPS, steps=STEPS)

    def epoch() -> None:
        order = torch.randperm(len(x), device=x.device)
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
    from art.defenses.trainer import AdversarialTrainerMadryPGD
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


class Clock(pl.Callback):
    """Seconds of one epoch: Lightning's set-up is paid once a run, not once an epoch."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        synchronize(pl_module.device)
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        synchronize(pl_module.device)
        self.seconds = time.perf_counter() - self._began


def robustml(name: str, x: Tensor, y: Tensor, size: int, folder: Path, *options: str) -> Callable[[], float]:
    """The trainer that `robustml train` builds, from the composed config with more `options`."""
    import hydra

    from robustml.commands.hydra.composing import plain
    from robustml.config import config_dir
    from robustml.data import DataModule, Records
    from robustml.training import TrainerData
    from robustml.workflows.training import build_module, build_trainer

    class Given:
        """A source that has the benchmark's images already."""

        def load(self, split: str) -> Records:
            return Records(x.cpu(), y.cpu(), tuple("0123456789"))

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
                f"trainer.accelerator={'cpu' if x.device.type == 'cpu' else 'gpu'}",
                "trainer.enable_progress_bar=false",
                f"data.shape={list(x.shape[1:])}",
                *options,
            ],
        )
        settings = plain(config)
    module = build_module(settings)

    channels_last = bool(settings["channels_last"])

    def epoch() -> float:
        data = DataModule(Given(), name=name, batch_size=size, val_size=0, channels_last=channels_last)
        trainer, clock = build_trainer(settings, folder, has_validation=False, say=None), Clock()
        trainer.callbacks.insert(0, clock)
        trainer.fit(module, datamodule=TrainerData(data))
        return clock.seconds

    return epoch


def waits(epoch: Callable[[], object], steps: int) -> float:
    """How often a step makes the host wait for the device, what an epoch costs once included."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught) / steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=EPS, nargs="?", default="mnist")
    parser.add_argument("--batches", type=int, default=None, help="batches an epoch; 60 for mnist, 2 for cifar10")
    parser.add_argument("--size", type=int, default=None, help="batch size; 100 for mnist, 64 for cifar10")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="leave these out: torchattacks art")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    name, device = arguments.name, arguments.device
    count = arguments.batches or {"mnist": 60, "cifar10": 2}[name]
    size = arguments.size or {"mnist": 100, "cifar10": 64}[name]
    x, y = batches(name, count, size, device)
    with tempfile.TemporaryDirectory() as folder:
        loops: dict[str, Any] = {"bare": bare(name, x, y, size), "robustml": robustml(name, x, y, size, Path(folder))}
        loops |= {
            other: make(name, x, y, size)
            for other, make in (("torchattacks", hand_loop_torchattacks), ("art", art))
            if other not in arguments.without
        }
        if device.type == "cuda":
            half = ("trainer.precision=bf16-mixed", "channels_last=true")
            loops["bare-best"] = best_bare(name, x, y, size)
            loops["robustml-bf16"] = robustml(name, x, y, size, Path(folder), *half)
        seconds: dict[str, list[float]] = {loop: [] for loop in loops}
        for round_number in range(arguments.rounds + 1):
            for loop, epoch in loops.items():
                synchronize(device)
                began = time.perf_counter()
                took = epoch()
                synchronize(device)
                if round_number:  # the first round warms up
                    seconds[loop].append(took or time.perf_counter() - began)
        waited = waits(loops["robustml"], count) if device.type == "cuda" else None
    report(name, count, size, device, seconds, waited, arguments.json)


def report(
    name: str,
    count: int,
    size: int,
    device: torch.device,
    seconds: dict[str, list[float]],
    waited: float | None,
    path: Path | None,
) -> None:
    """Print the table; write the JSON."""
    rows = {
        loop: {
            "seconds_per_step": statistics.median(times) / count,
            "ratio_to_bare": statistics.median(a / b for a, b in zip(times, seconds["bare"], strict=True)),
        }
        for loop, times in seconds.items()
    }
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{name}: PGD-{STEPS}, {count} batches of {size}, {card}, torch {torch.__version__}")
    for loop, row in rows.items():
        print(f"{loop:<14}{row['seconds_per_step'] * 1000:9.1f} ms a step   {row['ratio_to_bare']:.3f} x bare")
    if waited is not None:
        print(f"robustml makes the host wait {waited:.2f} times a step")
    if path is not None:
        figures = {"name": name, "batches": count, "size": size, "device": card, "waits_a_step": waited, "rows": rows}
        path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
