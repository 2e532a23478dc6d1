"""Several poisons, one after the other, on one training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from robustml.data import Arrays
from robustml.errors import RequestError
from robustml.poisoning.choose import seed_for
from robustml.poisoning.poison import Backdoor, Poison, Poisoned

__all__ = ["Chain"]


@dataclass(frozen=True)
class Chain:
    """Poisons in their order; rates are of the set that each of them gets.

    Args:
        poisons: by name. The backdoor that is measured is the last one among them that is one.

    Raises:
        RequestError: no poison at all.
    """

    poisons: Mapping[str, Poison] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty chain."""
        if not self.poisons:
            raise RequestError(
                "poison=chain needs poisons: +poison@poison.poisons.first=badnets +poison@poison.poisons.second=flip"
            )

    def __call__(self, data: Arrays, *, seed: int) -> Poisoned:
        """Every poison on what the one before left."""
        source = torch.arange(len(data))
        for name, poison in self.poisons.items():
            step = poison(data, seed=seed_for(seed, name))  # two poisons of one kind draw different rows
            data = step.data
            source = torch.where(step.source >= 0, source[step.source], -1)
        return Poisoned(data, source)

    @property
    def backdoor(self) -> Backdoor | None:
        """The last backdoor among the poisons."""
        found = [poison for poison in self.poisons.values() if isinstance(poison, Backdoor)]
        return found[-1] if found else None
