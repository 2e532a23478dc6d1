"""Repair the model of a run, and measure what that did: to the backdoor, to clean accuracy, and to a clean twin."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, nn

from robustml.data import DataModule
from robustml.defenses.repair import FineTuning, ModeConnectivity
from robustml.defenses.repair import Path as ModelPath
from robustml.errors import RequestError
from robustml.evaluation import evaluate
from robustml.files import write_bytes
from robustml.poisoning.checks import check_whole
from robustml.reporting.tables.repair import repair_table
from robustml.reporting.tables.text import table_text, wrapped
from robustml.results import Connection, Cost, RepairFigures, Results
from robustml.results import Repair as RepairBlock
from robustml.say import hushed, say
from robustml.trojans import Trojaned
from robustml.types import Repair
from robustml.workflows.integrity.auditing import audits
from robustml.workflows.measuring.judging import peak_memory_mb, tell, write_outcome
from robustml.workflows.measuring.repairing import (
    connection_of,
    figures_of,
    presented_to,
    reactivated_success,
    searched_success,
)
from robustml.workflows.measuring.suspects import Part, Suspects, suspects_of_run
from robustml.workflows.measuring.trojans import backdoors_of_model
from robustml.workflows.preparing import introduce, pick_device
from robustml.workflows.reading.records import RECORDS
from robustml.workflows.reading.weights import describe_model, save_weights
from robustml.workflows.run import RESULTS, WEIGHTS, Run, load_run, weights_of
from robustml.workflows.settings import CONFIG, write_settings
from robustml.workflows.settings.describing import described

# So much accuracy under attack is more than chance takes.
_MUCH = 0.05
# Of a run's own settings, what its repaired model keeps: enough for whatever takes up a run.
_KEPT = ("name", "seed", "data", "model", "threat", "attack", "evaluation", "validation", "balance")


class Repaired(NamedTuple):
    """A repaired model, how long that took in seconds, and the path between two models that it lies on, if it does."""

    model: nn.Module
    seconds: float
    path: ModelPath | None = None


@audits("repaired", into="out", files=(WEIGHTS, RESULTS))
def repair(
    run: Run | str | Path,
    method: Repair | None = None,
    data: DataModule | None = None,
    *,
    out: str | Path,
    which: Literal["best", "last"] = "best",
    clean: Part | None = None,
    images: int | None = None,
    twin: bool = True,
    reactivation: int = 10,
    seed: int = 0,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Results:
    """Repair the model of a run, measure that, and leave a run directory like any other.

    Args:
        run: whose model is repaired.
        method: how; `FineTuning` by default. Whatever else it is, plain fine-tuning is measured beside it.
        data: those of the run, clean: the run's own plan poisons them again. The run's own by default.
        out: the directory.
        which: weights of the run.
        clean: the part of the data that the repair works with. The validation part by default. Of the test part, what
            the repair gets is left out of all measuring.
        images: so many of them, of every class; None for all, or half of a test part.
        twin: repair the clean twin of a poisoned run, too; it is trained first where there is none yet.
        reactivation: how many poisoned records the repaired model is then shown.
        seed: of all that is drawn.
        device: where models run; cuda by default where there is one.
        settings: what config.yaml is to say; by default the run's own with what was passed here.

    Raises:
        RequestError: there is no such run, no clean data for a method that needs some, or a setting is out of range.
    """
    run, out, where = run if isinstance(run, Run) else load_run(run), Path(out), pick_device(device)
    method = method or FineTuning()
    if not isinstance(method, Repair):
        raise RequestError(f"method must repair a model, got a {type(method).__name__}")
    check_whole(reactivation, "reactivation", "must be a number of poisoned records of at least 1", 1)
    parts, told = copy(data or run.data), dict(settings or run.settings)
    known = told.get("poison") is not None or isinstance(run.model, Trojaned)
    suspects = suspects_of_run(run, parts, told, which=which, clean=clean, twin=known and twin)
    suspects = _clean_ones(suspects, parts, images, seed)
    threat = run.threat
    attacked = threat if run.results.attacks else None
    introduce(parts, threat, run.settings["model"], suspects.model)
    count = 0 if suspects.clean is None else len(suspects.clean)
    name = type(method).__name__
    say(f"repair: {name}, {count:,} clean records")
    presented = presented_to(suspects, parts)

    def figures(model: nn.Module, what: str) -> RepairFigures:
        found = figures_of(model, parts, presented, where, attacked)
        say(f"{what}: {_line(found)}")
        return found

    def of_twin(twin: Suspects, method: Repair) -> Repaired:
        return repaired(twin, method, where, seed)

    before = figures(suspects.model, "before")
    done = repaired(suspects, method, where, seed)
    after = figures(done.model, f"after {name}, {done.seconds:.1f} s")
    tuned = after
    if type(method) is not FineTuning and count:
        tuned = figures(repaired(suspects, FineTuning(), where, seed).model, "after mere fine-tuning")
    blocks: dict[str, Any] = {}
    found_twin = None
    if suspects.twin is not None:
        blocks["twin"] = figures(suspects.twin.model, "clean twin")
        found_twin = of_twin(suspects.twin, method)
        blocks["twin_after"] = figures(found_twin.model, f"clean twin after {name}")
    for prefix, model in (("", done.model), ("twin_", None if found_twin is None else found_twin.model)):
        if model is not None:
            blocks[f"{prefix}reactivated_attack_success_rate"] = reactivated_success(
                model, suspects, presented, reactivation, where, seed
            )
            blocks[f"{prefix}searched_attack_success_rate"] = searched_success(model, presented, where, seed)
    block = RepairBlock(
        method=_method_name(method),
        params={key: value for key, value in described(method).items() if key[:1] != "_" and key != "other"},
        before=before,
        after=after,
        fine_tuning=tuned,
        reactivation_records=reactivation if blocks.get("reactivated_attack_success_rate") is not None else 0,
        poison_rate=None if suspects.plan is None else suspects.plan.summary.rate,
        clean_images=count,
        seconds=done.seconds,
        connection=None if done.path is None else _connection(done.path, parts, presented, threat, where),
        **blocks,
    )
    return _written(run, suspects, done.model.to(where), block, parts, told, out, which, where)


def repaired(suspects: Suspects, method: Repair, device: torch.device, seed: int) -> Repaired:
    """Repair a model, and take the time.

    Args:
        suspects: the model, its records and the clean ones.
        method: how.
        device: where.
        seed: of all that is drawn.
    """
    model, generator = suspects.model.to(device), Generator().manual_seed(seed)
    began = time.perf_counter()
    if isinstance(method, ModeConnectivity):
        path = method.path(model, suspects.records, suspects.clean, generator=generator)
        found = path.at(path.chosen)
        return Repaired(found, time.perf_counter() - began, path)
    return Repaired(method(model, suspects.records, suspects.clean, generator=generator), time.perf_counter() - began)


def _connection(path: ModelPath, *measured: Any) -> Connection:
    """The figures along the path: two dozen models, of which nobody wants to hear one by one."""
    with hushed():
        return connection_of(path, *measured)


def _clean_ones(suspects: Suspects, data: DataModule, images: int | None, seed: int) -> Suspects:
    """The suspects with as many clean records as are wanted; those of the test part leave it."""
    clean = suspects.clean
    if clean is None:
        return suspects
    count = images if images is not None else len(clean) // 2 if clean is data.test else len(clean)
    check_whole(count, "images", f"must be a number of clean records from 1 to {len(clean)}", 1, len(clean))
    chosen = clean.sample(count, seed)
    if clean is data.test:
        left = ~torch.isin(clean.ids, chosen.ids)
        if not left.any():
            raise RequestError("the repair would get the whole test part, and nothing would be left to measure on")
        data.test = clean.take(left.nonzero().squeeze(1))
        say(f"note:   {count:,} test records go to the repair, and are left out of what is measured")
    twin = None if suspects.twin is None else replace(suspects.twin, clean=chosen)
    return replace(suspects, clean=chosen, twin=twin)


def _written(
    run: Run,
    suspects: Suspects,
    model: nn.Module,
    block: RepairBlock,
    data: DataModule,
    told: Mapping[str, Any],
    out: Path,
    which: str,
    device: torch.device,
) -> Results:
    """Write the run directory of the repaired model."""
    source = str(run.path.resolve())
    settings = {key: run.settings[key] for key in _KEPT if key in run.settings}
    settings |= {key: told[key] for key in ("name", "seed", "data", "threat", "method", "overrides") if key in told}
    settings |= {"model": _model_settings(model, run.settings), "run": source, "which": which, "poison": None}
    settings |= {"backdoor_of": source if suspects.planted else None}
    write_settings(described(settings), out / CONFIG)
    records = run.path / RECORDS
    if records.is_file():
        write_bytes(out / RECORDS, records.read_bytes())
    save_weights(model, out / WEIGHTS)
    size = data.eval_batch_size
    loader = data.loader("test", device=device, batch_size=size)
    found = evaluate(model, loader, {}, run.threat, class_names=data.class_names, device=device)
    shown = {"limit": None, "batch_size": size}
    written = write_outcome(
        out,
        found.model_copy(update={"examples": None}),
        data,
        settings,
        device,
        command="repair",
        model=describe_model(run.settings["model"], model, out / WEIGHTS, weights_of(run.path, which)),
        cost=Cost(train_seconds=block.seconds, peak_memory_mb=peak_memory_mb(device)),
        backdoor=backdoors_of_model(model, suspects.planted, data, run.threat, shown, device),
        repair=block,
    )
    say(f"\n{table_text(repair_table(block))}\n{wrapped([repair_table(block).note])}")
    if _lost(block):
        say("note:   the repair cost accuracy under attack: better train anew, without the poison")
    tell(out)
    return written


def _model_settings(model: nn.Module, settings: Mapping[str, Any]) -> Any:
    """How the repaired model is built again: as the run's own, and with its TrojanNet where it has one."""
    if not isinstance(model, Trojaned):
        return settings["model"]
    net = {"_target_": "robustml.trojans.TrojanNet", "width": model.net.hidden.out_features}
    kept = {name: getattr(model, name) for name in ("commands", "outputs", "weight", "temperature")}
    place = [int(each) for each in model.place]
    return {"_target_": "robustml.trojans.Trojaned", "model": settings["model"], "net": net, "place": place, **kept}


def _line(figures: RepairFigures) -> str:
    rates = {
        "clean": figures.clean_accuracy,
        "attack success": figures.attack_success_rate,
        "recovery": figures.recovery_accuracy,
        "under PGD": figures.robust_accuracy,
    }
    return ", ".join(f"{name} {float(rate):.1%}" for name, rate in rates.items() if rate is not None)


def _lost(block: RepairBlock) -> bool:
    before, after = block.before.robust_accuracy, block.after.robust_accuracy
    return before is not None and after is not None and float(after) < float(before) - _MUCH


def _method_name(method: Repair) -> str:
    """Its class, as its config is called: fine_pruning for FinePruning."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(method).__name__).lower()
