"""What a defense gets of a run: the model, the records that it was trained on, clean ones, and the twin of all that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustml.data import DataModule, Records
from robustml.defenses.reading import require_classes
from robustml.errors import RequestError
from robustml.poisoning import PoisonPlan
from robustml.say import say
from robustml.workflows.measuring.backdoors import Planted, beneath, inherited, planted_by, planted_in, twin_of
from robustml.workflows.poison import poison_as_configured
from robustml.workflows.run import TROJAN, Run, load_model

Part = Literal["val", "test"]


@dataclass(frozen=True)
class Suspects:
    """A model under suspicion, and what a defender has beside it.

    Attributes:
        model: in eval mode, on the CPU.
        records: what it was trained on, as that stands.
        clean: records that are known to be clean; None where there are none.
        truth: (N,) bool, which records are poisoned, where a plan says so. No defense ever sees it.
        planted: the backdoors that the model is known to hold, for whoever measures.
        plan: of the poison, where the run has its own.
        twin: the same of the clean twin.
        twin_path: the run directory of that.
    """

    model: nn.Module
    records: Records
    clean: Records | None
    truth: Tensor | None = None
    planted: tuple[Planted, ...] = ()
    plan: PoisonPlan | None = None
    twin: Suspects | None = None
    twin_path: Path | None = None


def suspects_of_run(
    run: Run,
    data: DataModule,
    settings: Mapping[str, Any],
    *,
    which: str = "best",
    clean: Part | None = None,
    twin: bool | None = False,
) -> Suspects:
    """What there is of a run.

    Args:
        run: the directory.
        data: set up, without the run's poison, which is put into them.
        settings: what the poison is read from: those of the run, as restored.
        which: weights of the run.
        clean: the part that is known to be clean; None is the validation part where the run's own poison spared it. Of
            data that somebody else poisoned, it was held out of what is under suspicion, and None is the test part.
        twin: True trains the clean twin where there is none yet, False leaves it out, None takes it where there is one.

    Raises:
        RequestError: the data do not fit the model, or a twin is wanted of a run without a poison.
    """
    path = run.path
    model = run.model if which == "best" else load_model(path, which, trust=run.trust)  # type: ignore[arg-type]
    unpoisoned, held_out = data.train, data.val
    poisoning = poison_as_configured(data, settings, path, other_data=True)
    plan = None if poisoning is None else poisoning.plan
    if clean is None:
        spared = plan is not None and held_out is not None and data.val is held_out
        clean = "val" if spared else "test"
    known = data.val if clean == "val" else data.test
    if clean == "val" and known is None:
        raise RequestError(
            f"clean=val: {data.name} has no validation part; hold some out with data.val_size, or clean=test"
        )
    check_model(model, data.train, data.name)
    truth = None
    if plan is not None:
        own = plan.after.ids[~torch.isin(plan.after.ids, plan.cover)]
        truth = torch.isin(data.train.ids, own)
    other = None if twin is False else _twin_path(run, bool(twin))
    older = planted_in(path) if (path / TROJAN).is_file() else inherited(settings, path)
    return Suspects(
        model=model,
        records=data.train,
        clean=known,
        truth=truth,
        planted=(*planted_by(poisoning, other), *older),
        plan=plan,
        twin=None if other is None else Suspects(load_model(other, trust=run.trust), unpoisoned, known),
        twin_path=other,
    )


def check_model(model: nn.Module, records: Records, name: str) -> None:
    """Refuse a model that tells another number of classes apart than the data have.

    Raises:
        RequestError: names both.
    """
    classes, expected = require_classes(model, records), len(records.class_names)
    if classes != expected:
        raise RequestError(
            f"the model tells {classes} classes apart, but {name} has {expected}: name the data that it is of"
        )


def _twin_path(run: Run, wanted: bool) -> Path | None:
    """The clean twin of a run, trained now where one is wanted; of a trojaned one the model beneath."""
    if (run.path / TROJAN).is_file():
        return beneath(run.path, run.settings)
    known = twin_of(run.path)
    if known is not None or not wanted:
        return known
    if run.settings.get("poison") is None:
        raise RequestError(f"twin=true: {run.path} was not poisoned by its own config, so that it has no clean twin")
    from robustml.workflows.training.train import train
    from robustml.workflows.training.twin import clean_twin

    say("no clean twin beside this run yet: it is trained once, and kept")
    return clean_twin(dict(run.settings), train)
