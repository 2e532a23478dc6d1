"""Any attack of the torchattacks package (Harry24k/adversarial-attacks-pytorch), isolated from its side effects.

What the adapter does that the package does not: it hands back every submodule's mode and `requires_grad`, every `.grad`
and the random state of torch, numpy and Python as they were; it takes seeds from the caller, `eps`, the norm and the
number of classes from the threat and the model; and it scales a step size that was not given with eps (the package's
2/255 would never leave the start of a ball of .3).

Inputs that are not images (N, C, H, W) are shown to the package as pictures of one row.

Attacks that know no eps (CW, DeepFool, JSMA, ...) look for a small perturbation of their own. An example for which they
found one outside the threat comes back unchanged, since within the threat they found none.

Known faults of version 3.5.1 that remain: CW freezes pixels at exactly 0 or 1 and stops early for the whole batch.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.attacks.engine.setup import required
from robustml.errors import RequestError, nearest
from robustml.modes import evaluating, frozen
from robustml.threats import LpBall
from robustml.types import Threat

# MultiAttack takes attack objects and LGV a training loader: neither can be named by values alone.
_UNREACHABLE = frozenset({"MultiAttack", "LGV"})
_EPS_NAMES = ("eps", "max_epsilon")
# These know eps, and give back the image where they find nothing.
_GIVE_UP = frozenset({"APGD", "APGDT", "AutoAttack", "FAB", "Square"})


def _package() -> ModuleType:
    """The package, imported when it is first asked for: a plain installation of robustml comes without it."""
    try:
        return import_module("torchattacks")
    except ModuleNotFoundError as error:
        raise RequestError(
            "torchattacks is not installed; `pip install --no-deps torchattacks` adds it (without --no-deps it takes "
            "requests back to 2021; all that it needs is here)"
        ) from error


def torchattacks_names() -> list[str]:
    """The attacks of the installed torchattacks that can be reached by name and parameters."""
    return sorted(
        name
        for name, value in vars(_package()).items()
        if inspect.isclass(value) and name not in _UNREACHABLE and hasattr(value, "set_mode_default")
    )


@dataclass(frozen=True)
class TorchAttack:
    """One attack of torchattacks.

    Args:
        name: its class name, for example ``"CW"``.
        params: its own arguments, for example ``{"c": 1, "steps": 100}``. Those that it takes and that are missing
            here follow from the threat and the model: eps, norm, n_classes, seed, and alpha (2.5 eps / steps, or 1.25
            eps for a single step).

    Raises:
        RequestError: no such attack or argument. When called: the attack is of another norm or budget than the
            threat's, or the package refuses its arguments or the images.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an unknown attack or argument before anything runs."""
        names = torchattacks_names()
        if self.name not in names:
            raise RequestError(f"torchattacks has no attack {self.name!r}; {nearest(self.name, names)}")
        accepted = self._accepted()
        for key in self.params:
            if key not in accepted:
                raise RequestError(f"torchattacks.{self.name} takes no argument {key!r}; {nearest(key, accepted)}")

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an Lp ball of the attack's norm, and of its eps where that was given."""
        ball = required(LpBall, threat, f"torchattacks.{self.name} needs an Lp threat (inf, 2 or 1)")
        for key in self.params:
            own = f"L{ball.norm}" if key == "norm" else ball.eps
            if key in (*_EPS_NAMES, "norm") and self.params[key] != own:
                raise RequestError(
                    f"torchattacks.{self.name} was given {key}={self.params[key]}, the threat has {own}: leave it "
                    "out, it follows from the threat"
                )
        fixed = "2" if self.name.endswith("L2") else "inf"
        if self._knows_eps() and "norm" not in self._accepted() and ball.norm != fixed:
            # Inside the ball of another norm it would pass for a weak attack, and the model for a robust one.
            raise RequestError(f"torchattacks.{self.name} is an L{fixed} attack, the threat is L{ball.norm}")
        return ball

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) in [0, 1] with labels `y` (N,)."""
        ball = self.check_threat(threat)
        device = None if generator is None else generator.device
        seed = int(torch.randint(0, 2**31 - 1, (1,), generator=generator, device=device))
        with frozen(model), _as_found(model, x.device, seed), torch.inference_mode(False), torch.enable_grad():
            victim = model if x.ndim == 4 else _TakesImages(model, x.shape[1:])
            clean = x.clone() if x.is_inference() else x.detach()
            images = clean if x.ndim == 4 else clean.reshape(len(x), 1, 1, -1)
            try:
                attack = getattr(_package(), self.name)(victim, **self._arguments(model, x, ball, seed))
                attack.set_device(x.device)
                # The caller chooses the mode; torchattacks would switch a training model to eval, and back all of it.
                attack._change_model_mode = attack._recover_model_mode = lambda given_training: None
                x_adv: Tensor = attack(images, y).detach().reshape(x.shape)
            except (AssertionError, TypeError, ValueError, IndexError) as error:
                # The package checks by assertions, some of them without a word.
                reason = " ".join(str(error).split()) or "an assertion of the package, without a reason"
                raise RequestError(
                    f"torchattacks.{self.name} cannot attack images of shape {tuple(x.shape[1:])} with "
                    f"{dict(self.params)}: {reason}"
                ) from error
        if self._knows_eps():
            return x_adv
        inside = ball.contains(x_adv, x)
        return torch.where(inside.view(-1, *[1] * (x.ndim - 1)), x_adv, clean)

    @property
    def gives_up(self) -> bool:
        """Whether what it does not turn comes back as it was."""
        return not self._knows_eps() or self.name in _GIVE_UP

    @property
    def black_box(self) -> bool:
        """Whether the attack asks for outputs only and no gradients."""
        return self.name in ("OnePixel", "Pixle", "SPSA", "Square")

    def _accepted(self) -> dict[str, inspect.Parameter]:
        parameters = dict(inspect.signature(getattr(_package(), self.name).__init__).parameters)
        return {key: parameters[key] for key in parameters if key not in ("self", "model")}

    def _knows_eps(self) -> bool:
        return any(key in self._accepted() for key in _EPS_NAMES)

    def _arguments(self, model: nn.Module, x: Tensor, ball: LpBall, seed: int) -> dict[str, Any]:
        accepted, eps = self._accepted(), ball.eps
        known: dict[str, Any] = {"norm": f"L{ball.norm}", "seed": seed}
        if "n_classes" in accepted and "n_classes" not in self.params:
            with evaluating(model), torch.no_grad():
                known["n_classes"] = logits_of(model, x[:1]).shape[1]
        known |= dict.fromkeys(_EPS_NAMES, eps)
        steps = self.params.get("steps", accepted["steps"].default if "steps" in accepted else None)
        known["alpha"] = 1.25 * eps if steps is None else 2.5 * eps / steps
        return {key: value for key, value in known.items() if key in accepted} | dict(self.params)


class _TakesImages(nn.Module):
    """Lets the package, which knows (N, C, H, W) only, attack a model of flat vectors or other shapes."""

    def __init__(self, model: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.model = model
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.reshape(-1, *self.shape))
        return logits


@contextmanager
def _as_found(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Seed every global generator for the attack; restore them, the modes and the gradients afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            for module, training in modes:
                module.training = training
            for parameter, gradient in gradients:
                parameter.grad = gradient
