"""What poisoning a training set costs: `python scripts/benchmarks/poison.py`.

Each data-only poison on 50,000 random pictures of CIFAR-10's size, the median of several rounds in wall-clock seconds,
against one epoch of PGD-10 training of PreActResNet-18. That epoch is not run: a few steps on batches of 128 are
measured after one that is not, and multiplied by the 391 of an epoch. Prints a table, and writes it as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from robustml.attacks import PGD
from robustml.data import Records
from robustml.models import PreActResNet18
from robustml.objectives import Adversarial
from robustml.poisoning import SIG, BadNets, Blended, FourCorners, Poison, Shortcut, SinglePixel, Square, WaNet
from robustml.threats import LpBall

PICTURES, BATCH = 50_000, 128
POISONS: dict[str, Poison] = {
    "badnets": BadNets(Square(3), 0.05),
    "blended": Blended(rate=0.05),
    "sig": SIG(rate=0.05),
    "wanet": WaNet(),
    "single_pixel": SinglePixel(0),
    "shortcut": Shortcut(FourCorners(), 0.98),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="PGD-10 training steps to measure")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (PICTURES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    data = Records(x, torch.arange(PICTURES) % 10, tuple("abcdefghij"))
    step = training_step(data, arguments.steps, arguments.device)
    epoch = step * -(-PICTURES // BATCH)
    figures: dict[str, object] = {"device": arguments.device, "threads": torch.get_num_threads(), "step_seconds": step}
    figures |= {"epoch_seconds_extrapolated": epoch, "poisons": (table := {})}
    print(
        f"PGD-10 on {arguments.device}, {torch.get_num_threads()} threads: {step:.3f} s a step, {epoch:.0f} s an epoch"
    )
    print("poison         seconds  of an epoch")
    for name, poison in POISONS.items():
        seconds = median_seconds(lambda poison=poison: poison.plan(data, seed=0), arguments.rounds)
        table[name] = {"seconds": seconds, "ratio": seconds / epoch}
        print(f"{name:<14}{seconds:8.2f}{seconds / epoch:12.3%}")
    plan = POISONS["wanet"].plan(data, seed=0)
    seconds = median_seconds(lambda: plan.apply(data), arguments.rounds)
    table["apply"] = {"seconds": seconds, "ratio": seconds / epoch}
    print(f"{'apply':<14}{seconds:8.2f}{seconds / epoch:12.3%}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """The median wall-clock time of `work`, after one round that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def training_step(data: Records, steps: int, device: str) -> float:
    """Seconds of one PGD-10 training step."""
    model = PreActResNet18().to(device).train()
    objective = Adversarial(PGD(steps=10, step_size=2 / 255))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    threat = LpBall("inf", 8 / 255)
    x, y = data.x[:BATCH].to(device) / 255.0, data.y[:BATCH].to(device)

    def step() -> None:
        x_adv = objective.perturb(model, x, y, threat)
        optimizer.zero_grad()
        objective.loss(model, x, x_adv, y, threat).loss.backward()
        optimizer.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return median_seconds(step, steps)


if __name__ == "__main__":
    main()
