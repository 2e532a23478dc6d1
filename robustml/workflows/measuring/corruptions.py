"""Measure accuracy under common corruptions as the `evaluation.corruptions` settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from robustml.data import DataModule
from robustml.data.corruptions import CORRUPTIONS, SEVERITIES
from robustml.errors import RequestError
from robustml.evaluation import corruption_accuracy
from robustml.results import Corruptions
from robustml.say import say


def corruptions_as_configured(
    model: nn.Module, data: DataModule, settings: Mapping[str, Any], device: torch.device
) -> Corruptions | None:
    """Corrupt the test split as the `evaluation` settings ask for; None where they do not.

    Raises:
        RequestError: the settings are not understood, or the data are no images.
    """
    wanted = settings.get("corruptions")
    if wanted is None:
        return None
    if not isinstance(wanted, Mapping) or wanted.keys() - {"severities", "names", "limit"}:
        raise RequestError(
            f"evaluation.corruptions={wanted!r} is not understood; expected null or severities, names and limit, such "
            "as {severities: [1, 3, 5], names: all, limit: 500}"
        )
    severities = _listed("severities", wanted.get("severities"), SEVERITIES)
    names = _listed("names", wanted.get("names"), tuple(CORRUPTIONS))
    limits = [n for n in (settings["limit"], wanted.get("limit")) if n is not None]
    if min(limits, default=1) < 1:
        raise RequestError(f"evaluation.corruptions.limit must be at least 1, or null; got {wanted['limit']}")
    loader = data.loader(
        "test", device=device, batch_size=settings["batch_size"], limit=min(limits) if limits else None
    )
    say(f"accuracy under {len(names)} corruptions at severities {_joined(severities)}, on {len(loader.records)} images")
    return corruption_accuracy(
        model, loader, severities=severities, corruptions=names, seed=settings["seed"], device=device
    )


def _listed(key: str, value: Any, everything: Sequence[Any]) -> list[Any]:
    """A list from the settings; all there are for "all" and for nothing at all."""
    if value is None or value == "all":
        return list(everything)
    if not isinstance(value, list) or not value:
        raise RequestError(f"evaluation.corruptions.{key} must be a list, or all; got {value!r}")
    return value


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
