from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam

from robustml.attacks import FGSM, FGSMRS, PGD
from robustml.errors import RequestError
from robustml.models import SingleLayerCNN
from robustml.objectives import Adversarial, Standard
from robustml.threats import LpBall
from robustml.training import AtomicCheckpointIO, RobustClassifier, best_and_last
from robustml.training.callbacks import CatastrophicOverfitting, EpochTable, RobustOverfitting
from robustml.training.callbacks import catastrophic_overfitting as module_of_it
from robustml.training.health import Health, measure_health

THREAT = LpBall("inf", 0.1)
# Acts on the first measurement.
Watch = partial(CatastrophicOverfitting, patience=1)

pytestmark = [
    # Lightning 2.6 asks for a class of torch that torch 2.15 calls deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    # A run is taken up again in its own folder.
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    # A run without a validation split is meant here.
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]


class Batches:
    """Batches in memory. Lightning takes a plain list for a collection of loaders."""

    def __init__(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.batches = list(batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@pytest.fixture
def batches() -> Batches:
    """4 batches of 6 grey images (1, 6, 6) of 5 classes."""
    generator = Generator().manual_seed(5)
    return Batches(
        [
            (torch.rand(6, 1, 6, 6, generator=generator), torch.randint(0, 5, (6,), generator=generator))
            for _ in range(4)
        ]
    )


def trainer(folder: Path, *callbacks: pl.Callback, epochs: int = 1, **settings: Any) -> pl.Trainer:
    settings = {"enable_checkpointing": False} | settings
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        default_root_dir=folder,
        **settings,
    )


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().double().flatten() for value in model.state_dict().values()])


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "health.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# What is measured


class Shifted(LpBall):
    """A ball whose random start is known."""

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        return x + self.eps / 2


def test_on_a_linear_model_accuracies_are_those_of_the_margin_and_gradients_are_aligned() -> None:
    """Two classes, margin w.x + b: an L-infinity attack takes eps |w|_1 off it, in one step as in ten."""
    weight = torch.tensor([1.0, -2.0, 0.5])
    model = nn.Linear(3, 2, bias=True)
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.zeros(3), weight]))
        model.bias.copy_(torch.tensor([0.0, 0.6]))
    x = 0.2 + 0.6 * torch.rand(200, 3, generator=Generator().manual_seed(0))
    margin = x.double() @ weight.double() + 0.6
    y = (margin > 0).long()
    y[:20] = 1 - y[:20]
    standing = (margin.abs() > 0.1 * 3.5) & (torch.arange(200) >= 20)
    health = measure_health(model, x, y, THREAT, 10, Generator().manual_seed(0))
    assert 0.2 < standing.double().mean() < 0.8
    assert health.clean_accuracy == pytest.approx(0.9)
    assert health.fgsm_accuracy == health.pgd_accuracy == pytest.approx(float(standing.double().mean()))
    assert health.gradient_alignment == pytest.approx(1.0, abs=1e-6)
    assert health.constant_accuracy == pytest.approx(max(float(y.double().mean()), 1 - float(y.double().mean())))


def test_alignment_is_the_mean_cosine_of_gradients_computed_one_by_one(conv_model: nn.Module, image_batch: Any) -> None:
    x, y = image_batch
    threat = Shifted("inf", 0.2)
    health = measure_health(conv_model.train(), x, y, threat, 1, Generator())
    cosines = []
    model = copy.deepcopy(conv_model).double().eval()
    for image, label in zip(x, y, strict=True):
        here, there = (
            torch.autograd.functional.jacobian(
                lambda one, label=label: -model(one.unsqueeze(0)).log_softmax(1)[0, label], point.double()
            )
            for point in (image, image + 0.1)
        )
        cosines.append(float((here * there).sum() / (here.norm() * there.norm())))
    assert health.gradient_alignment == pytest.approx(sum(cosines) / len(cosines), abs=1e-4)
    assert health.gradient_alignment < 0.99


def test_without_a_gradient_there_is_no_alignment() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * x[:, :2] + torch.tensor([1.0, 0.0])

    health = measure_health(Constant(), torch.rand(4, 3), torch.zeros(4, dtype=torch.long), THREAT, 2, Generator())
    assert math.isnan(health.gradient_alignment)
    assert health.clean_accuracy == health.pgd_accuracy == 1


def test_the_model_and_the_global_random_state_are_left_alone(conv_model: nn.Module, image_batch: Any) -> None:
    conv_model.train()
    conv_model[1].eval()
    conv_model[0].weight.requires_grad_(False)
    before, modes = weights(conv_model), [part.training for part in conv_model.modules()]
    state = torch.get_rng_state()
    measure_health(conv_model, *image_batch, THREAT, 3, Generator().manual_seed(1))
    assert torch.equal(weights(conv_model), before)
    assert [part.training for part in conv_model.modules()] == modes
    assert [p.requires_grad for p in conv_model.parameters()].count(False) == 1
    assert all(parameter.grad is None for parameter in conv_model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


# What is done about it


def test_training_is_the_same_with_and_without_the_callback(
    conv_model: nn.Module, batches: Batches, tmp_path: Path
) -> None:
    """Batch statistics, dropout and the attack's random start: nothing moves."""
    ends = []
    for number, callbacks in enumerate([(), (Watch(every_n_steps=1, action="stop"),), (RobustOverfitting(),)]):
        model = copy.deepcopy(conv_model).train()
        objective = Adversarial(FGSMRS(), attack_mode="train")
        folder = tmp_path / str(number)
        folder.mkdir()
        classifier = RobustClassifier(model, objective, THREAT, partial(SGD, lr=0.1, momentum=0.9))
        trainer(folder, *callbacks, epochs=2).fit(classifier, batches)
        ends.append(weights(model))
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])
    assert len(rows_of(tmp_path / "1")) == 8
    assert not torch.equal(ends[0], weights(conv_model))


@pytest.mark.parametrize(
    ("best", "fgsm", "pgd", "collapsed"),
    [
        (0.45, 0.50, 0.44, False),
        (0.45, 0.60, 0.24, True),
        (0.45, 0.60, 0.26, False),  # has not fallen by more than .2
        (0.45, 0.50, 0.24, False),  # has fallen, but so has FGSM
        (0.19, 0.45, 0.00, True),  # figure 11 of Andriushchenko 2020
        (0.22, 0.30, 0.01, False),  # step 300 of Wong's recipe on MNIST, which ends well
        (0.22, 0.62, 0.31, False),  # and its step 400
        (0.16, 0.61, 0.12, False),  # step 550 with all 55,000 images
        (0.31, 0.75, 0.22, False),  # step 1100
        (0.00, 0.80, 0.00, True),  # FGSM training on MNIST, which never withstands PGD
        (0.88, 0.95, 0.00, True),
        (0.14, 0.97, 0.08, True),  # clipped starts on MNIST: hardly anything was there to fall
        (0.16, 0.72, 0.10, False),  # epoch 1 of Wong's recipe, seed 1, which has .75 in the end
    ],
)
def test_a_collapse_is_a_fall_under_pgd_and_not_under_fgsm(
    best: float, fgsm: float, pgd: float, collapsed: bool
) -> None:
    callback = CatastrophicOverfitting()
    callback.best = best
    assert callback.collapsed(Health(0.9, fgsm, pgd, 0.5, 0.1)) is collapsed


GOOD, BAD = Health(0.9, 0.8, 0.7, 0.9, 0.2), Health(0.95, 0.9, 0.1, 0.1, 0.2)


class Script:
    """In the place of the measurement: healths in turn, and the weights that the model had each time."""

    def __init__(self, *healths: Health) -> None:
        self.healths = list(healths)
        self.seen: list[Tensor] = []

    def __call__(self, model: nn.Module, *_: Any) -> Health:
        self.seen.append(weights(model))
        return self.healths[len(self.seen) - 1] if len(self.seen) <= len(self.healths) else GOOD


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    def play(*healths: Health) -> Script:
        script = Script(*healths)
        monkeypatch.setattr(module_of_it, "measure_health", script)
        return script

    return play


class Record(pl.Callback):
    """Weights, momentum, learning rate and attack before each step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.momentum: list[float] = []
        self.rates: list[float] = []
        self.attacks: list[PGD] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        (optimizer,) = trainer.optimizers
        self.weights.append(weights(pl_module.model))
        self.momentum.append(sum(float(state["momentum_buffer"].abs().sum()) for state in optimizer.state.values()))
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.attacks.append(pl_module.objective.attack)


def classifier_of(model: nn.Module, attack: Any = None) -> RobustClassifier:
    def halving(optimizer: Any, steps: int) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)

    objective = Adversarial(attack or PGD(steps=2, step_size=0.08))
    return RobustClassifier(
        copy.deepcopy(model).train(), objective, THREAT, partial(SGD, lr=0.1, momentum=0.9), scheduler=halving
    )


def test_warn_says_it_once_and_trains_on(conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any) -> None:
    script(GOOD, BAD, BAD, GOOD)
    lines: list[str] = []
    record = Record()
    callback = Watch(every_n_steps=1, say=lines.append)
    trainer(tmp_path, callback, record).fit(classifier_of(conv_model), batches)
    (line,) = lines
    assert "catastrophic overfitting at step 2 (epoch 1)" in line
    assert "90.0% withstand FGSM and 10.0% PGD-10 (best so far 70.0%)" in line
    assert [(row["step"], row["healthy"], row["action"]) for row in rows_of(tmp_path)] == [
        ("1", "1", ""),
        ("2", "0", "warn"),
        ("3", "0", "warn"),
        ("4", "1", ""),
    ]
    assert len(record.weights) == 4


def test_one_bad_measurement_is_not_yet_a_collapse(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    script(GOOD, BAD, GOOD, BAD, BAD, BAD, GOOD, GOOD)
    lines: list[str] = []
    callback = Watch("rollback", every_n_steps=1, patience=2, say=lines.append)
    trainer(tmp_path, callback, epochs=2).fit(classifier_of(conv_model), batches)
    assert [row["healthy"] for row in rows_of(tmp_path)] == ["1", "0", "1", "0", "0", "0", "1", "1"]
    assert [row["action"] for row in rows_of(tmp_path)] == ["", "", "", "", "rollback", "", "", ""]
    (line,) = lines
    assert "back to the weights of step 3" in line


def test_rollback_puts_back_weights_and_momentum_and_trains_on_with_smaller_steps(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    """Healthy after step 2, collapsed after 3 and after 4: both times back to what step 2 had left."""
    played = script(GOOD, GOOD, BAD, BAD, GOOD, GOOD, GOOD, GOOD)
    record = Record()
    callback = Watch("rollback", every_n_steps=1, extra_steps=1, say=lambda line: None)
    trainer(tmp_path, record, callback, epochs=2).fit(classifier_of(conv_model), batches)
    assert not torch.equal(played.seen[2], played.seen[1])
    for start in (2, 3, 4):
        assert torch.equal(record.weights[start], played.seen[1])
        assert record.momentum[start] == record.momentum[2] > 0
    assert not torch.equal(record.weights[5], played.seen[1])
    # The recorder looks before the attack of the step is put in: it sees each one step later.
    steps = [(attack.step_size, attack.steps) for attack in record.attacks]
    assert steps == [(0.08, 2)] * 4 + [(0.04, 3)] + [(0.02, 4)] * 3
    assert record.rates == pytest.approx([0.1 * 0.5**step for step in range(8)])
    assert [row["action"] for row in rows_of(tmp_path)] == ["", "", "rollback", "rollback", "", "", "", ""]


def test_an_attack_that_another_callback_puts_in_is_lowered_too(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    class Schedule(pl.Callback):
        def on_train_batch_start(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int
        ) -> None:
            if index == 3:
                pl_module.objective = Adversarial(PGD(steps=9, step_size=0.1))

    script(GOOD, BAD)
    callback = Watch("rollback", every_n_steps=1, say=lambda line: None)
    classifier = classifier_of(conv_model)
    trainer(tmp_path, Schedule(), callback).fit(classifier, batches)
    assert (classifier.objective.attack.steps, classifier.objective.attack.step_size) == (9, 0.05)


def test_after_the_last_rollback_a_collapse_stops_with_the_healthy_weights(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    played = script(GOOD, BAD, BAD)
    lines: list[str] = []
    callback = Watch("rollback", every_n_steps=1, max_rollbacks=1, say=lines.append)
    classifier = classifier_of(conv_model)
    trainer(tmp_path, callback, epochs=3).fit(classifier, batches)
    assert len(played.seen) == 3
    assert torch.equal(weights(classifier.model), played.seen[0])
    assert "rollback 1 of at most 1" in lines[0]
    assert "training stops with the weights of step 1" in lines[1]


def test_stop_in_the_middle_of_an_epoch_leaves_healthy_weights_in_the_checkpoint_and_a_row_in_the_table(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    """There is no validation split, so that the last checkpoint is the result; taken up again, it stays stopped."""
    played = script(GOOD, BAD)

    def run(resume: str | None = None) -> RobustClassifier:
        classifier = classifier_of(conv_model)
        callback = Watch("stop", every_n_steps=1, say=lambda line: None)
        table = EpochTable(tmp_path / "metrics.csv", None)
        running = trainer(
            tmp_path,
            callback,
            table,
            best_and_last(tmp_path, None),
            epochs=3,
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=True,
        )
        running.fit(classifier, batches, ckpt_path=resume, weights_only=True if resume else None)
        return classifier

    stopped = run()
    assert len(played.seen) == 2
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    state = torch.cat([value.double().flatten() for name, value in saved.items() if name.startswith("model.")])
    assert torch.equal(state, played.seen[0])
    assert torch.equal(weights(stopped.model), played.seen[0])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["epoch"], row["step"], row["samples"]) == ("1", "2", "12")
    assert float(row["train/loss"]) > 0
    assert (float(row["forward_passes"]), float(row["backward_passes"])) == (12 * 3, 12 * 3)
    assert torch.equal(weights(run(str(tmp_path / "last.ckpt")).model), played.seen[0])
    assert len(played.seen) == 2


def test_a_resumed_run_does_what_the_uninterrupted_one_does(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    """A rollback before the interruption, and one after it, to weights from before it."""
    # Measured every 3 steps and at the end of an epoch: after steps 3, 4, 6, 8, 9, 12.
    healths = [GOOD, BAD, GOOD, GOOD, BAD, GOOD]

    def run(name: str, epochs: int, healths: list[Health], resume: Path | None = None) -> RobustClassifier:
        script(*healths)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        classifier = classifier_of(conv_model)
        callback = Watch("rollback", every_n_steps=3, say=lambda line: None)
        running = trainer(
            folder,
            callback,
            best_and_last(folder, None),
            epochs=epochs,
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=True,
        )
        running.fit(classifier, batches, ckpt_path=resume, weights_only=True if resume else None)
        return classifier

    whole = run("whole", 3, healths)
    run("parts", 2, healths[:4])
    with (tmp_path / "parts" / "health.csv").open("a") as file:
        file.write("3,9,0,0,0,0,0,1,\n")  # of a step that the checkpoint does not have
    rest = run("parts", 3, healths[4:], tmp_path / "parts" / "last.ckpt")
    assert [row["step"] for row in rows_of(tmp_path / "whole")] == ["3", "4", "6", "8", "9", "12"]
    assert [row["action"] for row in rows_of(tmp_path / "whole")] == ["", "rollback", "", "", "rollback", ""]
    assert (tmp_path / "parts" / "health.csv").read_text() == (tmp_path / "whole" / "health.csv").read_text()
    assert torch.equal(weights(rest.model), weights(whole.model))
    assert rest.objective == whole.objective
    assert rest.objective.attack.step_size == 0.02


def test_a_checkpoint_between_two_measurements_brings_the_healthy_state_along(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    played = script(GOOD, GOOD)
    callback = Watch("rollback", every_n_steps=2)
    states: list[dict[str, Any]] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            states.append(callback.state_dict())

    trainer(tmp_path, callback, Look()).fit(classifier_of(conv_model), batches)
    assert [state["healthy"] is None for state in states] == [False, True, False, True]
    kept = torch.cat([value.double().flatten() for value in states[2]["healthy"]["model"].values()])
    assert torch.equal(kept, played.seen[0])
    assert states[2]["healthy_step"] == 2


def test_checks_come_every_so_often_and_at_the_end_of_an_epoch_and_judge_only_after_the_first_steps(
    conv_model: nn.Module, batches: Batches, tmp_path: Path, script: Any
) -> None:
    script(GOOD, BAD, BAD)
    callback = Watch(every_n_steps=3, after_steps=6, say=lambda line: None)
    trainer(tmp_path, callback, epochs=2).fit(classifier_of(conv_model), batches)
    assert [(row["epoch"], row["step"], row["action"]) for row in rows_of(tmp_path)] == [
        ("1", "3", ""),
        ("1", "4", ""),
        ("2", "6", "warn"),
        ("2", "8", ""),
    ]


def test_what_cannot_be_rolled_back_is_refused_before_the_first_step(
    conv_model: nn.Module, batches: Batches, tmp_path: Path
) -> None:
    classifier = RobustClassifier(conv_model, Standard(), THREAT, partial(SGD, lr=0.1))
    with pytest.raises(RequestError, match="Standard has no attack"):
        trainer(tmp_path, Watch("rollback")).fit(classifier, batches)


@pytest.mark.parametrize(
    "settings", [{"action": "panic"}, {"every_n_steps": 0}, {"drop": 0}, {"factor": 2.0}, {"max_rollbacks": -1}]
)
def test_settings_outside_their_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=str(next(iter(settings.values())))):
        CatastrophicOverfitting(**settings)


# The real thing


def collapse(folder: Path, **settings: Any) -> list[dict[str, str]]:
    """FGSM training of the single-layer network at a large eps, on scikit-learn's digits."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=Generator().manual_seed(0))[:512]
    x, y = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)[order] / 16, torch.tensor(digits.target)[order]
    torch.manual_seed(0)
    model, threat = SingleLayerCNN((1, 8, 8), 10, filters=16), LpBall("inf", 0.3)
    classifier = RobustClassifier(model, Adversarial(FGSM()), threat, partial(Adam, lr=0.02))
    callback = Watch(every_n_steps=20, say=lambda line: None, **settings)
    folder.mkdir()
    data = Batches(list(zip(x.split(128), y.split(128), strict=True)))
    trainer(folder, callback, epochs=30).fit(classifier, data)
    return rows_of(folder)


def test_fgsm_training_collapses_and_is_saved_by_rolling_back_to_more_and_smaller_steps(tmp_path: Path) -> None:
    lost = collapse(tmp_path / "warn")
    saved = collapse(tmp_path / "rollback", action="rollback", extra_steps=3)
    told = [row["action"] for row in lost].index("warn")
    assert [row["action"] for row in saved] == [""] * told + ["rollback"] + [""] * (29 - told)
    assert float(lost[-1]["pgd_accuracy"]) < 0.05 < 0.35 < float(lost[-1]["fgsm_accuracy"])
    assert float(lost[-1]["gradient_alignment"]) < 0.6 < 0.8 < max(float(row["gradient_alignment"]) for row in lost)
    assert float(saved[-1]["pgd_accuracy"]) > 0.2
    assert float(saved[-1]["gradient_alignment"]) > 0.8


# The table of epochs


def test_the_table_counts_every_epoch_anew(conv_model: nn.Module, batches: Batches, tmp_path: Path) -> None:
    class Slower(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            time.sleep(0.02 if trainer.current_epoch else 0)

    table = EpochTable(tmp_path / "metrics.csv", None)
    trainer(tmp_path, Slower(), table, epochs=2).fit(classifier_of(conv_model), batches, batches)
    for row in table.rows:
        assert (row["samples"], row["forward_passes"], row["backward_passes"]) == (24, 72, 72)
        assert row["samples_per_second"] == pytest.approx(24 / row["seconds"], rel=0.05)
        assert row["train/adversarial_accuracy"] >= 0
        assert "robust_gap" not in row  # nothing attacks the validation split


# Robust overfitting


def test_robust_overfitting_is_told_once_when_validation_falls_and_training_rises(tmp_path: Path) -> None:
    epochs = [(0.5, 0.45), (0.6, 0.50), (0.7, 0.49), (0.55, 0.40), (0.75, 0.47), (0.9, 0.40)]
    lines: list[str] = []
    callback = RobustOverfitting(fall=0.02, say=lines.append)
    told = []

    class Figures:
        current_epoch = 0
        is_global_zero = True

        def __init__(self) -> None:
            self.callback_metrics: dict[str, Tensor] = {}

    class Logs:
        def __init__(self) -> None:
            self.logged: list[float] = []

        def log(self, name: str, value: float) -> None:
            assert name == "health/robust_gap"
            self.logged.append(value)

    figures, logs = Figures(), Logs()
    callback.on_train_epoch_end(figures, logs)
    for epoch, (train, val) in enumerate(epochs):
        figures.current_epoch = epoch
        figures.callback_metrics = {
            "train/adversarial_accuracy": torch.tensor(train),
            "val/adversarial_accuracy": torch.tensor(val),
        }
        fresh = RobustOverfitting(fall=0.02, say=lines.append)
        fresh.load_state_dict(callback.state_dict())  # as if it were resumed after each epoch
        callback = fresh
        callback.on_train_epoch_end(figures, logs)
        told.append(len(lines))
    # Epoch 3 falls in training too; epoch 2 falls by less than .02.
    assert told == [0, 0, 0, 0, 1, 1]
    assert "since epoch 2, adversarial accuracy fell from 50.0% to 47.0%" in lines[0]
    assert "rose from 60.0% to 75.0% in training" in lines[0]
    assert logs.logged == pytest.approx([train - val for train, val in epochs])
