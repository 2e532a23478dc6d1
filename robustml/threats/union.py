"""The union of several Lp balls: an attacker who may choose, for each input, which of them to use.

Tramer and Boneh, "Adversarial Training and Robustness for Multiple Perturbations", NeurIPS 2019, arXiv:1904.13000;
Maini, Wong and Kolter, "Adversarial Robustness Against the Union of Multiple Perturbation Models", ICML 2020,
arXiv:1909.04068.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor

from robustml.errors import RequestError
from robustml.threats.lp import LpBall


@dataclass(frozen=True)
class Union:
    """All inputs that lie in one of several balls at least, and inside the image box.

    Args:
        threats: the balls, with the same box.
        eps: the share of each ball's radius that the attacker may use, 0 to 1.

    Raises:
        RequestError: there are no balls, or their boxes differ, or `eps` is no share. Later: `ascend` is called.
    """

    threats: Sequence[LpBall]
    eps: float = 1.0
    bounds: tuple[float, float] = field(init=False)
    norm: ClassVar[str] = "union"

    def __post_init__(self) -> None:
        """Check the values, and store them as plain ones."""
        threats = tuple(self.threats)
        if not threats or any(not isinstance(threat, LpBall) for threat in threats):
            raise RequestError(f"a union of threats needs Lp balls, got {list(self.threats)!r}")
        if len({threat.bounds for threat in threats}) > 1:
            raise RequestError(f"a union of threats needs one box, got {[threat.bounds for threat in threats]}")
        if not 0 <= self.eps <= 1:
            raise RequestError(f"the eps of a union is a share of each radius, expected 0 to 1, got {self.eps}")
        object.__setattr__(self, "threats", threats)
        object.__setattr__(self, "bounds", threats[0].bounds)

    def at(self, eps: float) -> Union:
        """The same threat with another budget."""
        return dataclasses.replace(self, eps=eps)

    def describe(self) -> str:
        """The threat in words."""
        balls = "; ".join(threat.describe() for threat in self.threats)
        return f"one of {len(self.threats)} balls, {self.eps:g} of their radius: {balls}"

    @property
    def balls(self) -> tuple[LpBall, ...]:
        """The balls, at the share `eps` of their radius."""
        return tuple(threat.at(self.eps * threat.eps) for threat in self.threats)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The point of the union nearest to `x_adv` (N, ...) (Euclidean), for each of the originals `x` (N, ...)."""
        candidates = torch.stack([ball.project(x_adv, x) for ball in self.balls])
        nearest = (candidates - x_adv).flatten(2).norm(dim=2).argmin(0)
        return candidates[nearest, torch.arange(len(x), device=x.device)]

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        """A random start (N, ...) in the first of the balls around each of `x` (N, ...)."""
        return self.balls[0].sample(x, generator, boxed=boxed)

    def ascend(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """There is no steepest step that serves several norms.

        Raises:
            RequestError: always.
        """
        raise RequestError("no gradient step serves a union of norms: choose attack=msd, or one norm as the threat")

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The share (N,) of its radius that the roomiest ball would need to hold each of `x_adv` (N, ...)."""
        shares = [ball.distance(x_adv, x) / max(ball.eps, torch.finfo(x.dtype).tiny) for ball in self.threats]
        return torch.stack(shares).amin(0)

    def contains(self, x_adv: Tensor, x: Tensor, atol: float = 1e-6) -> Tensor:
        """Which of `x_adv` (N, ...) one ball holds at least, up to `atol`: bool (N,)."""
        return torch.stack([ball.contains(x_adv, x, atol) for ball in self.balls]).any(0)
