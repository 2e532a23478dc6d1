"""Several poisons, one after the other, on one training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.choose import seed_for
from robustml.poisoning.dose import Dose
from robustml.poisoning.manifest import compare
from robustml.poisoning.poison import Backdoor, Poison, Poisoned

__all__ = ["Chain", "kind_of", "rate_of"]


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
        """Refuse an empty chain, and links that are none."""
        if not self.poisons:
            raise RequestError(
                "poison=chain needs poisons: +poison@poison.poisons.first=badnets +poison@poison.poisons.second=flip"
            )

        for name, poison in self.poisons.items():
            if not isinstance(poison, Poison):
                raise RequestError(
                    f"poison.poisons.{name}={poison!r} is no poison: add one with +poison@poison.poisons.{name}=badnets"
                )

    def __call__(self, data: Records, *, seed: int) -> Poisoned:
        """Every poison on what the one before left."""
        source, doses = torch.arange(len(data)), list[Dose]()
        cover, own = torch.zeros(len(data), dtype=torch.bool), torch.zeros(len(data), dtype=torch.bool)
        for name, poison in self.poisons.items():
            step = poison(data, seed=seed_for(seed, name))  # two poisons of one kind draw different rows
            made = compare(data, step, kind_of(poison), rate_of(poison), backdoor=isinstance(poison, Backdoor))
            doses += made.parts or (made.dose,)
            data, kept = step.data, step.source >= 0
            # a row is cover only as long as no poison made it its own
            cover, own = cover[step.source] & kept, own[step.source] & kept
            cover[step.cover] = True
            own[made.changed] |= ~torch.isin(made.changed, step.cover)
            source = torch.where(kept, source[step.source], -1)
        return Poisoned(data, source, cover=(cover & ~own).nonzero().squeeze(1), parts=tuple(doses))

    @property
    def backdoor(self) -> Backdoor | None:
        """The last backdoor among the poisons."""
        found = [poison for poison in self.poisons.values() if isinstance(poison, Backdoor)]
        return found[-1] if found else None


def kind_of(poison: Poison) -> str:
    """What to call a poison: the file that it is in (one paper a file), or those of a chain."""
    if isinstance(poison, Chain):
        return "+".join(kind_of(part) for part in poison.poisons.values())
    return type(poison).__module__.rpartition(".")[2]


def rate_of(poison: Poison) -> float | None:
    """The share of the set that a poison was asked to change; None where it has no rate."""
    return getattr(poison, "rate", None)
