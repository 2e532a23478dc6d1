"""Several poisons, one after the other, on one training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.choose import seed_for
from robustml.poisoning.plan import Backdoor, Poison, PoisonPlan
from robustml.poisoning.planned import planned
from robustml.results import Dose

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

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """Every poison on what the one before left, as one plan."""
        poisoned, doses = records, list[Dose]()
        cover, own = set[int](), set[int]()
        for name, poison in self.poisons.items():
            step = poison.plan(poisoned, seed=seed_for(seed, name))  # two poisons of one kind draw different rows
            poisoned = step.apply(poisoned)
            doses += step.summary.parts or (step.summary.dose,)
            cover |= set(step.cover.tolist())
            own |= {entry.id for entry in step.entries() if entry.change == "changed"}
        # a record is cover only as long as no poison made it its own
        beside = torch.tensor(sorted(cover - own), dtype=torch.int64)
        return planned(self, records, poisoned, cover=beside, parts=tuple(doses))

    @property
    def backdoor(self) -> Backdoor | None:
        """The last backdoor among the poisons."""
        found = [poison for poison in self.poisons.values() if isinstance(poison, Backdoor)]
        return found[-1] if found else None
