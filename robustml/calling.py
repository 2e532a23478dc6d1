"""How any attack is called: ours, which are given the threat, and anybody's that carry a budget of their own."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Generator, Tensor, nn

from robustml.errors import RequestError
from robustml.types import Threat

# An attack of ours, or any function (model, x, y, ...) -> x_adv; one alone, several, or several by name.
AnyAttack = Callable[..., Tensor]
Attacks = AnyAttack | Sequence[AnyAttack] | Mapping[str, AnyAttack]


def named(attacks: Attacks) -> dict[str, Any]:
    """Attacks by name: as they are named, or else after their class, or what they call themselves, in small letters.

    Raises:
        RequestError: something among them cannot attack.
    """
    if isinstance(attacks, Mapping):
        found = dict(attacks)
    else:
        found = {}
        several: Sequence[Any] = attacks if isinstance(attacks, list | tuple) else [attacks]
        for attack in several:
            own = (getattr(attack, "name", None), getattr(attack, "__name__", None), type(attack).__name__)
            name = next(name for name in own if isinstance(name, str)).lower().strip("<>")
            names = (f"{name}_{number}" if number > 1 else name for number in itertools.count(1))
            found[next(name for name in names if name not in found)] = attack
    for name, attack in found.items():
        if isinstance(attack, type):
            raise RequestError(f"the attack {name!r} is a class: make one of it, such as {attack.__name__}()")
        if not isinstance(name, str) or not callable(attack):
            raise RequestError(
                f"expected an attack such as PGD(), several in a list, or by name in a dict; got {name!r}: {attack!r}"
            )
    return found


def run_attack(
    attack: Any, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: Generator | None = None
) -> Any:
    """What `attack` makes of `x` (N, ...) with labels `y` (N,): what it returned, not looked at.

    `threat` and `generator` are handed over if it takes them, by these names or as ``**kwargs``.
    """
    names = _keywords(attack)
    given = {"threat": threat, "generator": generator}
    return attack(model, x, y, **{name: value for name, value in given.items() if names is None or name in names})


def has_own_budget(attack: Any) -> bool:
    """Whether the attack was built for a budget of its own, and keeps to that whatever the threat of the call."""
    names = _keywords(attack)
    return hasattr(attack, "threat") or (names is not None and "threat" not in names)


def check_threat(threat: Any) -> None:
    """Refuse what is no threat.

    Raises:
        RequestError: it is a name or a number, say.
    """
    if isinstance(threat, type) or not isinstance(threat, Threat):
        raise RequestError(f'expected a threat such as LpBall("Linf", "8/255"), got {threat!r:.60}')


def refuse_misfit(method: Any, threat: Threat) -> None:
    """Ask an attack or an objective that is for some kinds of threats only whether this is one of them.

    Args:
        method: asked by its `check_threat`, where it has one; otherwise the attacks or the objective inside it are.
        threat: what the attacker may do.

    Raises:
        RequestError: it is for another kind.
    """
    if (check := getattr(method, "check_threat", None)) is not None:
        check(threat)
    elif not hasattr(method, "threat"):  # else what is inside keeps to that
        several = getattr(method, "attacks", None)
        inside = [*(several.values() if isinstance(several, Mapping) else ())]
        for inner in (*inside, getattr(method, "attack", None), getattr(method, "objective", None)):
            if inner is not None:
                refuse_misfit(inner, threat)


def _keywords(attack: Any) -> frozenset[str] | None:
    """The names of the arguments that it takes; None where it takes any."""
    try:
        parameters = inspect.signature(attack).parameters.values()
    except (TypeError, ValueError):  # built in: nothing is known of it
        return frozenset()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY)
