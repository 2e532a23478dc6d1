# ruff: noqa: NPY002  (numpy's global state is what an attack must leave alone)
"""What an attack returns, what it leaves behind, and where it has to run: one function a property."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from robustml.calling import has_own_budget
from robustml.evaluation.conformance.tiny_models import TinyModel, untrained_tiny_model
from robustml.evaluation.conformance.trial import (
    InapplicableError,
    Trial,
    random_state_checked,
    require,
    require_arguments_unchanged,
    require_budget,
    require_finite,
    require_range,
    require_shape,
)
from robustml.evaluation.sanity.guard import Guard
from robustml.threats import LpBall

Property = Callable[[Trial], None]


# What a call returns.


def _runs(trial: Trial) -> None:
    trial.run(trial.basic())


def _budget(trial: Trial) -> None:
    for tiny in (trial.basic(), untrained_tiny_model((1, 16, 16), 10)):
        require_budget(trial.run(tiny), tiny.x, trial.threat)


def _detached(trial: Trial) -> None:
    model, x, y = trial.basic()
    for images in (x, x.clone().requires_grad_()):
        x_adv = trial.call(TinyModel(model, images, y))
        given = "images that require gradients" if images.requires_grad else "plain images"
        require(not x_adv.requires_grad, f"the result for {given} is still part of a graph: detach it")
    require(images.grad is None and images.requires_grad, "changes requires_grad or .grad of the images")


def _own_memory(trial: Trial) -> None:
    tiny = trial.basic()
    before = tiny.x.clone()
    trial.call(tiny).add_(1)
    require(torch.equal(tiny.x, before), "the result shares memory with the images: clone it")


# What a call leaves behind.


def _well_used(tiny: TinyModel) -> TinyModel:
    """A model with a frozen layer, and with gradients that are not the attack's."""
    tiny.model(tiny.x).sum().backward()
    next(iter(tiny.model.parameters())).requires_grad_(False)
    return tiny


def _partly_frozen(tiny: TinyModel) -> TinyModel:
    """A model in training whose batch norm is in eval mode, as fine-tuning has it; and dropout, which would draw."""
    for module in tiny.model.train():
        module.train(not isinstance(module, (nn.BatchNorm2d, nn.Dropout)))
    return tiny


def _leaves(*what: str, of: Callable[[TinyModel], TinyModel] | None = None) -> Property:
    """Whether a model, plain and as `of` makes it, is as found in what `Guard.changes` calls by these words."""

    def examine(trial: Trial) -> None:
        for tiny in (trial.basic(), *([] if of is None else [of(trial.basic())])):
            guard = Guard(tiny.model)
            trial.run(tiny)
            changed = [each for each in guard.changes() if each.startswith(what)]
            require(not changed, f"leaves the model changed: {', '.join(changed)}")

    return examine


def _after_failure(trial: Trial) -> None:
    for last_call in (1, 2):
        tiny = _partly_frozen(_well_used(trial.basic()))
        hook = tiny.model.register_forward_hook(_fail_at(last_call))
        guard = Guard(tiny.model)
        with random_state_checked():
            try:
                trial.run(tiny)
            except ZeroDivisionError:
                changed = guard.changes()
                require(not changed, f"leaves the model changed: {', '.join(changed)}")
            finally:
                hook.remove()


def _fail_at(last_call: int) -> Callable[..., None]:
    calls = itertools.count(1)

    def fail(module: nn.Module, arguments: Any, output: Any) -> None:
        if next(calls) == last_call:
            raise ZeroDivisionError

    return fail


def _global_random_state(trial: Trial) -> None:
    tiny = trial.basic()
    _scramble(3)  # no state in which an attack that always reseeds alike has left it
    with random_state_checked():
        trial.run(tiny)


def _same_seed(trial: Trial) -> None:
    tiny = trial.basic()
    _scramble(1)
    first = trial.run(tiny, seed=5)
    _scramble(2)
    again = trial.run(tiny, seed=5)
    require(torch.equal(first, again), "the same generator gives another result: something else is drawn from")


def _scramble(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


# One example is attacked as if it were alone.


@dataclasses.dataclass(frozen=True)
class _SameStart(LpBall):
    """The ball of an attack, whose random start depends on the image alone."""

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        return self.project(x + self.eps * torch.sin(1000 * x), x)


def _batch_invariance(trial: Trial) -> None:
    # In float64, lest a sign or a largest gradient be decided by how a matrix product was split. The last images are
    # darker, and so have smaller gradients: what is measured over the whole batch changes with them.
    model, x, y = trial.basic()
    tiny = TinyModel(model.double(), torch.cat([x[:4], 0.2 * x[4:7], x[7:]]).double(), y)
    worst = _batch_difference(trial, tiny)
    if worst > 1e-5 and _draws(trial, tiny):
        ball = trial.threat
        same_start = None
        if type(ball) is LpBall and not has_own_budget(trial.attack):
            same_start = dataclasses.replace(trial, threat=_SameStart(ball.p, ball.eps, ball.bounds))
        if same_start is None or _draws(same_start, tiny):
            raise InapplicableError("random, and no two calls can be made to draw the same")
        worst = _batch_difference(same_start, tiny)
    require(worst <= 1e-5, f"an image of a batch comes out differently alone, by up to {worst:.3g}")


def _batch_difference(trial: Trial, tiny: TinyModel) -> float:
    model, x, y = tiny
    together = trial.run(tiny)
    alone = [trial.run(TinyModel(model, x[i : i + 1], y[i : i + 1])) for i in range(len(x))]
    return float((together - torch.cat(alone)).abs().max())


def _draws(trial: Trial, tiny: TinyModel) -> bool:
    first, second = (trial.run(tiny, seed=seed) for seed in (1, 2))
    return not torch.equal(first, second)


# Wherever it is called, and whatever the model and the images.


def _same_within(context: Callable[[], AbstractContextManager[Any]]) -> Property:
    def examine(trial: Trial) -> None:
        tiny = trial.basic()
        expected = trial.run(tiny)
        with context():
            # `run` copies the images, and what is made under inference mode can take part in no graph.
            found = trial.run(tiny)
        require(torch.equal(found.clone(), expected), "gives another result there")

    return examine


def _on(shape: tuple[int, ...], num_classes: int) -> Property:
    return lambda trial: trial.sound(untrained_tiny_model(shape, num_classes))


def _float64(trial: Trial) -> None:
    model, x, y = trial.basic()
    trial.sound(TinyModel(model.double(), x.double(), y))


def _on_one_example(trial: Trial) -> None:
    model, x, y = trial.basic()
    trial.sound(TinyModel(model, x[:1], y[:1]))


def _all_wrong(trial: Trial) -> None:
    model, x, _ = trial.basic()
    with torch.no_grad():
        wrong = (model(x).argmax(1) + 1) % 10
    trial.sound(TinyModel(model, x, wrong))


def _extremes(trial: Trial) -> None:
    model, x, y = trial.basic()
    for images in (torch.zeros_like(x), torch.ones_like(x), x.round()):
        trial.sound(TinyModel(model, images, y))


def _constant_model(trial: Trial) -> None:
    """No gradient at all: a norm of zero must not be divided by."""
    model, x, y = trial.basic()
    for parameter in model[-1].parameters():
        parameter.data.zero_()
    trial.sound(TinyModel(model, x, torch.zeros_like(y)))


CONTRACT: dict[str, Property] = {
    "runs": _runs,
    "shape and dtype": lambda trial: require_shape(trial.run(tiny := trial.basic()), tiny.x),
    "float64": _float64,
    "finite": lambda trial: require_finite(trial.run(trial.basic())),
    "image range": lambda trial: require_range(trial.run(trial.basic()), trial.threat),
    "budget": _budget,
    "detached": _detached,
    "own memory": _own_memory,
    "arguments unchanged": lambda trial: require_arguments_unchanged(trial.basic(), trial.call),
    "weights and buffers unchanged": _leaves("the values of", "its submodules", "its hooks", "its forward"),
    "modes unchanged": _leaves("its mode", "the values of", of=_partly_frozen),
    "requires_grad unchanged": _leaves("requires_grad", of=_well_used),
    ".grad unchanged": _leaves(".grad", of=_well_used),
    "all that after a failure": _after_failure,
    "global random state unchanged": _global_random_state,
    "same seed, same result": _same_seed,
    "a batch gives what its images give": _batch_invariance,
    "under no_grad": _same_within(torch.no_grad),
    "under inference_mode": _same_within(torch.inference_mode),
    "2 classes": _on((1, 16, 16), 2),
    "100 classes": _on((1, 16, 16), 100),
    "colour": _on((3, 16, 16), 10),
    "not square": _on((1, 12, 20), 10),
    "flat vectors": _on((12,), 5),
    "one image": _on_one_example,
    "images that are wrong already": _all_wrong,
    "pixels at 0 and 1": _extremes,
    "a model without gradient": _constant_model,
}
