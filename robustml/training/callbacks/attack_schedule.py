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

from robustml.attacks import Transfer, Within
from robustml.calling import has_own_budget
from robustml.errors import RequestError
from robustml.objectives import Free
from robustml.training.attack_changes import has_fields, with_attack
from robustml.training.classifier import RobustClassifier
from robustml.types import Attack


class AttackSchedule(pl.Callback):
    """Set the threat of training, and exchange the attack inside the objective; validation stays as it is.

    `Free`, whose training steps are its attack, has an eps to schedule and no steps.

    Progress is 0 in the first epoch and 1 in the last (with `every="batch"`, in the first and the last batch). Logs
    `schedule/eps` and `schedule/steps`.

    Args:
        eps: points (progress, multiple of the threat's eps), straight lines between them; before the first and after
            the last it is as there. Step sizes follow, relative and absolute ones. None leaves eps alone.
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
        self._attack: Attack | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the attack at full strength; refuse what cannot be changed."""
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise RequestError("a schedule of the attack follows the epochs of the run: set trainer.max_epochs")
        if not isinstance(pl_module, RobustClassifier):
            raise RequestError(f"attacks are scheduled for a RobustClassifier, got a {type(pl_module).__name__}")
        self._attack, self._now = None, None
        for _, multiple in self.eps or ():
            pl_module.threat.at(multiple * pl_module.threat.eps)
        if isinstance(pl_module.objective, Free):
            if self.steps is not None:
                raise RequestError("free adversarial training takes one step a batch: schedule eps, or data.replay")
            return
        with_attack(pl_module.objective, self._remember)
        for progress, _ in (*(self.eps or ()), *(self.steps or ())):
            self._at(progress)

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

    def _remember(self, attack: Attack) -> Attack:
        self._attack = attack
        return attack

    def _set(self, number: int, count: int, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RobustClassifier)
        progress = min(number / (count - 1), 1.0) if count > 1 else 1.0
        strength = multiple, steps = self._multiple(progress), self._number(progress)
        full = pl_module.threat
        if strength != self._now:
            share = 0.0 if steps == 0 else multiple
            pl_module.training_threat = full if share is None else full.at(share * full.eps)
            if self._attack is not None:
                attack = self._at(progress)
                pl_module.objective = with_attack(pl_module.objective, lambda _: attack)
            self._now = strength
        own = self._attack.threat if isinstance(self._attack, Within) else full
        for name, figure in {"eps": None if multiple is None else multiple * own.eps, "steps": steps}.items():
            if figure is not None:
                pl_module.note(f"schedule/{name}", float(figure))

    def _at(self, progress: float) -> Attack:
        """The attack as it is then."""
        assert self._attack is not None
        multiple, steps = self._multiple(progress), self._number(progress)
        if steps is None:
            return _changed(self._attack, multiple, None)
        # no attack has 0 steps; in a ball of radius 0 one step stays where it is
        return _changed(self._attack, 0.0 if steps == 0 else multiple, max(steps, 1))

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


def _changed(attack: Any, multiple: float | None, steps: int | None) -> Attack:
    """The attack in a threat that is so many times as wide, with so many steps; None leaves either as it is."""
    if isinstance(attack, Within) and multiple is not None:
        own = attack.threat
        attack = Within(attack.attack, own.at(multiple * own.eps))
    elif multiple is not None and has_own_budget(attack):
        raise RequestError(
            f"{type(attack).__name__} carries its own budget, which no schedule of eps changes: let it take `threat`"
        )
    if isinstance(attack, Transfer | Within):
        return dataclasses.replace(attack, attack=_changed(attack.attack, multiple, steps))
    changes: dict[str, Any] = {}
    if steps is not None:
        _steps(attack)
        changes["steps"] = steps
    if multiple:  # in a ball of radius 0 no step leads anywhere, and attacks refuse steps of length 0
        if has_fields(attack, "step_size") and attack.step_size is not None:
            changes["step_size"] = multiple * attack.step_size
        if has_fields(attack, "step_sizes") and attack.step_sizes is not None:  # one for each ball of a union
            changes["step_sizes"] = [multiple * size for size in attack.step_sizes]
    return cast(Attack, dataclasses.replace(attack, **changes)) if changes else attack


def _steps(attack: Any) -> int:
    if isinstance(attack, Transfer | Within):
        return _steps(attack.attack)
    if not has_fields(attack, "steps"):
        raise RequestError(
            f"the steps of {type(attack).__name__} cannot be changed: choose an attack with a `steps` field "
            "(attack=pgd), or schedule eps alone"
        )
    return int(attack.steps)
