# ruff: noqa: NPY002  (numpy's global state is what an attack must leave alone)
"""The properties that every attack has to keep, one function each: it returns, or raises what says why not."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM
from robustml.attacks.engine.gradient import logits_of
from robustml.calling import has_own_budget, run_attack
from robustml.evaluation.conformance.tiny_models import TinyModel, trained_tiny_model, untrained_tiny_model
from robustml.threats import LpBall
from robustml.types import Attack, Threat

__all__ = ["PROPERTIES", "Bench", "BrokenError", "InapplicableError", "random_state_restored"]


class BrokenError(Exception):
    """The attack breaks the property; the message says how."""


class InapplicableError(Exception):
    """The property means nothing for this attack; the message says why."""


@dataclass(frozen=True)
class Bench:
    """The attack under examination and what it may do."""

    attack: Attack
    threat: Threat

    def basic(self) -> TinyModel:
        """Eight digits, the last with a wrong label."""
        model, x, y = trained_tiny_model()
        y = y[:8].clone()
        y[-1] = (y[-1] + 1) % 10
        return TinyModel(model, x[:8].clone(), y)

    def call(self, tiny: TinyModel, seed: int = 0) -> Tensor:
        """What the attack makes of the images themselves."""
        x_adv: Tensor = run_attack(self.attack, *tiny, self.threat, _seeded(seed))
        return x_adv

    def run(self, tiny: TinyModel, seed: int = 0) -> Tensor:
        """What the attack makes of copies of the images; whether it is detached is a question of its own."""
        model, x, y = tiny
        x_adv = self.call(TinyModel(model, x.clone(), y.clone()), seed)
        return x_adv.detach() if isinstance(x_adv, Tensor) else x_adv

    def sound(self, tiny: TinyModel) -> None:
        """Run on a tiny; the result has the right shape, is finite and feasible."""
        x_adv = self.run(tiny)
        _require_shape(x_adv, tiny.x)
        _require_finite(x_adv)
        _require_range(x_adv, self.threat)
        _require_budget(x_adv, tiny.x, self.threat)


def _seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _require(kept: bool, reason: str) -> None:
    if not kept:
        raise BrokenError(reason)


def _require_shape(x_adv: Tensor, x: Tensor) -> None:
    _require(isinstance(x_adv, Tensor), f"returns a {type(x_adv).__name__}, not a tensor")
    _require(x_adv.shape == x.shape, f"returns shape {tuple(x_adv.shape)} for images of shape {tuple(x.shape)}")
    _require(x_adv.dtype == x.dtype, f"returns {x_adv.dtype} for images of {x.dtype}")
    _require(x_adv.device == x.device, f"returns images on {x_adv.device}, got them on {x.device}")


def _require_finite(x_adv: Tensor) -> None:
    count = int((~x_adv.isfinite().flatten(1).all(1)).sum())
    _require(count == 0, f"{count} of {len(x_adv)} images are not finite")


def _require_range(x_adv: Tensor, threat: Threat) -> None:
    low, high = threat.bounds
    outside = float(torch.maximum(low - x_adv.min(), x_adv.max() - high))
    _require(outside <= 1e-6, f"leaves the image range [{low:g}, {high:g}] by {outside:.3g}")


def _require_budget(x_adv: Tensor, x: Tensor, threat: Threat) -> None:
    if isinstance(threat, LpBall):
        # By other arithmetic than the threat's own, and without the box, which is a property of its own.
        flat = (x_adv.double() - x.double()).flatten(1).numpy()
        inside = torch.from_numpy(np.linalg.norm(flat, ord=threat.p, axis=1) <= threat.eps * (1 + 2e-5) + 1e-6)
    else:
        inside = threat.contains(x_adv, x)
    excess = float((threat.distance(x_adv, x) - threat.eps).max())
    _require(bool(inside.all()), f"{int((~inside).sum())} of {len(x)} images lie outside the threat, by {excess:.3g}")


# What a call returns.


def _runs(bench: Bench) -> None:
    bench.run(bench.basic())


def _shape(bench: Bench) -> None:
    _require_shape(bench.run(tiny := bench.basic()), tiny.x)


def _float64(bench: Bench) -> None:
    model, x, y = bench.basic()
    bench.sound(TinyModel(model.double(), x.double(), y))


def _finite(bench: Bench) -> None:
    _require_finite(bench.run(bench.basic()))


def _range(bench: Bench) -> None:
    _require_range(bench.run(bench.basic()), bench.threat)


def _budget(bench: Bench) -> None:
    for tiny in (bench.basic(), untrained_tiny_model((1, 16, 16), 10)):
        _require_budget(bench.run(tiny), tiny.x, bench.threat)


def _detached(bench: Bench) -> None:
    model, x, y = bench.basic()
    for images in (x, x.clone().requires_grad_()):
        x_adv = bench.call(TinyModel(model, images, y))
        given = "images that require gradients" if images.requires_grad else "plain images"
        _require(not x_adv.requires_grad, f"the result for {given} is still part of a graph: detach it")
    _require(images.grad is None and images.requires_grad, "changes requires_grad or .grad of the images")


def _own_memory(bench: Bench) -> None:
    model, x, y = bench.basic()
    before = x.clone()
    bench.call(TinyModel(model, x, y)).add_(1)
    _require(torch.equal(x, before), "the result shares memory with the images: clone it")


# What a call leaves behind.


def _arguments(bench: Bench) -> None:
    model, x, y = bench.basic()
    before = x.clone(), y.clone()
    bench.call(TinyModel(model, x, y))
    _require(torch.equal(x, before[0]), "changes the images that it was given")
    _require(torch.equal(y, before[1]), "changes the labels that it was given")


@dataclass(frozen=True)
class _Snapshot:
    """All of a model that an attack could leave changed."""

    modes: list[bool]
    requires_grad: list[bool]
    state: dict[str, Tensor]
    gradients: list[tuple[Tensor | None, Tensor | None]]

    @staticmethod
    def of(model: nn.Module) -> _Snapshot:
        return _Snapshot(
            [module.training for module in model.modules()],
            [parameter.requires_grad for parameter in model.parameters()],
            copy.deepcopy(model.state_dict()),
            [(parameter.grad, copy.deepcopy(parameter.grad)) for parameter in model.parameters()],
        )

    def changed(self, model: nn.Module) -> list[str]:
        """Names of the tensors of the state that differ."""
        return [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, self.state[name])]

    def require_modes(self, model: nn.Module) -> None:
        moved = sum(module.training != training for module, training in zip(model.modules(), self.modes, strict=True))
        _require(not moved, f"leaves {moved} of {len(self.modes)} submodules in another mode (train or eval)")

    def require_grad_flags(self, model: nn.Module) -> None:
        flags = [parameter.requires_grad for parameter in model.parameters()]
        moved = sum(now != before for now, before in zip(flags, self.requires_grad, strict=True))
        _require(not moved, f"leaves requires_grad of {moved} of {len(flags)} parameters changed")

    def require_gradients(self, model: nn.Module) -> None:
        for parameter, (gradient, value) in zip(model.parameters(), self.gradients, strict=True):
            same = parameter.grad is gradient and (gradient is None or torch.equal(gradient, cast(Tensor, value)))
            _require(same, "leaves gradients in .grad of the model's parameters")


def _well_used(bench: Bench) -> TinyModel:
    """A model with a frozen layer, and with gradients that are not the attack's."""
    tiny = bench.basic()
    tiny.model(tiny.x).sum().backward()
    next(iter(tiny.model.parameters())).requires_grad_(False)
    return tiny


def _weights(bench: Bench) -> None:
    tiny = bench.basic()
    before = _Snapshot.of(tiny.model)
    bench.run(tiny)
    changed = before.changed(tiny.model)
    _require(not changed, f"changes {', '.join(changed)} of a model in eval mode")


def _requires_grad(bench: Bench) -> None:
    tiny = _well_used(bench)
    before = _Snapshot.of(tiny.model)
    bench.run(tiny)
    before.require_grad_flags(tiny.model)


def _gradients(bench: Bench) -> None:
    for tiny in (bench.basic(), _well_used(bench)):
        before = _Snapshot.of(tiny.model)
        bench.run(tiny)
        before.require_gradients(tiny.model)


def _partly_frozen(tiny: TinyModel) -> TinyModel:
    """A model in training whose batch norm is in eval mode, as fine-tuning has it; and dropout, which would draw."""
    for module in tiny.model.train():
        module.train(not isinstance(module, (nn.BatchNorm2d, nn.Dropout)))
    return tiny


def _modes(bench: Bench) -> None:
    for tiny in (bench.basic(), _partly_frozen(bench.basic())):
        before = _Snapshot.of(tiny.model)
        bench.run(tiny)
        before.require_modes(tiny.model)
        changed = before.changed(tiny.model)
        _require(not changed, f"moves {', '.join(changed)}, although batch norm is in eval mode")


def _fail_at(last_call: int) -> Callable[..., None]:
    calls = itertools.count(1)

    def fail(module: nn.Module, arguments: Any, output: Any) -> None:
        if next(calls) == last_call:
            raise ZeroDivisionError

    return fail


def _after_failure(bench: Bench) -> None:
    for last_call in (1, 2):
        tiny = _partly_frozen(_well_used(bench))
        before = _Snapshot.of(tiny.model)
        hook = tiny.model.register_forward_hook(_fail_at(last_call))
        with _random_state_checked():
            try:
                bench.run(tiny)
            except ZeroDivisionError:
                before.require_modes(tiny.model)
                before.require_grad_flags(tiny.model)
                before.require_gradients(tiny.model)
            finally:
                hook.remove()


def _random_state() -> tuple[Any, ...]:
    numpy_state = np.random.get_state(legacy=False)["state"]
    return torch.get_rng_state(), numpy_state["key"].copy(), numpy_state["pos"], random.getstate()


@contextmanager
def random_state_restored() -> Iterator[None]:
    """Put the global generators of torch, numpy and Python back as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextmanager
def _random_state_checked() -> Iterator[None]:
    """Complain if the body moves a global generator."""
    before = _random_state()
    yield
    after = _random_state()
    moved = [
        name
        for name, kept in (
            ("torch", torch.equal(before[0], after[0])),
            ("numpy", np.array_equal(before[1], after[1]) and before[2] == after[2]),
            ("random", before[3] == after[3]),
        )
        if not kept
    ]
    _require(not moved, f"moves or reseeds the global generator of {', '.join(moved)}, although it was given one")


def _global_random_state(bench: Bench) -> None:
    tiny = bench.basic()
    _scramble(3)  # no state in which an attack that always reseeds alike has left it
    with _random_state_checked():
        bench.run(tiny)


def _same_seed(bench: Bench) -> None:
    tiny = bench.basic()
    _scramble(1)
    first = bench.run(tiny, seed=5)
    _scramble(2)
    again = bench.run(tiny, seed=5)
    _require(torch.equal(first, again), "the same generator gives another result: something else is drawn from")


def _scramble(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


# One example is attacked as if it were alone.


@dataclass(frozen=True)
class _SameStart(LpBall):
    """The ball of an attack, whose random start depends on the image alone."""

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        return self.project(x + self.eps * torch.sin(1000 * x), x)


def _batch_invariance(bench: Bench) -> None:
    # In float64, lest a sign or a largest gradient be decided by how a matrix product was split. The last images are
    # darker, and so have smaller gradients: what is measured over the whole batch changes with them.
    model, x, y = bench.basic()
    tiny = TinyModel(model.double(), torch.cat([x[:4], 0.2 * x[4:7], x[7:]]).double(), y)
    worst = _batch_difference(bench, tiny)
    if worst > 1e-5 and _draws(bench, tiny):
        ball = bench.threat
        if type(ball) is not LpBall or has_own_budget(bench.attack):
            raise InapplicableError("random, and no two calls can be made to draw the same")
        same_start = dataclasses.replace(bench, threat=_SameStart(ball.p, ball.eps, ball.bounds))
        if _draws(same_start, tiny):
            raise InapplicableError("random, and no two calls can be made to draw the same")
        worst = _batch_difference(same_start, tiny)
    _require(worst <= 1e-5, f"an image of a batch comes out differently alone, by up to {worst:.3g}")


def _batch_difference(bench: Bench, tiny: TinyModel) -> float:
    model, x, y = tiny
    together = bench.run(tiny)
    alone = [bench.run(TinyModel(model, x[i : i + 1], y[i : i + 1])) for i in range(len(x))]
    return float((together - torch.cat(alone)).abs().max())


def _draws(bench: Bench, tiny: TinyModel) -> bool:
    first, second = (bench.run(tiny, seed=seed) for seed in (1, 2))
    return not torch.equal(first, second)


# Wherever it is called, and whatever the model and the images.


def _same_within(context: Callable[[], AbstractContextManager[Any]]) -> Callable[[Bench], None]:
    def examine(bench: Bench) -> None:
        tiny = bench.basic()
        expected = bench.run(tiny)
        with context():
            # `run` copies the images, and what is made under inference mode can take part in no graph.
            found = bench.run(tiny)
        _require(torch.equal(found.clone(), expected), "gives another result there")

    return examine


def _on(make: Callable[[], TinyModel]) -> Callable[[Bench], None]:
    return lambda bench: bench.sound(make())


def _on_one_example(bench: Bench) -> None:
    model, x, y = bench.basic()
    bench.sound(TinyModel(model, x[:1], y[:1]))


def _all_wrong(bench: Bench) -> None:
    model, x, _ = bench.basic()
    with torch.no_grad():
        wrong = (model(x).argmax(1) + 1) % 10
    bench.sound(TinyModel(model, x, wrong))


def _extremes(bench: Bench) -> None:
    model, x, y = bench.basic()
    for images in (torch.zeros_like(x), torch.ones_like(x), x.round()):
        bench.sound(TinyModel(model, images, y))


def _constant_model(bench: Bench) -> None:
    """No gradient at all: a norm of zero must not be divided by."""
    model, x, y = bench.basic()
    for parameter in model[-1].parameters():
        parameter.data.zero_()
    bench.sound(TinyModel(model, x, torch.zeros_like(y)))


# How much it finds.


def _fooled(bench: Bench) -> Tensor:
    tiny = trained_tiny_model()
    return _misclassified(tiny, bench.run(tiny))


def _misclassified(tiny: TinyModel, x_adv: Tensor) -> Tensor:
    with torch.no_grad():
        return logits_of(tiny.model, x_adv).argmax(1) != tiny.y


def _require_no_weaker(strong: Tensor, weak: Tensor, what: str) -> None:
    """A sign test at three standard deviations on the images where the two disagree."""
    lost, won = int((weak & ~strong).sum()), int((strong & ~weak).sum())
    _require(
        lost - won <= 3 * np.sqrt(lost + won),
        f"{what}: {int(strong.sum())} of {len(strong)} images fooled against {int(weak.sum())}",
    )


def _beats_noise(bench: Bench) -> None:
    tiny = trained_tiny_model()
    found = _fooled(bench)
    noise = bench.threat.project(bench.threat.sample(tiny.x, _seeded(0)), tiny.x)
    _require_no_weaker(found, _misclassified(tiny, noise), "weaker than random noise of the same size")
    if isinstance(bench.threat, LpBall):
        clean = _misclassified(tiny, tiny.x)
        easy = _fooled(Bench(FGSM(), bench.threat)) & ~clean
        nothing = not (found & ~clean).any() and int(easy.sum()) >= 10
        _require(not nothing, f"fools no image, where one gradient step fools {int(easy.sum())} of {len(easy)}")


def _more_steps(bench: Bench) -> None:
    attack: Any = bench.attack
    fields = {field.name for field in dataclasses.fields(attack) if field.init} if _is_dataclass(attack) else set()
    params = getattr(attack, "params", None)
    if "steps" in fields:
        few, many = _few_and_many(attack.steps)
        changed = [dataclasses.replace(attack, steps=steps) for steps in (few, many)]
    elif "params" in fields and isinstance(params, Mapping) and "steps" in params:
        few, many = _few_and_many(params["steps"])
        changed = [dataclasses.replace(attack, params={**params, "steps": steps}) for steps in (few, many)]
    else:
        raise InapplicableError("has no number of steps to change")
    weak, strong = (_fooled(dataclasses.replace(bench, attack=one)) for one in changed)
    _require_no_weaker(strong, weak, f"weaker with {many} steps than with {few}")


def _few_and_many(steps: int) -> tuple[int, int]:
    return max(1, steps // 5), max(5, steps)


def _is_dataclass(attack: Attack) -> bool:
    return dataclasses.is_dataclass(attack) and not isinstance(attack, type)


def _rescaled(bench: Bench, factor: float) -> Bench:
    if has_own_budget(bench.attack):
        raise InapplicableError("carries a budget of its own")
    return dataclasses.replace(bench, threat=bench.threat.at(factor * bench.threat.eps))


def _zero_budget(bench: Bench) -> None:
    tiny = bench.basic()
    moved = float((_rescaled(bench, 0.0).run(tiny) - tiny.x).abs().max())
    _require(moved <= 1e-6, f"changes images by {moved:.3g} where eps is 0")


def _twice_the_budget(bench: Bench) -> None:
    larger, smaller = _fooled(bench), _fooled(_rescaled(bench, 0.5))
    _require_no_weaker(larger, smaller, "weaker with twice the budget")


PROPERTIES: Mapping[str, Callable[[Bench], None]] = {
    "runs": _runs,
    "shape and dtype": _shape,
    "float64": _float64,
    "finite": _finite,
    "image range": _range,
    "budget": _budget,
    "detached": _detached,
    "own memory": _own_memory,
    "arguments unchanged": _arguments,
    "weights and buffers unchanged": _weights,
    "modes unchanged": _modes,
    "requires_grad unchanged": _requires_grad,
    ".grad unchanged": _gradients,
    "all that after a failure": _after_failure,
    "global random state unchanged": _global_random_state,
    "same seed, same result": _same_seed,
    "a batch gives what its images give": _batch_invariance,
    "under no_grad": _same_within(torch.no_grad),
    "under inference_mode": _same_within(torch.inference_mode),
    "2 classes": _on(lambda: untrained_tiny_model((1, 16, 16), 2)),
    "100 classes": _on(lambda: untrained_tiny_model((1, 16, 16), 100)),
    "colour": _on(lambda: untrained_tiny_model((3, 16, 16), 10)),
    "not square": _on(lambda: untrained_tiny_model((1, 12, 20), 10)),
    "flat vectors": _on(lambda: untrained_tiny_model((12,), 5)),
    "one image": _on_one_example,
    "images that are wrong already": _all_wrong,
    "pixels at 0 and 1": _extremes,
    "a model without gradient": _constant_model,
    "a budget of 0 changes nothing": _zero_budget,
    "no weaker than noise": _beats_noise,
    "no weaker with more steps": _more_steps,
    "no weaker with twice the budget": _twice_the_budget,
}
