"""The secret of an interface's defense: filled in where it is missing, and never written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["noise_secret", "with_secret", "without_secret", "words_without_secret"]

_SECRET = "defense.secret"


def noise_secret(seed: int) -> str:
    """What an interface of our own draws its noise from while it is robbed for a measurement, which can be repeated.

    No thief of ours makes use of it; an endpoint that others reach draws another one.
    """
    return f"measured with seed {seed}"


def with_secret(defense: Mapping[str, Any] | None, secret: str) -> dict[str, Any] | None:
    """The settings of a defense with `secret` where it needs one and has none."""
    if defense is None:
        return None
    filled = dict(defense)
    if "secret" in filled and filled["secret"] is None:
        filled["secret"] = secret
    return filled


def without_secret(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a command as they may be written down: the secret of the defense is left out."""
    defense = settings.get("defense")
    if not isinstance(defense, Mapping) or "secret" not in defense:
        return dict(settings)
    return dict(settings) | {"defense": dict(defense) | {"secret": None}}


def words_without_secret(words: Sequence[str]) -> list[str]:
    """The words of a command line as they may be written down."""
    return [word for word in words if word.lstrip("+").partition("=")[0] != _SECRET]
