"""Whole accuracy-eps curves against one attack at each eps: `python scripts/benchmarks/curve.py <run directory>`.

On a sample of the test images of a run, with the model of that run, after one untimed round, in seconds of this
process's processor time, which others on the machine do not lengthen (set OMP_NUM_THREADS=1):

- curve: `accuracy_curve` at all eps values;
- one: the same attack at the largest eps alone, through `evaluate`, knowing nothing;
- separate: the same attack at each eps, once, for the accuracies.

Prints both accuracies at each eps, the largest difference in points (above 0: the curve misses what a separate attack
finds), and the time of the curve as a multiple of that of the one attack (median over rounds of the ratio within a
round).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from robustml import load_model
from robustml.attacks import PGD
from robustml.evaluation import accuracy_curve, evaluate
from robustml.workflows.building import build
from robustml.workflows.settings import read_settings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory of `robustml train`")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--count", type=int, default=16, help="eps values, evenly spaced from largest / count")
    parser.add_argument("--largest", type=float, default=0.4)
    parser.add_argument("--attack", choices=["pgd", "apgd"], default="pgd")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--no-early-stop", action="store_true", help="pgd: fooled images stay in the batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()

    settings = read_settings(arguments.run)
    model, threat = load_model(arguments.run), build(settings["threat"])
    data = build(settings["data"])
    data.setup()
    loader = data.loader("test", limit=arguments.images)
    if arguments.attack == "apgd":
        from robustml.attacks import APGD

        attack = APGD(steps=arguments.steps, restarts=arguments.restarts)
    else:
        early_stop = not arguments.no_early_stop
        attack = PGD(steps=arguments.steps, restarts=arguments.restarts, early_stop=early_stop)
    radii = [arguments.largest * (k + 1) / arguments.count for k in range(arguments.count)]

    def separate(eps: float) -> float:
        results = evaluate(model, loader, {"attack": attack}, threat.at(eps), examples=0)
        return results.worst_case.robust_accuracy.value

    curve = accuracy_curve(model, loader, "attack", attack, threat, radii)
    whole = [point.robust_accuracy.value for point in curve.points]
    alone = [separate(eps) for eps in radii]
    seconds = [
        (
            clock(lambda: accuracy_curve(model, loader, "attack", attack, threat, radii)),
            clock(lambda: separate(radii[-1])),
        )
        for _ in range(arguments.rounds)
    ]
    figures = {
        "attack": repr(attack),
        "images": arguments.images,
        "eps": radii,
        "curve": whole,
        "separate": alone,
        "points_above_separate": max(100 * (a - b) for a, b in zip(whole, alone, strict=True)),
        "curve_seconds": statistics.median(curve for curve, _ in seconds),
        "one_seconds": statistics.median(one for _, one in seconds),
        "ratio": statistics.median(curve / one for curve, one in seconds),
    }
    report(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def clock(work: Callable[[], object]) -> float:
    """Seconds of processor time that `work` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def report(figures: dict[str, object]) -> None:
    """Print the table."""
    print(f"{figures['attack']}, {figures['images']} images, {torch.get_num_threads()} threads")
    print("     eps   curve  separate  difference")
    for eps, whole, alone in zip(figures["eps"], figures["curve"], figures["separate"], strict=True):
        print(f"{eps:8.4f}{100 * whole:8.1f}{100 * alone:10.1f}{100 * (whole - alone):12.1f}")
    print(f"largest difference: {figures['points_above_separate']:+.2f} points")
    print(
        f"curve {figures['curve_seconds']:.2f} s, one attack at eps={figures['eps'][-1]:g} "
        f"{figures['one_seconds']:.2f} s: {figures['ratio']:.2f} x"
    )


if __name__ == "__main__":
    main()
