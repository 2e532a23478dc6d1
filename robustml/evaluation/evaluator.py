"""Clean against adversarial accuracy: the one place where attacks are judged.

The evaluator does not trust an attack. It runs attacks on the images that the model gets right, checks that what comes
back lies inside the threat model (a violation is an error, never mended by projecting), and classifies the returned
images itself. Every figure is counted per image, so that the worst case is the worst case for each.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, distributed, nn

from robustml.attacks.gradient import logits_of
from robustml.errors import RequestError, RunFailed
from robustml.evaluation.examples import Examples, pick_examples
from robustml.evaluation.results import RobustnessResults, summarise
from robustml.evaluation.sanity import Flag, look_at_attacks, look_at_model
from robustml.evaluation.verdicts import AttackVerdicts, Verdicts
from robustml.modes import evaluating, frozen
from robustml.types import Attack, Threat

__all__ = ["attack_parameters", "evaluate"]

Batches = Iterable[tuple[Tensor, Tensor]]


def evaluate(
    model: nn.Module,
    loader: Batches,
    attacks: Mapping[str, Attack],
    threat: Threat,
    *,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    examples: int = 8,
    on_attack: Callable[[str, int, int], None] | None = None,
) -> RobustnessResults:
    """Measure a model clean and under every attack.

    In a process group (`torch.distributed`), process r of w takes batches r, r + w, ... and all of them return the
    figures of the whole set, bit-equal to those of one process.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C). Run in eval mode and handed back as found.
        loader: batches `(x, y)` of images (N, ...) in [0, 1] and labels (N,), always in the same order.
        attacks: name to attack, in the order in which they run. May be empty.
        threat: what the attacker may do; every attack must respect it.
        class_names: for the per-class figures; "0", "1", ... by default.
        seed: random attacks draw from generators made of it, the attack's name and the batch's number.
        device: where to evaluate; where the model's parameters are by default.
        examples: how many attacked images to keep for the report's picture grid.
        on_attack: called with (attack name, batch number, images attacked) after each attack on a batch.

    Raises:
        RequestError: images outside [0, 1], labels outside the model's classes, an empty loader, non-finite or
            malformed logits.
        RunFailed: an attack returned images outside the threat model, or not finite.
    """
    device = torch.device(device) if device is not None else _device_of(model)
    rank, world_size = _rank_and_world_size()
    parts: dict[int, Verdicts] = {}
    flags: list[Flag] = []
    kept: Examples | None = None
    with evaluating(model), frozen(model):
        for index, (x, y) in enumerate(loader):
            if index % world_size != rank:
                continue
            x, y = x.to(device), y.to(device)
            logits = _clean_logits(model, x, y)
            if index == 0:
                flags += look_at_model(model, x, y, logits)
            parts[index], attacked = _attack_batch(model, x, y, logits, attacks, threat, seed, index, on_attack)
            if index == 0 and examples:
                kept = pick_examples(model, x, y, attacked, class_names, examples)
    parts, flags, kept = _gather(parts, flags, kept, world_size)
    if not parts:
        raise RequestError("there is nothing to evaluate: the loader has no batches (is the split empty?)")
    verdicts = Verdicts.concatenate([parts[index] for index in sorted(parts)])
    flags += look_at_attacks(verdicts, attacks)
    return summarise(verdicts, threat, flags, kept, class_names)


def attack_parameters(attack: Attack) -> dict[str, Any]:
    """The settings of an attack as plain values, for results.json; the threat is recorded beside them."""
    if not dataclasses.is_dataclass(attack):
        return {"attack": type(attack).__name__}
    values = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    values.pop("threat", None)
    plain = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    eps = getattr(getattr(attack, "threat", None), "eps", None)
    return {"attack": type(attack).__name__, "eps": eps} | plain


def _attack_batch(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    logits: Tensor,
    attacks: Mapping[str, Attack],
    threat: Threat,
    seed: int,
    index: int,
    on_attack: Callable[[str, int, int], None] | None,
) -> tuple[Verdicts, dict[str, Tensor]]:
    """Run every attack on the correctly classified images of one batch."""
    prediction = logits.argmax(dim=1)
    correct = (prediction == y).nonzero().squeeze(1)
    verdicts = Verdicts(y.cpu().numpy(), prediction.cpu().numpy(), {})
    attacked: dict[str, Tensor] = {}
    for name, attack in attacks.items():
        robust, distance = torch.zeros_like(y, dtype=torch.bool), torch.zeros(len(y), dtype=torch.float64)
        started = time.perf_counter()
        x_adv = x.clone()
        if len(correct):
            generator = _generator(seed, name, index, x.device)
            found = attack(model, x[correct], y[correct], generator=generator)
            _refuse_violation(name, found, x[correct], threat)
            with torch.no_grad():
                robust[correct] = logits_of(model, found).argmax(dim=1) == y[correct]
            distance[correct.cpu()] = threat.distance(found, x[correct]).double().cpu()
            x_adv[correct] = found
        attacked[name] = x_adv
        verdicts.attacks[name] = AttackVerdicts(
            robust.cpu().numpy(), distance.numpy(), time.perf_counter() - started, attack_parameters(attack)
        )
        if on_attack is not None:
            on_attack(name, index, len(correct))
    return verdicts, attacked


def _clean_logits(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    low, high = float(x.min()), float(x.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise RequestError(
            f"images must be in [0, 1], got values from {low:.4g} to {high:.4g}: divide by 255, and normalise inside "
            "the model (robustml.models.Normalize) instead of in the data"
        )
    with torch.no_grad():
        logits = logits_of(model, x)
    if not logits.isfinite().all():
        raise RequestError("the model returns logits that are not finite (NaN or infinity) on clean images")
    if int(y.min()) < 0 or int(y.max()) >= logits.shape[1]:
        raise RequestError(
            f"labels must be in 0..{logits.shape[1] - 1}, the model's classes; got {int(y.min())} to {int(y.max())}"
        )
    return logits


def _refuse_violation(name: str, x_adv: Tensor, x: Tensor, threat: Threat) -> None:
    if x_adv.shape != x.shape:
        raise RunFailed(f"attack {name!r} returned shape {tuple(x_adv.shape)} for images of shape {tuple(x.shape)}")
    if not x_adv.isfinite().all():
        raise RunFailed(f"attack {name!r} returned images that are not finite (NaN or infinity)")
    inside = threat.contains(x_adv, x)
    if inside.all():
        return
    excess = float((threat.distance(x_adv, x) - threat.eps).max())
    low, high = threat.bounds
    outside = float(torch.maximum(low - x_adv.min(), x_adv.max() - high))
    raise RunFailed(
        f"attack {name!r} left the threat model on {int((~inside).sum())} of {len(x)} images: worst excess over "
        f"eps={threat.eps:.6g} is {max(excess, 0):.3g}, over the image range {max(outside, 0):.3g}"
    )


def _generator(seed: int, attack: str, batch: int, device: torch.device) -> Generator:
    state = np.random.SeedSequence([seed, *attack.encode(), batch]).generate_state(1)[0]
    return Generator(device=device).manual_seed(int(state))


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def _rank_and_world_size() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _gather(
    parts: dict[int, Verdicts], flags: list[Flag], kept: Examples | None, world_size: int
) -> tuple[dict[int, Verdicts], list[Flag], Examples | None]:
    if world_size == 1:
        return parts, flags, kept
    gathered: list[Any] = [None] * world_size
    distributed.all_gather_object(gathered, (parts, flags, kept))
    merged = {index: verdicts for other, _, _ in gathered for index, verdicts in other.items()}
    # Only the process that had batch 0 looked at the model and kept examples.
    return merged, [flag for _, other, _ in gathered for flag in other], next((k for *_, k in gathered if k), None)
