"""AutoAttack, ours against the reference package pyautoattack: wall time, verdicts, robust accuracy, attack by attack.

    python scripts/bench/autoattack.py <run> --images <parquet> [--count 1000] [--norm inf --eps 0.3]

Both attack the same images of the same model in one process, one after the other, with all threads that torch has.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

import robustml
from robustml.attacks import AutoAttack
from robustml.commands.settings import build, read_settings
from robustml.threats import LpBall

NAMES = {"inf": "Linf", "2": "L2", "1": "L1"}


def test_images(run: Path, root: str | None, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` test images of the run's data, and their labels."""
    settings = read_settings(run)["data"]
    if root is not None:
        settings["root"] = root
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


def ours(model: nn.Module, x: Tensor, y: Tensor, threat: LpBall, seed: int, members: bool) -> dict[str, object]:
    """Seconds and verdicts of our ensemble, and of each member alone if `members`."""
    attacks = {"all": AutoAttack(threat)} | (dict(AutoAttack(threat).members()) if members else {})
    found = {}
    right = correct(model, x, y).nonzero().squeeze(1)
    for name, attack in attacks.items():
        began = time.perf_counter()
        x_adv = x.clone()
        x_adv[right] = attack(model, x[right], y[right], generator=Generator().manual_seed(seed))
        seconds = time.perf_counter() - began
        assert threat.contains(x_adv, x).all()
        found[name] = (seconds, correct(model, x_adv, y))
    return found


def reference(model: nn.Module, x: Tensor, y: Tensor, threat: LpBall, seed: int, members: bool) -> dict[str, object]:
    """The same of pyautoattack."""
    from pyautoattack import AutoAttack as Reference

    found = {}
    logging.disable(logging.CRITICAL)
    for name in ["all", "apgd-ce", "apgd-t", "fab-t", "square"] if members else ["all"]:
        attack = Reference(model, eps=threat.eps, norm=NAMES[threat.norm], seed=seed, version="standard")
        if name != "all":
            attack.attacks_to_run = [name]
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=250)
        found[name] = (time.perf_counter() - began, correct(model, x_adv, y))
    return found


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory of robustml train")
    parser.add_argument("--root", help="data.root, where the run's own does not exist")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--norm", default="inf", choices=NAMES)
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", action="store_true", help="also each attack alone, on all images")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = robustml.load_model(arguments.run)
    x, y = test_images(arguments.run, arguments.root, arguments.count)
    threat = LpBall(arguments.norm, arguments.eps)
    mine = ours(model, x, y, threat, arguments.seed, arguments.members)
    theirs = reference(model, x, y, threat, arguments.seed, arguments.members)
    clean = float(correct(model, x, y).float().mean())
    print(f"{arguments.run}, {len(x)} images, L{threat.norm} eps {threat.eps:g}, clean {clean:.1%}")
    print(f"{torch.get_num_threads()} threads; robust accuracy in %, seconds of wall time")
    print(f"{'attack':<10} {'ours':>7} {'theirs':>7} {'agree':>7} {'ours s':>8} {'theirs s':>9} {'ratio':>6}")
    rows = {}
    for name, (seconds, robust) in mine.items():
        their_seconds, their_robust = theirs[name]
        row = {
            "ours": float(robust.float().mean()),
            "theirs": float(their_robust.float().mean()),
            "agreement": float((robust == their_robust).float().mean()),
            "seconds": seconds,
            "their_seconds": their_seconds,
            "ratio": their_seconds / seconds,
        }
        rows[name] = row
        print(
            f"{name:<10} {row['ours']:7.2%} {row['theirs']:7.2%} {row['agreement']:7.2%} "
            f"{seconds:8.1f} {their_seconds:9.1f} {row['ratio']:6.2f}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"clean": clean, "count": len(x), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
