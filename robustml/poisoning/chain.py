"""Several poisons, one after the other, on one training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.choose import seed_for
from robustml.poisoning.plan import Backdoor, Poison, PoisonPlan, planned
from robustml.results import Dose


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
        poisoned, doses, learned = records, list[Dose](), dict[str, Tensor]()
        cover, own = set[int](), set[int]()
        for name, poison in self.poisons.items():
            step = poison.plan(poisoned, seed=seed_for(seed, name))  # two poisons of one kind draw different rows
            poisoned = step.apply(poisoned)
            doses += step.summary.parts or (step.summary.dose,)
            learned |= {f"{name}/{key}": value for key, value in step.learned.items()}
            cover |= set(step.cover.tolist())
            own |= {entry.id for entry in step.entries() if entry.change == "changed"}
        # a record is cover only as long as no poison made it its own
        beside = torch.tensor(sorted(cover - own), dtype=torch.int64)
        return planned(self, records, poisoned, cover=beside, parts=tuple(doses), learned=learned)

    @property
    def backdoor(self) -> Backdoor | None:
        """The last backdoor among the poisons."""
        found = [poison for poison in self.poisons.values() if isinstance(poison, Backdoor)]
        return found[-1] if found else None

    def recalling(self, learned: Mapping[str, Tensor]) -> Chain:
        """The same chain, each of its poisons with what it learned."""
        own = {
            name: {key.removeprefix(f"{name}/"): value for key, value in learned.items() if key.startswith(f"{name}/")}
            for name in self.poisons
        }
        return Chain({name: recalled(poison, own[name]) for name, poison in self.poisons.items()})

    def reaching_validation(self) -> Chain | None:
        """Those of the poisons that say that they reach the validation part too."""
        parts = {name: reaching_validation(poison) for name, poison in self.poisons.items()}
        found = {name: part for name, part in parts.items() if part is not None}
        return Chain(found) if found else None


def recalled(poison: Any, learned: Mapping[str, Tensor]) -> Any:
    """The poison with what its plan says that it learned; itself where it learns nothing."""
    return poison.recalling(learned) if learned and hasattr(poison, "recalling") else poison


def reaching_validation(poison: Poison) -> Poison | None:
    """What of a poison reaches the validation part: nothing, unless it says so."""
    if isinstance(poison, Chain):
        return poison.reaching_validation()
    return poison if getattr(poison, "poisons_validation", False) else None
