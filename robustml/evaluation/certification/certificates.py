"""What a certification method gives: for each example a class, and a radius within which nothing changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Generator, Tensor, nn

# The class of an example on which a method will not say anything.
ABSTAINED = -1


class Certificates(NamedTuple):
    """The class (N,) of each example or `ABSTAINED`, and the radius (N,) that it holds for; -1 where it holds for none.

    The radius is in the method's norm and in the unit of the images.
    """

    prediction: Tensor
    radius: Tensor


class Certifier(Protocol):
    """A certification method, together with the classifier that its certificates are about."""

    name: ClassVar[str]
    norm: ClassVar[str]

    @property
    def error_rate(self) -> float:
        """How probable it is, at most, that an example's certificate and a sound test of it contradict each other."""
        ...

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        radii: Sequence[float],
        bounds: tuple[float, float],
        generators: Sequence[Generator],
    ) -> Certificates:
        """Certify images `x` (N, ...) with labels `y` (N,); generator i is for whatever example i draws at random."""
        ...

    def attackable(self, model: nn.Module) -> nn.Module:
        """The certified classifier, or a differentiable stand-in, for attacks; `model` itself if that is certified."""
        ...

    def predict(self, model: nn.Module, x: Tensor, generators: Sequence[Generator]) -> Tensor:
        """The class (N,) that the certified classifier gives to `x` (N, ...), or `ABSTAINED`."""
        ...
