"""AutoAttack, ours against the reference package pyautoattack: wall time, verdicts, robust accuracy, attack by attack.

    python scripts/bench/autoattack.py <run> [--count 1000] [--norm inf --eps 0.3] [--only all,apgd-t,fab-t]

Both attack the same images of the same model in one process, one after the other, with all threads that torch has.
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
from robustml.commands.settings import build, read_settings
from robustml.threats import LpBall
from robustml.types import Attack

NAMES = {"inf": "Linf", "2": "L2", "1": "L1"}


def test_images(run: Path, root: str | None, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` test images of the run's data, and their labels."""
    settings = read_settings(run)["data"]
    if root is not None:
        settings["root"] = settings["source"]["root"] = root
    for key in ("num_classes", "shape"):
        settings.pop(key, None)
    data = build(settings)
    data.setup()
    loader = data.loader("test", device=torch.device("cpu"), batch_size=count, limit=count)
    x, y = next(iter(loader))
    return x, y


def correct(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which images get their label, in batches."""
    with torch.no_grad():
        return torch.cat([model(part) for part in torch.split(x, 250)]).argmax(dim=1) == y


@dataclasses.dataclass(frozen=True)
class Part(AutoAttack):
    """Our ensemble, with a share of the steps and queries."""

    budget: float = 1

    def members(self) -> dict[str, Attack]:
        """The members, shortened."""

        def shortened(attack: Any) -> Attack:
            counts = {name: getattr(attack, name) for name in ("steps", "queries") if hasattr(attack, name)}
            shorter = {name: round(self.budget * count) for name, count in counts.items()}
            return cast(Attack, dataclasses.replace(attack, **shorter))

        return {name: shortened(part) for name, part in super().members().items()}


def ours(attack: Part, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> tuple[float, Tensor]:
    """Seconds and verdicts."""
    began = time.perf_counter()
    x_adv = attack(model, x, y, generator=Generator().manual_seed(seed))
    seconds = time.perf_counter() - began
    assert attack.threat.contains(x_adv, x).all()
    return seconds, correct(model, x_adv, y)


def reference(
    name: str, model: nn.Module, x: Tensor, y: Tensor, threat: LpBall, seed: int, budget: float
) -> tuple[float, Tensor]:
    """The same of pyautoattack."""
    from pyautoattack import AutoAttack as Reference

    attack = Reference(model, eps=threat.eps, norm=NAMES[threat.norm], seed=seed, version="standard")
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
    parser.add_argument("--precision", default="float32", help="of our search: float32 or bfloat16")
    parser.add_argument("--only", help="all, or members by name with commas between them", default="all")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    model = robustml.load_model(arguments.run)
    x, y = test_images(arguments.run, arguments.root, arguments.count)
    threat = LpBall(arguments.norm, arguments.eps)
    clean = float(correct(model, x, y).float().mean())
    print(f"{len(x)} images, L{threat.norm} eps {threat.eps:g}, clean {clean:.1%}, {torch.get_num_threads()} threads")
    print(
        f"{'attack':<10} {'ours':>7} {'theirs':>7} {'agree':>7} {'ours s':>8} {'theirs s':>9} {'ratio':>6}", flush=True
    )
    rows = {}
    for name in arguments.only.split(","):
        only = None if name == "all" else name
        part = Part(threat, precision=arguments.precision, only=only, budget=arguments.budget)
        seconds, robust = ours(part, model, x, y, arguments.seed)
        their_seconds, their_robust = reference(name, model, x, y, threat, arguments.seed, arguments.budget)
        rows[name] = row = {
            "ours": float(robust.float().mean()),
            "theirs": float(their_robust.float().mean()),
            "agreement": float((robust == their_robust).float().mean()),
            "seconds": seconds,
            "their_seconds": their_seconds,
            "ratio": their_seconds / seconds,
        }
        shares = f"{row['ours']:7.2%} {row['theirs']:7.2%} {row['agreement']:7.2%}"
        print(f"{name:<10} {shares} {seconds:8.1f} {their_seconds:9.1f} {row['ratio']:6.2f}", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"clean": clean, "count": len(x), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
