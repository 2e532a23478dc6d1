"""Let the training attack grow while training goes on: its eps, its steps, or both.

Cai, Liu and Song, "Curriculum adversarial training", IJCAI 2018, arXiv:1805.04807: the number of steps rises. Theirs
rises where the accuracy under the present attack no longer does, and batches of the weaker attacks stay in; here it
depends on the progress of the run alone, so that a run that resumes does what an uninterrupted one does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import pytorch_lightning as pl

from robustml.attacks import Transfer, at_eps
from robustml.errors import RequestError
from robustml.objectives import Free
from robustml.training.attack_fields import replaced, with_attack
from robustml.training.classifier import RobustClassifier
from robustml.types import Attack, Objective

__all__ = ["AttackSchedule"]


class AttackSchedule(pl.Callback):
    """Exchange the attack inside the objective, whatever wraps it; the validation attack stays as it is.

    `Free`, whose training steps are its attack, has an eps to schedule and no steps.

    Progress is 0 in the first epoch and 1 in the last (with `every="batch"`, in the first and the last batch). Logs
    `schedule/eps` and `schedule/steps`.

    Args:
        eps: points (progress, multiple of the attack's own eps), straight lines between them; before the first and
            after the last it is as there. Step sizes follow, relative and absolute ones. None leaves eps alone.
        steps: points (progress, number of steps); None for a number is the attack's own, 0 is no attack. None leaves
            the steps alone. Step sizes in the unit of eps stay, those that the attack derives from its steps follow.
        between: what the steps do between points: ``"hold"`` the last one's, or follow a ``"line"``, rounded.
        every: look at the schedule before each ``"epoch"`` or each ``"batch"``.

    Raises:
        RequestError: neither schedule, points that are out of order or out of range; when training starts: an
            objective without an attack, an attack whose eps or steps cannot be changed, or a run without `max_epochs`.
    """

    def __init__(
        self,
        eps: Sequence[tuple[float, float]] | None = None,
        steps: Sequence[tuple[float, int | None]] | None = None,
        between: Literal["hold", "line"] = "hold",
        every: Literal["epoch", "batch"] = "epoch",
    ) -> None:
        if eps is None and steps is None:
            raise RequestError("a schedule of the attack needs eps or steps: points such as [[0, 0.1], [0.5, 1]]")
        if between not in ("hold", "line") or every not in ("epoch", "batch"):
            raise RequestError(f"expected between=hold or line and every=epoch or batch, got {between!r}, {every!r}")
        for name, points in (("eps", eps), ("steps", steps)):
            if points is not None:
                _check(name, points)
        self.eps = eps
        self.steps = steps
        self.between = between
        self.every = every
        self._now: tuple[float | None, int | None] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the attack at full strength; refuse what cannot be changed."""
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise RequestError("a schedule of the attack follows the epochs of the run: set trainer.max_epochs")
        if not isinstance(pl_module, RobustClassifier):
            raise RequestError(f"attacks are scheduled for a RobustClassifier, got a {type(pl_module).__name__}")
        self._ball = pl_module.objective.threat if isinstance(pl_module.objective, Free) else None
        if self._ball is not None and self.steps is not None:
            raise RequestError("free adversarial training takes one step a batch: schedule eps, or data.replay")
        if self._ball is None:
            self._attack = _attack_of(pl_module.objective)
            for progress, _ in (*(self.eps or ()), *(self.steps or ())):
                self._at(progress)
        self._now = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the epoch's attack."""
        if self.every == "epoch":
            self._set(trainer.current_epoch, cast(int, trainer.max_epochs), pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the batch's attack."""
        batches = int(trainer.num_training_batches)
        if self.every == "batch":
            self._set(trainer.current_epoch * batches + batch_idx, cast(int, trainer.max_epochs) * batches, pl_module)
        elif self._now is None:  # a run that resumes within an epoch has no start of it
            self._set(trainer.current_epoch, cast(int, trainer.max_epochs), pl_module)

    def _set(self, number: int, count: int, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RobustClassifier)
        progress = min(number / (count - 1), 1.0) if count > 1 else 1.0
        strength = self._multiple(progress), self._number(progress)
        if strength != self._now:
            pl_module.objective = self._scheduled(pl_module.objective, progress)
            self._now = strength
        multiple, steps = strength
        full = _eps(self._attack) if self._ball is None else self._ball.eps
        figures = {"eps": None if multiple is None else multiple * full, "steps": steps}
        for name, figure in figures.items():
            if figure is not None:
                pl_module.note(f"schedule/{name}", float(figure))

    def _scheduled(self, objective: Objective, progress: float) -> Objective:
        if self._ball is not None:
            multiple = cast(float, self._multiple(progress))
            return replaced(objective, "threat", dataclasses.replace(self._ball, eps=multiple * self._ball.eps))
        attack = self._at(progress)
        return with_attack(objective, lambda _: attack)

    def _at(self, progress: float) -> Attack:
        """The attack as it is then."""
        multiple, steps = self._multiple(progress), self._number(progress)
        attack = self._attack
        if steps is not None:
            # no attack has 0 steps; in a ball of radius 0 one step stays where it is
            attack = _with_steps(attack, max(steps, 1))
            multiple = 0.0 if steps == 0 else multiple
        return attack if multiple is None else _with_eps(attack, multiple)

    def _multiple(self, progress: float) -> float | None:
        return None if self.eps is None else _on_line(self.eps, progress)

    def _number(self, progress: float) -> int | None:
        if self.steps is None:
            return None
        own = _steps(self._attack)
        points = [(place, own if steps is None else steps) for place, steps in self.steps]
        if self.between == "line":
            return math.floor(_on_line(points, progress) + 0.5)
        return next((steps for place, steps in reversed(points) if place <= progress), points[0][1])


def _check(name: str, points: Sequence[Any]) -> None:
    shaped = bool(points) and all(isinstance(point, Sequence) and len(point) == 2 for point in points)
    places = [point[0] for point in points] if shaped else []
    values = [point[1] for point in points if point[1] is not None] if shaped else []
    if not shaped or sorted(set(places)) != places or not 0 <= places[0] <= places[-1] <= 1:
        raise RequestError(
            f"expected {name} as points [progress, value] with progress rising within 0 to 1, got {points!r}: write "
            "epoch 100 of 200 as 0.5"
        )
    if any(value < 0 for value in values) or (name == "eps" and len(values) < len(points)):
        raise RequestError(f"expected multiples of eps and numbers of steps >= 0, got {points!r}")
    if name == "steps" and any(value != int(value) for value in values):
        raise RequestError(f"expected whole numbers of steps, got {points!r}")


def _on_line(points: Sequence[tuple[float, float]], progress: float) -> float:
    """The value at `progress` of the line through `points`, level before the first and after the last."""
    before = [point for point in points if point[0] <= progress]
    after = [point for point in points if point[0] > progress]
    if not before or not after:
        return float((before[-1:] or after)[0][1])
    (start, low), (end, high) = before[-1], after[0]
    return low + (high - low) * (progress - start) / (end - start)


def _attack_of(objective: Objective) -> Attack:
    found: list[Attack] = []

    def note(attack: Attack) -> Attack:
        found.append(attack)
        return attack

    with_attack(objective, note)
    return found[0]


def _with_eps(attack: Attack, multiple: float) -> Attack:
    if isinstance(attack, Transfer):
        return dataclasses.replace(attack, attack=_with_eps(attack.attack, multiple))
    changed: Any = at_eps(attack, multiple * _eps(attack))
    if multiple == 0:  # in a ball of radius 0 no step leads anywhere, and attacks refuse steps of length 0
        return cast(Attack, changed)
    if getattr(changed, "step_size", None) is not None:
        changed = dataclasses.replace(changed, step_size=multiple * changed.step_size)
    if getattr(changed, "step_sizes", None) is not None:  # one for each ball of a union
        changed = dataclasses.replace(changed, step_sizes=[multiple * size for size in changed.step_sizes])
    return cast(Attack, changed)


def _with_steps(attack: Attack, steps: int) -> Attack:
    _steps(attack)
    return cast(Attack, dataclasses.replace(cast(Any, attack), steps=steps))


def _eps(attack: Attack) -> float:
    """The attack's own radius; 0 where it has none, which `at_eps` refuses."""
    return float(getattr(getattr(attack, "threat", None), "eps", 0.0))


def _steps(attack: Attack) -> int:
    known: list[str] = [field.name for field in dataclasses.fields(attack)] if dataclasses.is_dataclass(attack) else []
    if "steps" not in known:
        raise RequestError(
            f"the steps of {type(attack).__name__} cannot be changed: choose an attack with a `steps` field "
            "(attack=pgd), or schedule eps alone"
        )
    return int(cast(Any, attack).steps)
