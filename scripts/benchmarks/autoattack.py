"""AutoAttack, ours against the reference package pyautoattack: wall time, verdicts, robust accuracy, attack by attack.

    python scripts/benchmarks/autoattack.py <run> [--count 1000] [--norm inf --eps 0.3] [--only all,apgd-t,fab-t]

Both attack the same images of the same model in one process, one after the other, with all threads that torch has.
The reference searches in float32; ours as `--search` says, one row each: float32, bfloat16, and on CUDA both with
`+graphs`, which captures the passes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

import robustml
from robustml.attacks import AutoAttack
from robustml.threats import LpBall
from robustml.types import Attack
from robustml.workflows.building import build
from robustml.workflows.settings import read_settings

NAMES = {"inf": "Linf", "2": "L2", "1": "L1"}


def test_images(run: Path, root: str | None, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A sample of `count` test images of the run's data, and their labels."""
    settings = read_settings(run)["data"]
    if root is not None:
        settings["root"] = settings["source"]["root"] = root
    for key in ("num_classes", "shape"):
        settings.pop(key, None)
    data = build(settings)
    data.setup()
    loader = data.loader("test", device=device, batch_size=count, limit=count)
    x, y = next(iter(loader))
    return x, y


def correct(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which images get their label, in batches."""
    with torch.no_grad():
        return torch.cat([model(part) for part in torch.split(x, 250)]).argmax(dim=1) == y


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclasses.dataclass(frozen=True)
class Part(AutoAttack):
    """Our ensemble, with a share of the steps and queries."""

    budget: float = 1

    def members(self, *, one_norm: bool = False) -> dict[str, Attack]:
        """The members, shortened."""

        def shortened(attack: Any) -> Attack:
            counts = {name: getattr(attack, name) for name in ("steps", "queries") if hasattr(attack, name)}
            shorter = {name: round(self.budget * count) for name, count in counts.items()}
            return cast(Attack, dataclasses.replace(attack, **shorter))

        return {name: shortened(part) for name, part in super().members(one_norm=one_norm).items()}


def ours(attack: Part, model: nn.Module, x: Tensor, y: Tensor, threat: LpBall, seed: int) -> tuple[float, Tensor]:
    """Seconds and verdicts."""
    began = time.perf_counter()
    x_adv = attack(model, x, y, threat, generator=Generator(device=x.device).manual_seed(seed))
    synchronize(x.device)
    seconds = time.perf_counter() - began
    assert threat.contains(x_adv, x).all()
    return seconds, correct(model, x_adv, y)


def reference(
    name: str, model: nn.Module, x: Tensor, y: Tensor, threat: LpBall, seed: int, budget: float
) -> tuple[float, Tensor]:
    """The same of pyautoattack."""
    from pyautoattack import AutoAttack as Reference

    attack = Reference(model, eps=threat.eps, norm=NAMES[threat.norm], seed=seed, version="standard", device=x.device)
    if name != "all":
        attack.attacks_to_run = [name]
    if budget != 1:
        steps = round(100 * budget)
        for part in (attack.apgd, attack.apgd_targeted):
            part.n_iter = part.n_iter_orig = steps
            part.n_iter_2, part.n_iter_min = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
            part.size_decr = max(int(0.03 * steps), 1)
        attack.fab.n_iter, attack.square.n_queries = steps, round(5000 * budget)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=250)
    synchronize(x.device)
    return time.perf_counter() - began, correct(model, x_adv, y)


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory of robustml train")
    parser.add_argument("--root", help="data.root, where the run's own does not exist")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--norm", default="inf", choices=NAMES)
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=1, help="share of the steps and queries, of both")
    parser.add_argument("--search", default="float32", help="how ours searches, with commas between the ways")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", help="all, or members by name with commas between them", default="all")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    device = arguments.device
    model = robustml.load_model(arguments.run).to(device)
    x, y = test_images(arguments.run, arguments.root, arguments.count, device)
    threat = LpBall(arguments.norm, arguments.eps)
    clean = float(correct(model, x, y).float().mean())
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{len(x)} images, L{threat.norm} eps {threat.eps:g}, clean {clean:.1%}, {card}")
    heads = f"{'ours':>7} {'theirs':>7} {'agree':>7} {'ours s':>8} {'theirs s':>9} {'ratio':>6}"
    print(f"{'attack':<10} {'search':<16} {heads}", flush=True)
    figures: dict[str, Any] = {"clean": clean, "count": len(x), "device": card, "rows": []}

    def keep() -> None:  # after every measurement: what there is survives a limit of time
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n")

    for name in arguments.only.split(","):
        verdicts = []
        for search in arguments.search.split(","):
            precision, _, graphs = search.partition("+")
            only = None if name == "all" else name
            part = Part(precision=precision, graphs=bool(graphs), only=only, budget=arguments.budget)
            seconds, robust = ours(part, model, x, y, threat, arguments.seed)
            row = {"attack": name, "search": search, "ours": float(robust.float().mean()), "seconds": seconds}
            verdicts.append((row, robust))
            figures["rows"].append(row)
            keep()
        their_seconds, their_robust = reference(name, model, x, y, threat, arguments.seed, arguments.budget)
        for row, robust in verdicts:
            row["theirs"], row["their_seconds"] = float(their_robust.float().mean()), their_seconds
            row["agreement"] = float((robust == their_robust).float().mean())
            row["ratio"] = their_seconds / row["seconds"]
            shares = f"{row['ours']:7.2%} {row['theirs']:7.2%} {row['agreement']:7.2%}"
            times = f"{row['seconds']:8.1f} {their_seconds:9.1f} {row['ratio']:6.2f}"
            print(f"{name:<10} {row['search']:<16} {shares} {times}", flush=True)
        keep()


if __name__ == "__main__":
    main()
