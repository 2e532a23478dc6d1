"""metrics.csv tells what was measured in its epoch, and best.ckpt holds the weights that its figure was measured on."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import SGD
from training.test_classifier import Batches, network, pytestmark, trainer  # noqa: F401

from robustml.attacks import PGD
from robustml.objectives import Adversarial
from robustml.threats import LpBall
from robustml.training import (
    ADVERSARIAL_ACCURACY,
    CLEAN_ACCURACY,
    AtomicCheckpointIO,
    RobustClassifier,
    best_and_last,
    measured_on,
    read_checkpoint,
)
from robustml.training.callbacks import EpochTable, RobustOverfitting

THREAT = LpBall("inf", 0.02)

ATTACK = PGD(steps=2, random_start=False)


@pytest.fixture(scope="module")
def batches(trained_digits: Any) -> Batches:
    x, y = trained_digits.test
    return Batches(list(zip(x[:160].split(16), y[:160].split(16), strict=True)))


def run(
    folder: Path, batches: Batches, *watching: pl.Callback, epochs: int, **settings: Any
) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of metrics.csv, and what was said."""
    said: list[str] = []
    callbacks = [
        *watching,
        RobustOverfitting(say=said.append),
        EpochTable(folder / "metrics.csv", said.append),
        best_and_last(folder / "checkpoints", CLEAN_ACCURACY),
    ]
    classifier = RobustClassifier(
        network(), Adversarial(ATTACK), THREAT, partial(SGD, lr=1.0), validation_attack=ATTACK
    )
    running = trainer(
        epochs, callbacks=callbacks, plugins=[AtomicCheckpointIO()], enable_checkpointing=True, **settings
    )
    running.fit(classifier, batches, batches)
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file)), said


def accuracy(weights: dict[str, Tensor], batches: Batches) -> float:
    model = network().eval()
    model.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
    with torch.no_grad():
        return sum(float((model(x).argmax(1) == y).sum()) for x, y in batches) / 160


def assert_best_is_what_was_measured(folder: Path, batches: Batches) -> dict[str, float]:
    checkpoint = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    measured = measured_on(checkpoint)
    assert measured is not None
    assert accuracy(checkpoint["state_dict"], batches) == pytest.approx(measured[CLEAN_ACCURACY], abs=1e-6)
    assert checkpoint["global_step"] == measured["step"]
    assert checkpoint["epoch"] + 1 == measured["epoch"]
    return measured


def test_an_epoch_without_validation_has_no_validation_figures(batches: Batches, tmp_path: Path) -> None:
    rows, said = run(tmp_path, batches, epochs=5, check_val_every_n_epoch=2)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    for name in (CLEAN_ACCURACY, ADVERSARIAL_ACCURACY, "val/loss", "robust_gap"):
        assert [bool(row[name]) for row in rows] == [False, True, False, True, False], name
    assert all(row["train/loss"] for row in rows)
    assert len({row["train/loss"] for row in rows}) == 5
    lines = [line for line in said if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in lines] == [f"epoch {number}/5" for number in range(1, 6)]
    assert ["val clean" in line for line in lines] == [False, True, False, True, False]
    measured = assert_best_is_what_was_measured(tmp_path, batches)
    assert measured["epoch"] in (2, 4)


def test_a_run_that_ends_within_an_epoch_tells_of_the_steps_it_made(batches: Batches, tmp_path: Path) -> None:
    """The last row is of 3 steps, and nothing was validated after them."""
    rows, _ = run(tmp_path, batches, epochs=4, max_steps=13)
    assert [(row["epoch"], row["step"], row["samples"]) for row in rows] == [("1", "10", "160"), ("2", "13", "48")]
    assert [bool(row[CLEAN_ACCURACY]) for row in rows] == [True, False]
    whole, _ = run(tmp_path / "whole", batches.first(3), epochs=1)
    assert rows[1]["train/loss"] not in ("", rows[0]["train/loss"])
    assert float(rows[1]["train/loss"]) < float(whole[0]["train/loss"])
    assert assert_best_is_what_was_measured(tmp_path, batches)["step"] == 10


@pytest.mark.parametrize("interval", [2, 0.3])
def test_the_best_of_several_validations_an_epoch_is_kept_as_it_was(
    interval: float, batches: Batches, tmp_path: Path
) -> None:
    found: list[tuple[int, float]] = []

    class Look(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            found.append((trainer.global_step, float(trainer.callback_metrics[CLEAN_ACCURACY])))

    rows, _ = run(tmp_path, batches, Look(), epochs=3, val_check_interval=interval)
    measured = assert_best_is_what_was_measured(tmp_path, batches)
    best = max(figure for _, figure in found)
    assert measured[CLEAN_ACCURACY] == pytest.approx(best)
    assert measured["step"] == next(step for step, figure in found if figure == best)
    assert len(found) > len(rows)


def test_a_run_that_is_never_validated_keeps_its_last_weights_only(batches: Batches, tmp_path: Path) -> None:
    rows, _ = run(tmp_path, batches, epochs=2, check_val_every_n_epoch=5)
    assert [row[CLEAN_ACCURACY] for row in rows] == ["", ""]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert measured_on(read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")) is None
