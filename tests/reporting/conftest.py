"""Fabricated run directories: every figure is counted from made-up predictions, so that all of them agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustml.results import rate

ATTACKS: dict[str, dict[str, Any]] = {
    "fgsm": {"steps": 1, "random_start": False},
    "pgd": {"steps": 20, "step_size": 2 / 255, "restarts": 1, "random_start": True},
    "autoattack": {"version": "standard"},
}


def counted(successes: int, n: int) -> dict[str, Any]:
    return rate(successes, n).model_dump(mode="json")


def make_results(
    experiment: str = "trades_linf",
    seed: int = 0,
    n: int = 360,
    strength: float = 0.9,
    eps: float = 8 / 255,
    norm: str = "inf",
    classes: tuple[str, ...] = tuple("0123456789"),
    flags: int = 0,
) -> dict[str, Any]:
    """All of results.json; `strength` is the share of examples that withstand an attack at `eps`."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, len(classes), n) if n else np.zeros(0, dtype=int)
    clean = generator.random(n) < 0.975
    # The budget up to which each example withstands: about `strength` of them beyond eps.
    limit = generator.exponential(eps / -np.log(strength), n) * (1 + 0.06 * (y - len(classes) / 2))
    survives = {name: clean & (limit > eps * share) for name, share in zip(ATTACKS, (0.8, 1.0, 1.05), strict=True)}
    worst = np.logical_and.reduce(list(survives.values()))
    points = [
        {"eps": eps * k / 4, "robust_accuracy": counted(int((clean & (limit > eps * k / 4)).sum()), n)}
        for k in range(9)
    ]
    return {
        "schema": 1,
        "command": "train",
        "experiment": experiment,
        "seed": seed,
        "data": {"name": "digits", "fingerprint": "sha256:" + "3fa9c1d2" * 8, "train": 1257, "val": 180, "test": n,
                 "poison": None},
        "model": {"name": "small_cnn", "parameters": 121834, "sha256": weights_digest(experiment, seed, strength)},
        "threat": {"norm": norm, "eps": eps},
        "clean_accuracy": counted(int(clean.sum()), n),
        "attacks": {
            name: {"robust_accuracy": counted(int(mask.sum()), n), "rounded_accuracy": None, "pending": 0,
                   "max_norm": eps * 0.99999,
                   "seconds": 0.4 * 5**place, "params": dict(ATTACKS[name])}
            for place, (name, mask) in enumerate(survives.items())
        },
        "worst_case": {"robust_accuracy": counted(int(worst.sum()), n), "attacks": list(survives)},
        "per_class": [
            {"label": label, "name": name, "n": int((y == label).sum()),
             "clean_accuracy": counted(int(clean[y == label].sum()), int((y == label).sum())),
             "robust_accuracy": counted(int(worst[y == label].sum()), int((y == label).sum()))}
            for label, name in enumerate(classes)
        ],
        "curve": {"attack": "pgd", "attacks": ["pgd", "fmn"], "points": points},
        "flags": [
            {"name": "gradient_masking", "attack": "pgd",
             "message": "a random search beats the gradient: 41 examples fall to it alone"},
            {"name": "eps_monotonic", "attack": None, "message": "accuracy does not reach 0 at eps 64/255"},
        ][:flags],
        "selection": {
            "monitor": "val/adversarial_accuracy",
            "best": {"epoch": 22, "step": 220, "clean_accuracy": 0.972, "adversarial_accuracy": 0.906,
                     "train_adversarial_accuracy": None},
            "last": {"epoch": 30, "step": 300, "clean_accuracy": 0.983, "adversarial_accuracy": 0.861,
                     "train_adversarial_accuracy": None},
        },
        "backdoor": None, "extraction": None, "certified": None, "corruptions": None,
        "complete": True,
        "cost": {"train_seconds": 312.4, "attack_share": 0.713, "samples_per_second": 4180.0, "peak_memory_mb": 742.0,
                 "forward_passes": None, "backward_passes": None, "passes_per_sample": None,
                 "seconds_per_robust_point": None, "passes_per_robust_point": None},
        "environment": {"python": "3.11.7", "torch": "2.8.0", "robustml": "0.1.0", "device": "cpu"},
    }  # fmt: skip


def write_metrics(folder: Path, epochs: int = 30) -> None:
    generator = np.random.default_rng(1)
    figures = [
        f"{split}/{name}" for split in ("train", "val") for name in ("loss", "clean_accuracy", "adversarial_accuracy")
    ]
    columns = ["epoch", "step", "lr", *figures, "seconds", "attack_share", "samples_per_second"]
    lines = [",".join(columns)]
    for epoch in range(epochs):
        learned = 1 - np.exp(-(epoch + 1) / 5)
        noise = generator.normal(0, 0.006, 5)
        decay = max(0, epoch - 21) * 0.006
        row = [epoch + 1, 10 * (epoch + 1), 0.1, 2.3 * (1 - learned) + 0.15, 0.985 * learned + noise[0] * 0.3,
               0.95 * learned + noise[1], 2.3 * (1 - learned) + 0.24 + decay + abs(noise[2]),
               0.975 * learned + noise[3] * 0.5, 0.92 * learned - decay + noise[4], 10.1, 0.71, 4180]  # fmt: skip
        lines.append(",".join(f"{value:.5g}" for value in row))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def write_examples(folder: Path, shape: tuple[int, ...] = (1, 8, 8), eps: float = 8 / 255, count: int = 8,
                   names: tuple[str, ...] = tuple("0123456789")) -> None:  # fmt: skip
    generator = np.random.default_rng(2)
    x = generator.random((count, *shape)).astype(np.float32)
    if len(shape) == 3:
        rows, columns = np.mgrid[0 : shape[1], 0 : shape[2]] / shape[1]
        waves = [np.sin(3 * (k + 2) * rows / 2 + k) * np.cos(2 * (k + 1) * columns / 2) for k in range(count)]
        x = np.clip(0.5 + 0.5 * np.stack(waves)[:, None] * np.linspace(1, 0.4, shape[0])[:, None, None], 0, 1)
    x_adv = np.clip(x + eps * np.sign(generator.normal(size=x.shape)), 0, 1)
    y = generator.integers(0, len(names), count)
    attacked = np.where(np.arange(count) % 3 == 1, (y + 3) % len(names), y)
    np.savez(folder / "examples.npz", x=x.astype(np.float32), x_adv=x_adv.astype(np.float32), y=y, prediction=y,
             adversarial_prediction=attacked, confidence=generator.uniform(0.8, 1, count).astype(np.float32),
             adversarial_confidence=generator.uniform(0.4, 0.95, count).astype(np.float32),
             class_names=np.array(names), attack=np.array("pgd"))  # fmt: skip


def weights_digest(*what: object) -> str:
    """Other weights for every experiment, seed and strength."""
    return "sha256:" + hashlib.sha256(repr(what).encode()).hexdigest()


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a run directory below tmp_path; `full` adds every optional file."""

    def make(name: str = "run", full: bool = True, train_eps: str = "8/255", **settings: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        results = settings.pop("results", None) or make_results(**settings)
        (folder / "results.json").write_text(json.dumps(results))
        if full:
            write_metrics(folder)
            write_examples(folder)
            config = f"experiment: {results['experiment']}\nthreat:\n  norm: inf\n  eps: {train_eps}\nobjective:\n"
            config += (
                "  _target_: robustml.objectives.TRADES\n  beta: 6.0\n  attack: {_target_: robustml.attacks.PGD}\n"
            )
            (folder / "config.yaml").write_text(config)
        return folder

    return make
