"""The secret of an interface's defense: filled in where it is missing, and never written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_secret(defense: Mapping[str, Any] | None, secret: str) -> dict[str, Any] | None:
    """The settings of a defense with `secret` where it needs one and has none."""
    if defense is None:
        return None
    return {**defense, "secret": secret} if defense.get("secret", "") is None else dict(defense)


def without_secret(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a command, and the words of its line, as they may be written down."""
    told = dict(settings)
    if isinstance(defense := told.get("defense"), Mapping) and "secret" in defense:
        told["defense"] = {**defense, "secret": None}
    if "overrides" in told:
        words = told["overrides"]
        told["overrides"] = [word for word in words if word.lstrip("+").partition("=")[0] != "defense.secret"]
    return told
