"""How much an attack finds: returning the images, or noise, would keep every other promise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from robustml.attacks import FGSM
from robustml.calling import has_own_budget
from robustml.evaluation.conformance.tiny_models import trained_tiny_model
from robustml.evaluation.conformance.trial import InapplicableError, Trial, misclassified, require, seeded
from robustml.threats import LpBall


def _require_no_weaker(strong: Tensor, weak: Tensor, what: str) -> None:
    """A sign test at three standard deviations on the images where the two disagree."""
    lost, won = int((weak & ~strong).sum()), int((strong & ~weak).sum())
    require(
        lost - won <= 3 * np.sqrt(lost + won),
        f"{what}: {int(strong.sum())} of {len(strong)} images fooled against {int(weak.sum())}",
    )


def _at(trial: Trial, factor: float) -> Trial:
    if has_own_budget(trial.attack):
        raise InapplicableError("carries a budget of its own")
    return dataclasses.replace(trial, threat=trial.threat.at(factor * trial.threat.eps))


def _zero_budget(trial: Trial) -> None:
    tiny = trial.basic()
    moved = float((_at(trial, 0.0).run(tiny) - tiny.x).abs().max())
    require(moved <= 1e-6, f"changes images by {moved:.3g} where eps is 0")


def _beats_noise(trial: Trial) -> None:
    tiny, threat = trained_tiny_model(), trial.threat
    found = trial.fooled
    noise = threat.project(threat.sample(tiny.x, seeded(0)), tiny.x)
    _require_no_weaker(found, misclassified(tiny, noise), "weaker than random noise of the same size")
    if isinstance(threat, LpBall):
        clean = misclassified(tiny, tiny.x)
        easy = Trial(FGSM(), threat).fooled & ~clean
        nothing = not (found & ~clean).any() and int(easy.sum()) >= 10
        require(not nothing, f"fools no image, where one gradient step fools {int(easy.sum())} of {len(easy)}")


def _more_steps(trial: Trial) -> None:
    attack: Any = trial.attack
    is_dataclass = dataclasses.is_dataclass(attack) and not isinstance(attack, type)
    fields = {field.name for field in dataclasses.fields(attack) if field.init} if is_dataclass else set()
    params = getattr(attack, "params", None)
    if "steps" in fields:
        steps = attack.steps
    elif "params" in fields and isinstance(params, Mapping) and "steps" in params:
        steps = params["steps"]
    else:
        raise InapplicableError("has no number of steps to change")

    def fooled(count: int) -> Tensor:
        changed = {"steps": count} if "steps" in fields else {"params": {**(params or {}), "steps": count}}
        return dataclasses.replace(trial, attack=dataclasses.replace(attack, **changed)).fooled

    few, many = max(1, steps // 5), max(5, steps)
    strong, weak = trial.fooled if many == steps else fooled(many), fooled(few)
    _require_no_weaker(strong, weak, f"weaker with {many} steps than with {few}")


def _twice_the_budget(trial: Trial) -> None:
    _require_no_weaker(trial.fooled, _at(trial, 0.5).fooled, "weaker with twice the budget")


STRENGTH: dict[str, Callable[[Trial], None]] = {
    "a budget of 0 changes nothing": _zero_budget,
    "no weaker than noise": _beats_noise,
    "no weaker with more steps": _more_steps,
    "no weaker with twice the budget": _twice_the_budget,
}
