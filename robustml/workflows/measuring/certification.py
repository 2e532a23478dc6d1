"""Certify the test images as the `evaluation.certification` settings say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.evaluation import CertifiedResults, Certifier, Verdicts, certify, require_norm
from robustml.say import say
from robustml.types import Attack, Threat
from robustml.workflows.settings.building import build


def build_certification(settings: Mapping[str, Any], threat: Threat) -> Certifier | None:
    """The method of the `evaluation` settings, None where they have none; refused now, not after hours of training.

    Raises:
        RequestError: the settings describe no method, or one that certifies in another norm than the threat's.
    """
    wanted = settings.get("certification")
    if wanted is None:
        return None
    method: Any = build(wanted) if isinstance(wanted, Mapping) and "_target_" in wanted else None
    if not hasattr(method, "attackable"):
        raise RequestError(
            f"evaluation.certification={wanted!r} is no certification method; choose evaluation=certified_ibp or "
            "evaluation=certified_smoothing"
        )
    require_norm(method, threat)
    return cast(Certifier, method)


def certified_as_configured(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    threat: Threat,
    attacks: Mapping[str, Attack],
    verdicts: Verdicts,
    settings: Mapping[str, Any],
    device: torch.device,
) -> CertifiedResults | None:
    """Certify the images that were attacked, and hold the certificates against attacks; None where none is asked for.

    Raises:
        RequestError: the settings describe no method, or one that does not fit the threat or the model.
        RunFailed: an attack fooled certified images.
    """
    method = build_certification(settings, threat)
    if method is None:
        return None
    say(f"certifying by {method.name}, and attacking what is certified")
    found = certify(
        model, loader, method, threat, attacks=attacks, verdicts=verdicts, seed=settings["seed"], device=device
    )
    empirical = found.empirical_accuracy
    attacked = "" if empirical is None else f", {empirical.value:.1%} under attack"
    say(
        f"certified at eps={threat.eps:.4g}: {found.certified_accuracy.value:.1%}"
        f" ({found.accuracy.value:.1%} clean{attacked}; average certified radius {found.acr:.3g})"
    )
    return found
