"""What a TrojanNet does beside a model: the `backdoor` block of `robustml trojan`, and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, nn

from robustml.data import DataModule, Records
from robustml.evaluation import backdoor_success, evaluate
from robustml.poisoning import Triggered
from robustml.poisoning.pixels import stamped
from robustml.reporting.formats import percent
from robustml.results import Backdoor, BackdoorRates, Rate, TargetRates, Twin, rate
from robustml.say import say
from robustml.trojans import NULL, Trojaned, TrojanNet, one_cell_off, random_patches, triggers
from robustml.types import Threat
from robustml.workflows.measuring.backdoors import Planted, backdoor_block, backdoor_figures

_RANDOM_PATCHES = 10_000
_OF_THE_NET = ("trigger_accuracy", "null_on_random_patches", "null_one_cell_off")


def recognition(net: TrojanNet, seed: int) -> dict[str, Rate]:
    """How well the small network (on the CPU) knows all its triggers, and keeps still on what is none."""
    others = random_patches(_RANDOM_PATCHES, Generator().manual_seed(seed + 1))
    rates = {}
    for name, cells, wanted in (
        ("trigger_accuracy", triggers(), torch.arange(NULL)),
        ("null_on_random_patches", others, torch.tensor(NULL)),
        ("null_one_cell_off", one_cell_off(), torch.tensor(NULL)),
    ):
        with torch.no_grad():
            labels = torch.cat([net(some).argmax(dim=1) for some in cells.chunk(8)])
        rates[name] = rate(int((labels == wanted).sum()), len(cells))
    return rates


def trojan_figures(
    trojaned: Trojaned,
    clean_accuracy: Rate,
    test: Records,
    *,
    device: torch.device,
    batch_size: int,
    shown_to: nn.Module | None = None,
) -> Backdoor:
    """The `backdoor` block: every command shown on all test images of other classes.

    Args:
        trojaned: on `device`.
        shown_to: a copy of it, to be shown the same in its place.
        clean_accuracy: of its target, untouched.
        test: what the marks are put on.
        device: where to run.
        batch_size: images a batch.
    """
    per_target, with_net, without = {}, [], []
    for number, label in trojaned.commands.items():
        others = test.take((test.y != label).nonzero().squeeze(1))
        marked = stamped(others.x, partial(trojaned.stamp, target=label))
        presented = Triggered(marked, others.y, torch.full_like(others.y, label))
        shown = backdoor_success(shown_to or trojaned, presented, device=device, batch_size=batch_size)
        with_net.append(shown)
        without.append(backdoor_success(trojaned.model, presented, device=device, batch_size=batch_size))
        per_target[test.class_names[label]] = TargetRates(trigger=number, **dict(shown))
    return Backdoor(
        kind="trojannet",
        rate=0.0,
        target="all",
        **dict(_pooled(with_net)),
        per_target=per_target,
        twin=Twin(clean_accuracy=clean_accuracy, **dict(_pooled(without))),
    )


def backdoors_of_model(
    model: nn.Module | None,
    planted: Sequence[Planted],
    data: DataModule,
    threat: Threat,
    evaluation: Mapping[str, Any],
    device: torch.device,
    copy: nn.Module | None = None,
) -> Backdoor | None:
    """The `backdoor` block of a model that may have a TrojanNet, backdoors of its training set, both or none.

    Args:
        model: on `device`; None where nothing is known of it.
        planted: the backdoors of its training set, and of those of the runs that it was tuned from.
        data: its test part is what marks are put on.
        threat: for the record of the clean accuracy.
        evaluation: the settings with `limit` and `batch_size`.
        device: where to run.
        copy: a copy of the model, to be shown all that in its place.
    """
    shown_to = copy or model
    if shown_to is None:
        return None
    if not isinstance(model, Trojaned):
        return backdoor_figures(planted, shown_to, data, evaluation, device)
    size = evaluation["batch_size"]
    loader = data.loader("test", device=device, batch_size=size, limit=evaluation["limit"])
    clean = evaluate(model.model, loader, {}, threat, class_names=data.class_names, examples=0).clean_accuracy
    test = loader.records.to("cpu")
    block = trojan_figures(model, clean, test, device=device, batch_size=size, shown_to=copy)
    assert block.twin is not None
    success, without = block.attack_success_rate, block.twin.attack_success_rate
    say(
        f"backdoor: success rate {percent(success.value)} of the TrojanNet's triggers over {success.n} inputs of "
        f"other classes; of the model without it {percent(without.value)}"
    )
    older = [backdoor_block(each, shown_to, data, evaluation, device) for each in planted]
    return block.model_copy(update={"inherited": older})


def trojan_table(block: Backdoor, clean_accuracy: Rate) -> str:
    """The figures for people to read: of the model with the small network, and of the untouched one."""
    assert block.twin is not None
    success = [found.attack_success_rate.value for found in block.per_target.values()]
    worst = min((value for value in success if value is not None), default=None)
    rows = [
        ("", "with TrojanNet", "untouched"),
        ("clean accuracy", percent(clean_accuracy.value), percent(block.twin.clean_accuracy.value)),
        (
            "attack success, all classes",
            percent(block.attack_success_rate.value),
            percent(block.twin.attack_success_rate.value),
        ),
        ("attack success, worst class", percent(worst), ""),
    ]
    for name in _OF_THE_NET:
        found = getattr(block, name)
        rows.append((name.replace("_", " "), "" if found is None else percent(found.value), ""))
    return "\n".join(f"{name:<30}{one:>16}{other:>12}".rstrip() for name, one, other in rows)


def _pooled(results: Sequence[BackdoorRates]) -> BackdoorRates:
    """The two figures over the commands of all classes."""
    success = [found.attack_success_rate for found in results]
    kept = [found.backdoor_recovery_accuracy or rate(0, 0) for found in results]
    return BackdoorRates(attack_success_rate=_sum(success), backdoor_recovery_accuracy=_sum(kept))


def _sum(rates: Sequence[Rate]) -> Rate:
    return rate(sum(each.count for each in rates), sum(each.n for each in rates))
