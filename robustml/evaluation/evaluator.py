"""Clean against adversarial accuracy: the one place where attacks are judged.

The evaluator does not trust an attack. It runs attacks on the images that the model gets right, checks that what comes
back lies inside the threat model (a violation is an error, never mended by projecting), and classifies the returned
images itself. Every figure is counted per image, so that the worst case is the worst case for each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor, distributed, nn

from robustml.attacks.gradient import logits_of
from robustml.errors import RequestError, RunFailed
from robustml.evaluation.examples import Examples, pick_examples
from robustml.evaluation.progress import Progress
from robustml.evaluation.results import RobustnessResults, summarise
from robustml.evaluation.sanity import Flag, look_at_attacks, look_at_limits, look_at_model
from robustml.evaluation.verdicts import AttackVerdicts, Bools, Verdicts
from robustml.modes import evaluating, frozen
from robustml.types import Attack, Threat

__all__ = ["attack_generator", "attack_parameters", "evaluate"]

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
    cascade: bool = False,
    progress: Path | None = None,
    time_limit: float | None = None,
    check_limits: bool = False,
    on_attack: Callable[[str, int, int], None] | None = None,
) -> RobustnessResults:
    """Measure a model clean and under every attack.

    Each attack goes over all images before the next begins, so that an evaluation that is stopped early has an upper
    bound of the robust accuracy for all of them, which going on can only lower.

    In a process group (`torch.distributed`), process r of w takes batches r, r + w, ... and all of them return the
    figures of the whole set, bit-equal to those of one process.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C). Run in eval mode and handed back as found.
        loader: batches `(x, y)` of images (N, ...) in [0, 1] and labels (N,), always in the same order. Walked through
            once clean and once for each attack.
        attacks: name to attack, in the order in which they run. May be empty.
        threat: what the attacker may do; every attack must respect it.
        class_names: for the per-class figures; "0", "1", ... by default.
        seed: random attacks draw from generators made of it and the attack's name. The numbers belong to the example
            (`robustml.draws`), so that batches of any size give the same verdicts.
        device: where to evaluate; where the model's parameters are by default.
        examples: how many attacked images to keep for the report's picture grid.
        cascade: run each attack only on the images that withstood the ones before it. The robust accuracy of an attack
            then is what is left after it.
        progress: a file that records each batch as it is done. What it already holds is not run again; Ctrl-C then ends
            the evaluation early instead of throwing it away.
        time_limit: seconds after which no further batch is begun.
        check_limits: also look whether an attack without a limit fools the model, as it must; costs 50 gradient steps
            on a hundred images.
        on_attack: called with (attack name, batch number, images attacked) after each attack on a batch.

    Raises:
        RequestError: images outside [0, 1], labels outside the model's classes, an empty loader, non-finite or
            malformed logits, or a `progress` file of another evaluation.
        RunFailed: an attack returned images outside the threat model, or not finite, or on which the model's logits are
            not finite.
    """
    started = time.monotonic()
    device = torch.device(device) if device is not None else _device_of(model)
    rank, world_size = _rank_and_world_size()
    parts: dict[int, Verdicts] = {}
    flags: list[Flag] = []
    kept: Examples | None = None
    first: dict[str, Tensor] = {}

    def mine() -> Iterator[tuple[int, Tensor, Tensor]]:
        for index, (x, y) in enumerate(loader):
            if index % world_size == rank:
                yield index, x.to(device), y.to(device)

    with evaluating(model), frozen(model):
        for index, x, y in mine():
            logits = _clean_logits(model, x, y)
            if index == 0:
                flags += look_at_model(model, x, y, logits)
                flags += _remarks(attacks, logits.shape[1])
                if check_limits and attacks:
                    flags += look_at_limits(model, x, y, threat, attack_generator(seed, "limits", x.device))
            parts[index] = Verdicts(y.cpu().numpy(), logits.argmax(dim=1).cpu().numpy(), {})
        record = None if progress is None else _open(progress, rank, model, attacks, threat, seed, cascade, parts)
        stopped = False
        for name, attack in attacks.items():
            for index, x, y in mine():
                stopped = stopped or (time_limit is not None and time.monotonic() - started > time_limit)
                verdicts = parts[index]
                done = None if record is None else record.get(name, index)
                if done is None and not stopped:
                    target = verdicts.worst_case if cascade else verdicts.correct
                    try:
                        done, x_adv = _attack_batch(model, x, y, name, attack, target, threat, seed)
                        if record is not None:
                            record.put(name, index, done)
                        if index == 0:
                            first[name] = x_adv
                        if on_attack is not None:
                            on_attack(name, index, int(target.sum()))
                    except KeyboardInterrupt:
                        if record is None:
                            raise
                        stopped = True
                if done is None:
                    # Nobody has attacked these yet: what withstood the attacks so far counts as robust.
                    left = verdicts.worst_case if cascade else verdicts.correct
                    done = AttackVerdicts(left, np.zeros(len(y)), left.copy(), pending=int(left.sum()))
                verdicts.attacks[name] = dataclasses.replace(done, params=attack_parameters(attack))
        if examples and first:
            x, y = next((x, y) for index, x, y in mine() if index == 0)
            kept = pick_examples(model, x, y, first, class_names, examples)
    parts, flags, kept = _gather(parts, flags, kept, world_size)
    if not parts:
        raise RequestError("there is nothing to evaluate: the loader has no batches (is the split empty?)")
    verdicts = Verdicts.concatenate([parts[index] for index in sorted(parts)])
    flags += look_at_attacks(verdicts, attacks, cascade=cascade)
    pending = {name: attack.pending for name, attack in verdicts.attacks.items() if attack.pending}
    if pending:
        to_go = ", ".join(f"{name} has {count} images to go" for name, count in pending.items())
        flags.append(Flag("stopped_early", f"{to_go}: the worst case is an upper bound, which going on can only lower"))
    return summarise(verdicts, threat, flags, kept, class_names)


def attack_parameters(attack: Attack) -> dict[str, Any]:
    """The settings of an attack as plain values, for results.json; the threat is recorded beside them."""
    if not dataclasses.is_dataclass(attack):
        return {"attack": type(attack).__name__}
    values = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    values.pop("threat", None)
    plain = {key: _plain(value) for key, value in values.items()}
    eps = getattr(getattr(attack, "threat", None), "eps", None)
    return {"attack": type(attack).__name__, "eps": eps} | plain


def _plain(value: Any) -> Any:
    """A setting in a form that JSON can hold: the settings of an inner attack, the class of a surrogate model."""
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    if dataclasses.is_dataclass(value):
        return attack_parameters(cast(Attack, value))
    return dict(value) if isinstance(value, Mapping) else value


def _attack_batch(
    model: nn.Module, x: Tensor, y: Tensor, name: str, attack: Attack, target: Bools, threat: Threat, seed: int
) -> tuple[AttackVerdicts, Tensor]:
    """Run one attack on the images of a batch that `target` (N,) selects; the verdicts, and all images (N, ...)."""
    began = time.perf_counter()
    index = torch.from_numpy(target).nonzero().squeeze(1).to(x.device)
    robust, rounded = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool)
    distance = torch.zeros(len(y), dtype=torch.float64)
    x_adv = x.clone()
    if len(index):
        found = attack(model, x[index], y[index], generator=attack_generator(seed, name, x.device))
        _refuse_violation(name, found, x[index], threat)
        low, high = threat.bounds
        stored = ((found - low) / (high - low) * 255).round().div(255) * (high - low) + low
        with torch.no_grad():
            logits = logits_of(model, found)
            if not logits.isfinite().all():
                raise RunFailed(f"the model returns logits that are not finite on images that attack {name!r} made")
            robust[index] = logits.argmax(dim=1) == y[index]
            rounded[index] = logits_of(model, stored).nan_to_num(nan=torch.inf).argmax(dim=1) == y[index]
        distance[index.cpu()] = threat.distance(found, x[index]).double().cpu()
        x_adv[index] = found
    seconds = time.perf_counter() - began
    return AttackVerdicts(robust.cpu().numpy(), distance.numpy(), rounded.cpu().numpy(), seconds), x_adv


def _remarks(attacks: Mapping[str, Attack], classes: int) -> list[Flag]:
    """What attacks leave out on a model with so few classes: they say so themselves."""
    return [
        Flag("reduced_attack", f"{name}: {remark}", name)
        for name, attack in attacks.items()
        if callable(remarks := getattr(attack, "remarks", None))
        for remark in remarks(classes)
    ]


def _open(
    path: Path,
    rank: int,
    model: nn.Module,
    attacks: Mapping[str, Attack],
    threat: Threat,
    seed: int,
    cascade: bool,
    parts: Mapping[int, Verdicts],
) -> Progress:
    """The record of this process."""
    weights, clean = hashlib.sha256(), hashlib.sha256()
    for key, value in model.state_dict().items():
        weights.update(key.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for index in sorted(parts):
        clean.update(parts[index].y.tobytes() + parts[index].prediction.tobytes())
    identity = {
        "model": weights.hexdigest(),
        "data": clean.hexdigest(),
        "threat": str(threat),
        "attacks": {name: str(attack_parameters(attack)) for name, attack in attacks.items()},
        "seed": seed,
        "cascade": cascade,
    }
    return Progress(path if rank == 0 else path.with_name(f"{path.name}.{rank}"), identity)


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
    if y.shape != (len(x),) or y.is_floating_point() or y.is_complex():
        raise RequestError(f"labels must be integers of shape ({len(x)},), got {y.dtype} of shape {tuple(y.shape)}")
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


def attack_generator(seed: int, attack: str, device: torch.device) -> Generator:
    """What the attack of that name draws from, in every batch alike."""
    state = np.random.SeedSequence([seed, *attack.encode()]).generate_state(1)[0]
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
