from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD

from robustml.attacks import PGD
from robustml.errors import RequestError, RunFailed
from robustml.evaluation import evaluate
from robustml.objectives import Adversarial, Standard
from robustml.threats import LpBall
from robustml.training import (
    ADVERSARIAL_ACCURACY,
    AtomicCheckpointIO,
    Piecewise,
    RobustClassifier,
    Stopwatch,
    best_and_last,
    derived_seed,
)
from robustml.types import LossOutput

THREAT = LpBall("inf", 0.1)

pytestmark = [
    # Lightning 2.6 asks for a class of torch that torch 2.15 calls deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
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

    def first(self, count: int) -> Batches:
        return Batches(self.batches[:count])


@pytest.fixture(scope="module")
def batches(trained_digits: Any) -> Batches:
    x, y = trained_digits.test
    return Batches(list(zip(x[:190].split(32), y[:190].split(32), strict=True)))


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))


def trainer(epochs: int = 1, **settings: Any) -> pl.Trainer:
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
        **settings,
    )


class History(pl.Callback):
    """The logged metrics after each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Callbacks come before the module's own hook, so that the last epoch is read after the fit.
        self.epochs.append({})

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.read(trainer)

    def read(self, trainer: pl.Trainer) -> None:
        if self.epochs:
            self.epochs[-1] = {name: float(value) for name, value in trainer.callback_metrics.items()}


def fit(classifier: RobustClassifier, train: Any, val: Any = None, epochs: int = 1) -> list[dict[str, float]]:
    history = History()
    running = trainer(epochs, callbacks=[history])
    running.fit(classifier, train, val)
    history.read(running)
    return history.epochs


def adversarial(seed: int = 0, **settings: Any) -> RobustClassifier:
    return RobustClassifier(network(), Adversarial(PGD(steps=2)), THREAT, partial(SGD, lr=0.5), seed=seed, **settings)


def test_the_loss_falls_and_adversarial_is_not_above_clean_accuracy(batches: Batches) -> None:
    classifier = adversarial(validation_attack=PGD(steps=5))
    epochs = fit(classifier, batches, batches, epochs=5)
    assert epochs[-1]["train/loss"] < 0.9 * epochs[0]["train/loss"]
    assert all(epoch["val/adversarial_accuracy"] <= epoch["val/clean_accuracy"] for epoch in epochs)
    assert 0 < epochs[-1]["val/adversarial_accuracy"] < epochs[-1]["val/clean_accuracy"]
    assert epochs[-1].keys() == {
        "train/loss",
        "train/adversarial_accuracy",
        "val/loss",
        "val/clean_accuracy",
        "val/adversarial_accuracy",
    }


def test_validation_is_what_evaluate_measures(batches: Batches) -> None:
    """The same images and the same deterministic attack: two ways of counting that must agree."""
    attack = PGD(steps=3, random_start=False)
    classifier = adversarial(validation_attack=attack)
    (logged,) = fit(classifier, batches, batches)
    results = evaluate(classifier.model, batches, {"pgd": attack}, THREAT)
    assert logged["val/clean_accuracy"] == pytest.approx(results.clean_accuracy.value, abs=1e-6)
    assert logged["val/adversarial_accuracy"] == pytest.approx(results.worst_case.robust_accuracy.value, abs=1e-6)


def test_logged_metrics_are_means_over_images_and_not_over_batches(batches: Batches) -> None:
    """At a learning rate of 0 every batch meets the same weights. The last batch is smaller than the others."""
    model = network()
    model[3] = nn.Identity()
    classifier = RobustClassifier(model, Standard(), THREAT, partial(SGD, lr=0.0))
    (logged,) = fit(classifier, batches, batches)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len({len(labels) for _, labels in batches}) == 2
    with torch.no_grad():
        probability = model(x).double().softmax(1)[torch.arange(len(y)), y]
        correct = (model(x).argmax(1) == y).double().mean().item()
    loss = -probability.log().mean().item()
    for split in ("train", "val"):
        assert logged[f"{split}/loss"] == pytest.approx(loss, rel=1e-5)
        assert logged[f"{split}/clean_accuracy"] == pytest.approx(correct, abs=1e-6)


def test_each_epoch_is_averaged_on_its_own(batches: Batches) -> None:
    class Constant:
        value = 0.0

        def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Any) -> Tensor:
            return x

        def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Any) -> LossOutput:
            self.value += 1
            return LossOutput(model(x).sum() * 0 + self.value, model(x), {"odd/name": torch.tensor(self.value)})

    epochs = fit(RobustClassifier(network(), Constant(), THREAT, partial(SGD, lr=0.0)), batches.first(2), epochs=2)
    assert [epoch["train/loss"] for epoch in epochs] == pytest.approx([1.5, 3.5])
    assert [epoch["train/odd/name"] for epoch in epochs] == pytest.approx([1.5, 3.5])


def weights(classifier: RobustClassifier) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in classifier.model.parameters()])


def test_a_seed_gives_the_same_weights_bit_by_bit(batches: Batches) -> None:
    runs = []
    for seed in (3, 3, 4):
        torch.rand(7)
        classifier = adversarial(seed, validation_attack=PGD(steps=1))
        fit(classifier, batches.first(3), batches.first(2), epochs=2)
        runs.append(weights(classifier))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_validation_does_not_change_what_is_trained(batches: Batches) -> None:
    with_validation, without = adversarial(validation_attack=PGD(steps=2)), adversarial()
    fit(with_validation, batches, batches, epochs=2)
    fit(without, batches, epochs=2)
    assert torch.equal(weights(with_validation), weights(without))


def test_resuming_at_an_epoch_equals_going_on(batches: Batches, tmp_path: Path) -> None:
    def run(folder: str, epochs: int, resume: Path | None = None) -> RobustClassifier:
        classifier = adversarial(validation_attack=PGD(steps=2), scheduler=Piecewise([0.5]))
        # The schedule of a run of four epochs, wherever it is interrupted.
        classifier.scheduler_factory = lambda optimizer, steps: Piecewise([0.5])(optimizer, 4 * len(batches))
        checkpoints = best_and_last(tmp_path / folder, ADVERSARIAL_ACCURACY)
        running = trainer(epochs, callbacks=[checkpoints], plugins=[AtomicCheckpointIO()], enable_checkpointing=True)
        running.fit(classifier, batches, batches, ckpt_path=resume, weights_only=False if resume else None)
        return classifier

    whole = run("whole", 4)
    run("half", 2)
    assert {path.name for path in (tmp_path / "half").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert torch.equal(weights(run("rest", 4, tmp_path / "half" / "last.ckpt")), weights(whole))


def test_the_schedule_is_stepped_after_every_batch(batches: Batches) -> None:
    seen: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    classifier = RobustClassifier(network(), Standard(), THREAT, partial(SGD, lr=0.4), scheduler=Piecewise([0.5], 0.1))
    trainer(2, callbacks=[Rates()]).fit(classifier, batches.first(3))
    assert seen == pytest.approx([0.4] * 3 + [0.04] * 3)


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_batch(batches: Batches) -> None:
    calls = iter(range(100))

    class Breaks(Standard):
        def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Any) -> LossOutput:
            output = super().loss(model, x, x_adv, y, threat)
            return output._replace(loss=output.loss * math.nan) if next(calls) == 4 else output

    classifier = RobustClassifier(network(), Breaks(), THREAT, partial(SGD, lr=0.1))
    with pytest.raises(RunFailed, match=r"nan at step 5 \(epoch 2, batch 2\)"):
        trainer(2).fit(classifier, batches.first(3))


@pytest.mark.parametrize("spoil", [lambda x: x * 255, lambda x: x - 0.5, lambda x: x * math.nan])
def test_images_outside_the_range_are_refused(spoil: Callable[[Tensor], Tensor], batches: Batches) -> None:
    with pytest.raises(RequestError, match=r"\[0, 1\].*divide by 255"):
        trainer().fit(adversarial(), Batches([(spoil(x), y) for x, y in batches]))


class Remember:
    """An attack that returns the images, and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[nn.Module, int, float, bool]] = []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        assert generator is not None
        self.calls.append((model, len(x), float(torch.rand(1, generator=generator)), model.training))
        return x.clone()


def test_validation_attacks_the_correct_images_of_the_bare_model_from_the_same_starts(batches: Batches) -> None:
    attack = Remember()
    classifier = RobustClassifier(network(), Standard(), THREAT, partial(SGD, lr=0.3), validation_attack=attack)
    epochs = fit(classifier, batches, batches, epochs=2)
    assert all(model is classifier.model and not training for model, _, _, training in attack.calls)
    half = len(attack.calls) // 2
    assert [call[2] for call in attack.calls[:half]] == [call[2] for call in attack.calls[half:]]
    assert len({call[2] for call in attack.calls}) == half
    attacked = sum(call[1] for call in attack.calls[half:])
    assert epochs[-1]["val/clean_accuracy"] == pytest.approx(attacked / 190)
    assert epochs[-1]["val/adversarial_accuracy"] == epochs[-1]["val/clean_accuracy"]


def test_derived_seeds_do_not_collide() -> None:
    parts = list(product(range(6), repeat=3))
    assert len({derived_seed(*part) for part in parts}) == len(parts)
    assert derived_seed(1, 2) != derived_seed(2, 1)
    assert derived_seed(1, 2) == derived_seed(1, 2)
    assert 0 <= derived_seed(5) < 2**32


def test_the_stopwatch_adds_up_and_resets() -> None:
    watch = Stopwatch()
    assert watch.seconds() == 0
    began = time.perf_counter()
    for _ in range(2):
        with watch.running(torch.device("cpu")):
            time.sleep(0.02)
    time.sleep(0.05)
    outside = time.perf_counter() - began
    assert 0.04 <= watch.seconds() <= outside - 0.05
    assert watch.seconds() == watch.seconds()
    watch.reset()
    assert watch.seconds() == 0


def test_the_attack_s_share_is_timed(batches: Batches) -> None:
    class Slow(Standard):
        def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Any) -> Tensor:
            time.sleep(0.01)
            return x

    classifier = RobustClassifier(network(), Slow(), THREAT, partial(SGD, lr=0.1))
    fit(classifier, batches)
    assert 0.01 * len(batches) <= classifier.attack_time.seconds() < 5
