"""Clean against adversarial accuracy: the one place where attacks are judged.

The evaluator does not trust an attack. It runs attacks on the images that the model gets right, checks that what comes
back lies inside the threat model (a violation is an error, never mended by projecting), and classifies the returned
images itself. Every figure is counted per image, so that the worst case is the worst case for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustml.attacks.engine.gradient import logits_of
from robustml.calling import Attacks, check_threat, named, refuse_misfit
from robustml.deadline import Deadline, OutOfTime
from robustml.errors import RequestError
from robustml.evaluation.attacking import attack_batch
from robustml.evaluation.batches import Batches, Loader, device_of
from robustml.evaluation.clean import Clean, clean_pass
from robustml.evaluation.crafting import Crafting
from robustml.evaluation.examples import pick_examples
from robustml.evaluation.parameters import attack_generator, attack_parameters
from robustml.evaluation.processes import gathered, rank_and_world_size
from robustml.evaluation.progress import Progress, identity
from robustml.evaluation.results import RobustnessResults
from robustml.evaluation.sanity.budget import look_at_budget
from robustml.evaluation.sanity.model import look_at_limits, look_at_model
from robustml.evaluation.sanity.predictions import look_at_predictions
from robustml.evaluation.sanity.rivals import look_at_attacks
from robustml.evaluation.verdicts import AttackVerdicts, Verdicts
from robustml.models import as_module
from robustml.models.fitted import Fitted
from robustml.modes import evaluating, frozen
from robustml.progress import track
from robustml.results import Examples, Flag
from robustml.types import Attack, Threat

Place = tuple[int, int]
# Of the time limit, what the looks at the model before the first attack may take.
_LOOKS = 0.25


def evaluate(
    model: Callable[[Tensor], Any],
    loader: Loader | Batches,
    attacks: Attacks,
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
        model: images (N, ...) in [0, 1] to logits (N, C), or to one logit of class 1 (N,). Run in eval mode and handed
            back as found. A model of another precision than the images is shown them in its own; a function is used
            as it is.
        loader: batches of images (N, ...) in [0, 1] and labels (N,), in any form that `Batches` understands, or a
            dataset of single examples. Walked through once clean and once for each attack; every pass must show the
            same images in the same order.
        attacks: by name, a list, or one alone, in the order in which they run. May be empty. What one leaves behind in
            the model, or in the global random state, is undone after each batch, and flagged.
        threat: what the attacker may do. Every attack is called with it; one that takes none, and carries a budget of
            its own, must respect it, and is flagged where it does not use it.
        class_names: for the per-class figures; "0", "1", ... by default.
        seed: random attacks draw from generators made of it and the attack's name. The numbers belong to the example
            (`robustml.draws`), so that batches of any size give the same verdicts.
        device: where to evaluate; where the model's parameters are by default.
        examples: how many attacked images, drawn from all classes, to keep for the report's picture grid.
        cascade: run each attack only on the images that withstood the ones before it. The robust accuracy of an attack
            then is what is left after it.
        progress: a file that records each batch as it is done. What it already holds is not run again; Ctrl-C then ends
            the evaluation early instead of throwing it away.
        time_limit: seconds after which no attack goes on: one that is under way is broken off
            (`robustml.deadline`), and what it found so far counts, where it tells. A quarter of them is for the first
            looks at the model. The pass without an attack is made in any case. Where a batch is too much for the
            limit, an evaluation that goes on with `progress` attacks it by halves.
        check_limits: also look whether an attack without a limit fools the model, as it must; costs 50 gradient steps
            on a hundred images.
        on_attack: called with (attack name, batch number, images attacked) after each attack on a batch.

    Raises:
        RequestError: images outside [0, 1], labels outside the model's classes, an empty loader, one that shows other
            images in a later pass, non-finite or malformed logits, an attack that is for another kind of threat, or a
            `progress` file of another evaluation.
        RunFailed: an attack failed, or returned images outside the threat model, or not finite, or on which the
            model's logits are not finite.
    """
    deadline = Deadline(time_limit)
    model = as_module(model)
    device = torch.device(device) if device is not None else device_of(model)
    rank, world_size = rank_and_world_size()
    flags: list[Flag] = []
    check_threat(threat)
    attacks = named(attacks)
    for attack in attacks.values():
        refuse_misfit(attack, threat)
    batches = loader if isinstance(loader, Batches) else Batches(loader, device, rank, world_size)
    with torch.inference_mode(False), evaluating(model), frozen(model):
        crafting = Crafting(model, device)
        try:
            clean = clean_pass(model, batches, threat if attacks else None, seed)
            crafting.after_clean_pass()
            clean.sample.gather()
            if rank == 0 and clean.classes:
                try:
                    with Deadline(None if time_limit is None else time_limit * _LOOKS).held():
                        for _ in track([None], "looks at the model") if attacks else [None]:
                            _first_looks(flags, clean, attacks, threat, seed, device, check_limits=check_limits)
                except OutOfTime:
                    message = (
                        f"{_LOOKS:.0%} of the time limit were too little for all looks at it: flags may be missing"
                    )
                    flags.append(Flag(name="looks_unfinished", message=message))
            record = None
            if progress is not None:
                own = progress if rank == 0 else progress.with_name(f"{progress.name}.{rank}")
                record = Progress(own, identity(model, clean.parts, attacks, threat, seed, cascade=cascade))
            shown: dict[str, dict[Place, Tensor]] = {name: {} for name in attacks}
            wanted = {seen.place for seen in clean.sample.images() if seen.prediction == seen.y} if examples else set()
            stopped = False
            for name, attack in attacks.items():
                for batch in track(batches, name, result=partial(_left, clean.parts, name)):
                    stopped = stopped or deadline.passed
                    verdicts = clean.parts[batch.number]
                    done = None if record is None else record.get(name, batch.number)
                    target = verdicts.shown_to(name, cascade=cascade)
                    if (done is None or done.pending) and not stopped:
                        try:
                            before = done
                            done, x_adv, stop = attack_batch(
                                crafting, clean.model, batch, name, attack, target, threat, seed, deadline, before
                            )
                            if record is not None:
                                record.put(name, batch.number, done, batch.ids)
                            if stop is not None:
                                raise stop
                            places = [place for place in wanted if before is None and place[0] == batch.number]
                            shown[name] |= {place: x_adv[place[1]].cpu() for place in places}
                            if on_attack is not None:
                                on_attack(name, batch.number, int(target.sum()))
                        except OutOfTime:
                            stopped = True
                        except KeyboardInterrupt:
                            if record is None:
                                raise
                            stopped = True
                    if done is None:
                        # Nobody has attacked these yet: what withstood the attacks so far counts as robust.
                        untried = int(target.sum())
                        done = AttackVerdicts(target, np.zeros(len(target)), target.copy(), pending=untried)
                    verdicts.attacks[name] = dataclasses.replace(done, params=attack_parameters(attack, threat.eps))
            flags += crafting.flags.values()
            parts, flags, shown = _gather(clean.parts, flags, shown)
            if not parts:
                raise RequestError("there is nothing to evaluate: the loader has no batches (is the split empty?)")
            kept = _examples(clean, parts, shown, class_names, examples, device) if examples else None
        finally:
            crafting.restore()
    verdicts = Verdicts.concatenate([parts[index] for index in sorted(parts)])
    flags += look_at_predictions(verdicts, clean.classes, class_names)
    flags += look_at_attacks(verdicts, attacks, cascade=cascade)
    for name, attack in attacks.items():
        target = verdicts.shown_to(name, cascade=cascade)
        flags += look_at_budget(name, attack, verdicts.attacks[name], target, verdicts.reach, threat)
    pending = {name: attack.pending for name, attack in verdicts.attacks.items() if attack.pending}
    if pending:
        to_go = ", ".join(f"{name} has {count} images to go" for name, count in pending.items())
        message = f"{to_go}: the worst case is an upper bound, which going on can only lower"
        flags.append(Flag(name="stopped_early", message=message))
    return RobustnessResults.of(verdicts, threat, flags, kept, class_names)


def _left(parts: Mapping[int, Verdicts], name: str) -> str:
    """What an attack left standing, for whoever watches."""
    left = sum(int(part.attacks[name].robust.sum()) for part in parts.values())
    count = sum(len(part.correct) for part in parts.values())
    return f"{100 * left / max(count, 1):.1f}% of {count:,} still right"


def _first_looks(
    flags: list[Flag],
    clean: Clean,
    attacks: Mapping[str, Attack],
    threat: Threat,
    seed: int,
    device: torch.device,
    *,
    check_limits: bool,
) -> None:
    """Add to `flags` what a few images of each class show of the model, and what attacks say they leave out on it."""
    x, y = clean.sample.tensors(device)
    with torch.no_grad():
        logits = logits_of(clean.model, x)
    flags += look_at_model(clean.model, x, y, logits)
    if any(isinstance(module, Fitted) and module.one_logit for module in clean.model.modules()):
        message = (
            "the model gives one number an image: it is read as the logit of class 1, beside a 0 for class 0 (two "
            "logits of the same sigmoid)"
        )
        flags.append(Flag(name="one_logit", message=message))
    # They say so themselves.
    flags += [
        Flag(name="reduced_attack", message=f"{name}: {remark}", attack=name)
        for name, attack in attacks.items()
        if callable(remarks := getattr(attack, "remarks", None))
        for remark in remarks(clean.classes, threat)
    ]
    if check_limits and attacks:
        flags += look_at_limits(clean.model, x, y, threat, attack_generator(seed, "limits", device))


def _examples(
    clean: Clean,
    parts: Mapping[int, Verdicts],
    shown: Mapping[str, Mapping[Place, Tensor]],
    class_names: Sequence[str] | None,
    count: int,
    device: torch.device,
) -> Examples | None:
    """Pictures of the sample that every attack came to just now: those that a resumed evaluation knew are not there."""
    attacked = {name: images for name, images in shown.items() if images}
    kept = [
        seen for seen in clean.sample.images() if attacked and all(seen.place in each for each in attacked.values())
    ]
    if not kept:
        return None
    x, y = torch.stack([seen.x for seen in kept]).to(device), torch.tensor([seen.y for seen in kept], device=device)
    made = {name: torch.stack([images[seen.place] for seen in kept]).to(device) for name, images in attacked.items()}
    found = [parts[seen.place[0]].ids for seen in kept]
    ids = [int(known[seen.place[1]]) for known, seen in zip(found, kept, strict=True) if known is not None]
    return pick_examples(clean.model, x, y, made, class_names, count, ids if len(ids) == len(kept) else None)


def _gather(
    parts: dict[int, Verdicts], flags: list[Flag], shown: dict[str, dict[Place, Tensor]]
) -> tuple[dict[int, Verdicts], list[Flag], dict[str, dict[Place, Tensor]]]:
    """The same on all processes: every verdict, every flag once, every picture."""
    everything = gathered((parts, flags, shown))
    merged = {index: verdicts for other, _, _ in everything for index, verdicts in other.items()}
    # Only the first process looked at the model; what attacks leave behind, each of them sees.
    raised = dict.fromkeys(flag for _, other, _ in everything for flag in other)
    pictures = {name: {place: x for *_, other in everything for place, x in other[name].items()} for name in shown}
    return merged, list(raised), pictures
