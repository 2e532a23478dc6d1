"""An attack and the threat that a test runs it within, as one callable; and AutoAttack with a fraction of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from robustml.attacks import AutoAttack
from robustml.calling import refuse_misfit
from robustml.types import Attack, Threat


@dataclass(frozen=True)
class bound:  # noqa: N801  (reads as a function)
    """`attack`, called with `threat`; attributes are the attack's."""

    threat: Threat
    attack: Any

    def __post_init__(self) -> None:
        refuse_misfit(self.attack, self.threat)

    def __call__(self, model: Any, x: Any, y: Any, *, generator: Any = None) -> Any:
        return self.attack(model, x, y, self.threat, generator=generator)

    def smallest(self, model: Any, x: Any, y: Any, **more: Any) -> Any:
        return self.attack.smallest(model, x, y, self.threat, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.attack, name)


@dataclass(frozen=True)
class Brief(AutoAttack):
    """The ensemble, each member cut to a few steps or queries."""

    def members(self, *, one_norm: bool = False) -> Mapping[str, Attack]:
        def cut(member: Any) -> Attack:
            few = {name: count for name, count in (("steps", 6), ("queries", 30)) if hasattr(member, name)}
            return replace(member, **few)

        return {name: cut(member) for name, member in super().members(one_norm=one_norm).items()}
