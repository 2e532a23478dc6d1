"""An attack that keeps to a threat of its own, whatever the threat of the call: on purpose, and for all to see.

For training on several norms at once, and for poison that is crafted under another budget than the run's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor, nn

from robustml.calling import refuse_misfit, run_attack
from robustml.types import Attack, Threat


@dataclass(frozen=True)
class Within:
    """Any attack, within another threat than the one that it is called with.

    Judged by `evaluate` as an attack that carries its own budget: what it returns has to lie in the threat of the
    evaluation, and a budget far below that is flagged.

    Args:
        attack: what to run.
        threat: what it may do.

    Raises:
        RequestError: the attack is not for such a threat.
    """

    attack: Attack
    threat: Threat

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        refuse_misfit(self.attack, self.threat)

    @property
    def gives_up(self) -> bool:
        """Whether what the inner attack does not turn comes back as it was."""
        return bool(getattr(self.attack, "gives_up", False))

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Any:
        """What the inner attack makes of `x` (N, ...) with labels `y` (N,) within its own threat."""
        return run_attack(self.attack, model, x, y, self.threat, generator)
