"""What every attack has to keep to, tried out on any attack: ours, torchattacks', the user's own.

`robustml.types.Attack` says what is promised. Each property of `PROPERTIES` is examined on small
models (batch norm, dropout, digits or noise), apart from the others, and comes back as one `Finding`. An attack that
returned its input, or noise, would keep every promise; so the last properties count how many images are fooled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from robustml.errors import RequestError
from robustml.evaluation.conformance.contract import CONTRACT
from robustml.evaluation.conformance.objective import OBJECTIVE_PROPERTIES, ObjectiveTrial
from robustml.evaluation.conformance.strength import STRENGTH
from robustml.evaluation.conformance.trial import BrokenError, InapplicableError, Trial
from robustml.evaluation.sanity.guard import RandomState
from robustml.progress import note, track
from robustml.types import Attack, Objective, Threat

PROPERTIES: Mapping[str, Callable[[Trial], None]] = CONTRACT | STRENGTH

_Tried = TypeVar("_Tried", Trial, ObjectiveTrial)

Outcome = Literal["pass", "break", "error", "not applicable"]


@dataclass(frozen=True)
class Finding:
    """How one property fared: it is kept, broken, an error came up, or the question does not arise."""

    name: str
    outcome: Outcome
    reason: str = ""

    @property
    def bad(self) -> bool:
        """Whether this is a fault of what was examined."""
        return self.outcome in ("break", "error")


def check_attack(
    attack: Attack, threat: Threat, *, on_finding: Callable[[Finding], None] | None = None
) -> list[Finding]:
    """Examine every property of `PROPERTIES` on `attack`.

    An attack that cannot make one plain call is examined no further. Where it refuses a model or a shape with a
    `RequestError`, the property is not applicable: a clear refusal breaks no promise.

    Args:
        attack: see `robustml.types.Attack`; or one that takes no threat, and keeps to a budget of its own.
        threat: what the attacker may do.
        on_finding: called after each property.

    Returns:
        One finding a property, in the order of `PROPERTIES`; the global random state is left as found.
    """
    return _examine(PROPERTIES, Trial(attack, threat), on_finding)


def check_objective(
    objective: Objective, threat: Threat, *, on_finding: Callable[[Finding], None] | None = None
) -> list[Finding]:
    """Examine every property of `OBJECTIVE_PROPERTIES` on `objective`, as `check_attack` does on an attack.

    Args:
        objective: see `robustml.types.Objective`.
        threat: what it trains against.
        on_finding: called after each property.
    """
    return _examine(OBJECTIVE_PROPERTIES, ObjectiveTrial(objective, threat), on_finding)


def _examine(
    properties: Mapping[str, Callable[[_Tried], None]], trial: _Tried, on_finding: Callable[[Finding], None] | None
) -> list[Finding]:
    findings: list[Finding] = []
    random_state = RandomState(torch.device("cpu"))
    try:
        for name, examine in track(properties.items(), "properties"):
            note(name)
            finding = _judge(name, examine, trial)
            findings.append(finding)
            if on_finding is not None:
                on_finding(finding)
            if name == "runs" and finding.outcome != "pass":
                break
    finally:
        random_state.restore()
    return findings


def _judge(name: str, examine: Callable[[_Tried], None], trial: _Tried) -> Finding:
    try:
        examine(trial)
    except BrokenError as reason:
        return Finding(name, "break", str(reason))
    except InapplicableError as reason:
        return Finding(name, "not applicable", str(reason))
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        if isinstance(error, RequestError) and name != "runs":
            return Finding(name, "not applicable", f"refused: {line}")
        return Finding(name, "error", f"{type(error).__name__}: {line}")
    return Finding(name, "pass")
