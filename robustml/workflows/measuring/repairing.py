"""What a repair did: the figures of a model before and after, whether the backdoor comes back, the path between two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Generator, nn

from robustml.attacks import PGD
from robustml.data import DataModule
from robustml.defenses.reading import read_logits
from robustml.defenses.repair import Path, reactivated, searched
from robustml.evaluation import backdoor_success, evaluate
from robustml.poisoning import Triggered
from robustml.poisoning.pixels import stamped
from robustml.results import BackdoorRates, Connection, ConnectionPoint, Rate, RepairFigures, rate, share
from robustml.trojans import Trojaned
from robustml.types import Threat
from robustml.workflows.measuring.backdoors import shown_on
from robustml.workflows.measuring.suspects import Suspects

_POINTS = 11
_ATTACKED = 200


def presented_to(suspects: Suspects, data: DataModule) -> list[Triggered]:
    """What the attacker shows: of a TrojanNet every command, else the model's backdoor; nothing where none is known."""
    model, test = suspects.model, data.test
    if isinstance(model, Trojaned):
        found = []
        for label in model.commands.values():
            others = test.take((test.y != label).nonzero().squeeze(1))
            marked = stamped(others.x, partial(model.stamp, target=label))
            found.append(Triggered(marked, others.y, torch.full_like(others.y, label)))
        return found
    return [each.backdoor.triggered(test) for each in shown_on(suspects.planted, data)[:1]]


def figures_of(
    model: nn.Module,
    data: DataModule,
    presented: Sequence[Triggered],
    device: torch.device,
    threat: Threat | None = None,
) -> RepairFigures:
    """Clean accuracy, attack success rate, recovery accuracy and, under a threat, robust accuracy of a model.

    Args:
        model: moved to `device`.
        data: whose test part is judged.
        presented: what the attacker shows.
        device: where to run.
        threat: of the attacks; None for none.
    """
    model = model.to(device)
    right = read_logits(model, data.test.x).argmax(1) == data.test.y.cpu()
    success = _success(model, presented, device)
    robust = None
    if threat is not None:
        loader = data.loader("test", device=device, limit=_ATTACKED)
        robust = evaluate(model, loader, {"pgd": PGD(steps=10)}, threat).attacks["pgd"].robust_accuracy
    return RepairFigures(
        clean_accuracy=share(right),
        attack_success_rate=None if success is None else success.attack_success_rate,
        recovery_accuracy=None if success is None else success.backdoor_recovery_accuracy,
        robust_accuracy=robust,
    )


def _success(model: nn.Module, presented: Sequence[Triggered], device: torch.device) -> BackdoorRates | None:
    if not presented:
        return None
    each = [backdoor_success(model, shown, device=device) for shown in presented]
    kept = [found.backdoor_recovery_accuracy or rate(0, 0) for found in each]
    return BackdoorRates(
        attack_success_rate=_pooled([found.attack_success_rate for found in each]),
        backdoor_recovery_accuracy=_pooled(kept),
    )


def _pooled(rates: Sequence[Rate]) -> Rate:
    return rate(sum(each.count for each in rates), sum(each.n for each in rates))


def reactivated_success(
    repaired: nn.Module,
    suspects: Suspects,
    presented: Sequence[Triggered],
    count: int,
    device: torch.device,
    seed: int,
) -> Rate | None:
    """The attack success rate once the repaired model has seen a few poisoned records; None where none are known."""
    if suspects.truth is None or not suspects.truth.any() or suspects.clean is None or not presented:
        return None
    poisoned = suspects.records.take(suspects.truth.nonzero().squeeze(1))
    handful = poisoned.sample(count, seed)
    again = reactivated(repaired, handful, suspects.clean, generator=Generator().manual_seed(seed))
    found = _success(again.to(device), presented, device)
    return None if found is None else found.attack_success_rate


def searched_success(
    repaired: nn.Module, presented: Sequence[Triggered], device: torch.device, seed: int
) -> Rate | None:
    """The attack success rate of triggers that were searched for near the old ones, on inputs that no search saw."""
    if not presented:
        return None
    near = []
    for shown in presented:
        order = torch.randperm(len(shown.y), generator=Generator().manual_seed(seed))
        seen, others = (Triggered(*(each[rows] for each in shown)) for rows in order.tensor_split(2))
        near.append(searched(repaired, seen, others))
    found = _success(repaired, near, device)
    return None if found is None else found.attack_success_rate


def connection_of(
    path: Path, data: DataModule, presented: Sequence[Triggered], threat: Threat, device: torch.device
) -> Connection:
    """The curve between two models, and the straight line beside it, at eleven points and the one that is kept.

    Robust accuracy is that under PGD with 10 steps, on at most 200 test records.
    """
    points = sorted({*(place / (_POINTS - 1) for place in range(_POINTS)), path.chosen})
    held_out = path.held_out_accuracy or {}

    def point(t: float, model: nn.Module, *, attacked: bool) -> ConnectionPoint:
        figures = figures_of(model, data, presented, device, threat if attacked else None)
        return ConnectionPoint(
            t=t,
            clean_accuracy=figures.clean_accuracy,
            attack_success_rate=figures.attack_success_rate,
            robust_accuracy=figures.robust_accuracy,
            held_out_accuracy=held_out.get(t) if attacked else None,
        )

    return Connection(
        chosen=path.chosen,
        curve=[point(t, path.at(t), attacked=True) for t in points],
        line=[point(t, path.straight(t), attacked=False) for t in points],
    )
