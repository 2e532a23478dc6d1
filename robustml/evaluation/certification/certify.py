"""Certified accuracy, held against attacks on the same classifier: the one must never be above the other.

An attack that changes the class of an image which a method certifies disproves the method, or shows a fault in its
code. For a method that proves, one such image is an error. For one that is right with probability 1 - alpha, an
image's certificate and the prediction on its attacked copy (from noise that neither the certificate nor the attack
has seen) contradict each other with a probability of at most `error_rate`, whatever the attack did, and images draw
independently: among N images there are no more contradictions than a binomial has. More than that allows is an error;
fewer lose their certificate. An abstention on an attacked image contradicts nothing, and shows no image fooled.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from pydantic import ConfigDict, Field
from torch import Generator, nn

from robustml.data import record_name
from robustml.errors import RequestError, RunFailed
from robustml.evaluation.batches import Batches, Loader, device_of
from robustml.evaluation.certification.certificates import ABSTAINED, Certifier
from robustml.evaluation.crafting import Crafting
from robustml.evaluation.verdicts import Bools, Verdicts
from robustml.modes import evaluating, frozen
from robustml.progress import track
from robustml.results import Certified, CertifiedPoint, share
from robustml.types import Attack, Threat

# Beside eps itself, the radii at which certified accuracy is given, as multiples of it.
_MULTIPLES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# A sound method is refused by chance once in so many runs.
_FALSE_ALARMS = 1e-6


class CertifiedResults(Certified):
    """What results.json holds of certificates, and beside it what no file does: those of N images, in their order.

    Attributes:
        acr: mean radius over all images, 0 for those not certified for their label (Zhai et al. 2020). Of interval
            bounds, which are tried at `radii` only, a lower bound.
        y: labels (N,).
        prediction: the certified class (N,), or `ABSTAINED`.
        radius: within which it holds (N,); -1 where it holds nowhere, or where an attack disproved it.
        withstood: for each attack, which images (N,) are classified correctly and not shown to be fooled by it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    y: Any = Field(exclude=True, repr=False)
    prediction: Any = Field(exclude=True, repr=False)
    radius: Any = Field(exclude=True, repr=False)
    withstood: dict[str, Any] = Field(exclude=True, repr=False)


def certify(
    model: nn.Module,
    loader: Loader,
    method: Certifier,
    threat: Threat,
    *,
    attacks: Mapping[str, Attack],
    verdicts: Verdicts | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> CertifiedResults:
    """Certify images, and attack the certified classifier to check.

    In a process group every process does the whole work and has the whole result.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C). Run in eval mode and handed back as found.
        loader: as for `evaluate`; walked through once.
        method: certifies in one norm.
        threat: of the same norm; certified accuracy is given at its eps and at multiples of it.
        attacks: name to attack, run on the certified classifier, on the images that it gets right.
        verdicts: what `robustml.evaluation.evaluate` found on the same images; spares the attacks where the certified
            classifier is `model` itself.
        seed: image i draws from a generator made of it and of i.
        device: where to certify; where the model's parameters are by default.

    Raises:
        RequestError: the threat has another norm than the method, the loader is empty, or the verdicts are of other
            images.
        RunFailed: certificates and attacks contradict each other.
    """
    require_norm(method, threat)
    device = device_of(model) if device is None else torch.device(device)
    radii = _radii(threat)
    target = method.attackable(model)
    reused = verdicts if target is model else None
    labels, found, survived = [], [], []
    batches, images = Batches(loader, device), []
    ids: list[int] = []
    seconds = 0.0
    with torch.inference_mode(False), evaluating(target), frozen(target):
        crafting = Crafting(target, device)
        for batch in track(batches, f"certificates by {method.name}"):
            x, y = batch.x, batch.y
            places = range(batch.first, batch.first + len(x))
            images.append(batch.images)
            ids += [] if batch.ids is None else batch.ids.tolist()
            started = time.perf_counter()
            generators = _generators(device, seed, "certify", places)
            found.append(method(model, x, y, radii=radii, bounds=threat.bounds, generators=generators))
            seconds += time.perf_counter() - started
            labels.append(y)
            correct = found[-1].prediction == y
            withstood = {}
            for name, attack in attacks.items() if reused is None else ():
                x_adv = x.clone()
                if correct.any():
                    # Of the name alone, in every batch alike: what is random belongs to the image (`robustml.draws`).
                    own = _generator(device, seed, name, 0)
                    x_adv[correct] = crafting(name, attack, target, x[correct], y[correct], threat, own)
                judged = method.predict(model, x_adv, _generators(device, seed, f"{name} judged", places))
                withstood[name] = correct & ((judged == y) | (judged == ABSTAINED))
            survived.append(withstood)
    if not found:
        raise RequestError("there is nothing to certify: the loader has no batches (is the split empty?)")
    truth = torch.cat(labels).cpu().numpy()
    prediction = torch.cat([part.prediction for part in found]).cpu().numpy()
    radius = torch.cat([part.radius for part in found]).double().cpu().numpy()
    if reused is not None:
        same = reused.images is None or np.array_equal(reused.images, np.concatenate(images))
        if not (same and np.array_equal(reused.y, truth)):
            raise RequestError(f"the verdicts are of {len(reused.y)} other images than the {len(truth)} to certify")
        verdict = {name: attack.robust for name, attack in reused.attacks.items()}
    else:
        verdict = {name: torch.cat([part[name] for part in survived]).cpu().numpy() for name in attacks}
    broken = _contradicted((prediction == truth) & (radius >= threat.eps), verdict, ids, method, threat)
    radius, correct = np.where(broken, -1.0, radius), prediction == truth
    certified = {at: share(correct & (radius >= at)) for at in (*radii, threat.eps)}
    return CertifiedResults(
        method=method.name,
        params=dataclasses.asdict(cast(Any, method)),
        norm=method.norm,
        eps=threat.eps,
        accuracy=share(correct),
        certified_accuracy=certified[threat.eps],
        empirical_accuracy=share(np.logical_and.reduce(list(verdict.values()))) if verdict else None,
        attacks=list(verdict),
        radii=[CertifiedPoint(radius=at, certified_accuracy=certified[at]) for at in radii],
        acr=float(np.where(correct, radius, 0.0).clip(min=0.0).mean()),
        abstained=int((prediction == ABSTAINED).sum()),
        contradicted=int(broken.sum()),
        seconds=seconds,
        y=truth,
        prediction=prediction,
        radius=radius,
        withstood=verdict,
    )


def require_norm(method: Certifier, threat: Threat) -> None:
    """Refuse a threat of another norm than the method's certificates.

    Raises:
        RequestError: it is one.
    """
    norm = getattr(threat, "norm", None)
    if norm != method.norm:
        option = {"inf": "linf", "2": "l2"}[method.norm]
        raise RequestError(
            f"certification by {method.name} holds in the L{method.norm} norm, the threat is {norm}; choose "
            f"threat={option}"
        )


def _contradicted(
    certified: Bools, survived: Mapping[str, Bools], ids: Sequence[int], method: Certifier, threat: Threat
) -> Bools:
    """Which images an attack fooled although they are certified (N,), if chance explains that many.

    Raises:
        RunFailed: it does not.
    """
    from scipy.stats import binom

    broken = np.zeros_like(certified)
    for name, withstood in survived.items():
        fooled = certified & ~withstood
        # Of all images, not of the certified ones: among those that are certified by a hair, more may be wrong.
        chance = float(binom.sf(fooled.sum() - 1, len(certified), method.error_rate))
        if chance < _FALSE_ALARMS:
            first = _name(int(fooled.argmax()), ids)
            raise RunFailed(
                f"attack {name!r} fools {fooled.sum()} of {certified.sum()} images that {method.name} certifies at "
                f"eps={threat.eps:.6g}, the first of them {first}: either the certificates or the attack's "
                "images are wrong, so neither figure can be trusted"
            )
        broken |= fooled
    return broken


def _name(place: int, ids: Sequence[int]) -> str:
    """What to call an image: by its record, where the loader knows that."""
    return record_name(ids[place]) if ids else f"image {place}"


def _radii(threat: Threat) -> tuple[float, ...]:
    """Multiples of eps, no wider than the image box allows."""
    low, high = threat.bounds
    widest = high - low if getattr(threat, "norm", None) == "inf" else float("inf")
    return tuple(sorted({min(multiple * threat.eps, widest) for multiple in _MULTIPLES}))


def _generators(device: torch.device, seed: int, purpose: str, places: Iterable[int]) -> list[Generator]:
    return [_generator(device, seed, purpose, place) for place in places]


def _generator(device: torch.device, seed: int, purpose: str, place: int) -> Generator:
    state = np.random.SeedSequence([seed, *purpose.encode(), place]).generate_state(1, np.uint64)[0]
    return Generator(device=device).manual_seed(int(state))
