"""Attack a trained model: of a run, of any other origin, or one that the caller has at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustml import evaluation
from robustml.attacks import PGD
from robustml.attacks.engine.gradient import logits_of
from robustml.calling import Attacks, named
from robustml.data import DataModule
from robustml.errors import RequestError, pasteable
from robustml.evaluation import RobustnessResults
from robustml.evaluation.batches import Loader, device_of
from robustml.files import sweep
from robustml.models import as_module, load_checkpoint
from robustml.models.fitted import fitted
from robustml.modes import evaluating
from robustml.progress import shown
from robustml.results import Cost, ModelFacts
from robustml.say import say
from robustml.types import Threat
from robustml.untrusted import own_files
from robustml.workflows.given import judged_facts, judged_on
from robustml.workflows.integrity.guarding import guarded
from robustml.workflows.measuring.backdoors import Planted, check_shown, inherited, planted_by, planted_in, twin_of
from robustml.workflows.measuring.judging import (
    environment,
    evaluate_as_configured,
    peak_memory_mb,
    tell,
    write_outcome,
)
from robustml.workflows.measuring.trojans import backdoors_of_model
from robustml.workflows.poison import poison_as_configured
from robustml.workflows.preparing import introduce, pick_device
from robustml.workflows.reading.weights import describe_model
from robustml.workflows.run import TROJAN, VERDICTS, Run, load_model, load_run, weights_of
from robustml.workflows.settings import CONFIG, write_settings
from robustml.workflows.settings.building import CALLABLE, Settings, build, plain_target
from robustml.workflows.settings.describing import described


@shown(patience=2.0)
def evaluate(
    model: Callable[[Tensor], Any] | Run | str | Path,
    data: DataModule | Loader | None = None,
    attacks: Attacks | None = None,
    threat: Threat | None = None,
    *,
    out: str | Path | None = None,
    **options: Any,
) -> RobustnessResults:
    """Measure a model clean and under every attack.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C); or a run, whose data, attacks and threat are the defaults.
        data: batches of images and labels in any form, a data set, tensors (x, y), or a DataModule, whose test part is
            taken.
        attacks: one, named after its class, a list, or by name. PGD with 20 steps by default.
        threat: what the attacker may do.
        out: a directory to write, with results.json, examples and a report; none by default.
        options: see `robustml.evaluation.evaluate`; with `out`, `seed` and `device` of them.

    Returns:
        The figures, with or without `out` the same; of a run also those of the backdoors that it is known to hold.

    Raises:
        RequestError: data or threat are missing; or see `robustml.evaluation.evaluate`.
        RunFailed: see there.
    """
    run = model if isinstance(model, Run) else load_run(model) if isinstance(model, str | Path) else None
    threat = threat if run is None or threat is not None else run.threat
    data = data if run is None or data is not None else run.data
    if data is None or threat is None:
        raise RequestError("evaluate needs data and a threat, unless it is given a run that has them")
    if attacks is None and run is not None:
        chosen = dict(build(run.settings["evaluation"]["attacks"], "evaluation.attacks"))
    else:
        chosen = named(PGD(steps=20) if attacks is None else attacks)
    network: Any = model if run is None else run.model
    if out is None:
        loader = data.loader("test") if isinstance(data, DataModule) else data
        defaults: dict[str, Any] = {"check_limits": True}
        if isinstance(data, DataModule):
            defaults["class_names"] = data.class_names
        if run is not None:
            defaults["seed"] = run.settings["seed"]
        results = evaluation.evaluate(network, loader, chosen, threat, **defaults | options)
        whose = {"seed": (defaults | options).get("seed", 0), "environment": environment(device_of(as_module(network)))}
        if run is None:
            facts = data.summary() if isinstance(data, DataModule) else judged_facts(data, results.clean_accuracy.n)
            whose |= {"data": facts, "model": ModelFacts(name=plain_target(network))}
            return results.model_copy(update={"identity": whose})
        parts = copy(data) if isinstance(data, DataModule) else judged_on(data)
        planted = _planted(run.settings, parts, run.path)
        shown = {"limit": None, "batch_size": parts.eval_batch_size}
        block = backdoors_of_model(network, planted, parts, threat, shown, device_of(network))
        whose |= {"data": parts.summary(), "model": run.results.model}
        return results.model_copy(update={"backdoor": block, "identity": whose})
    parts = copy(data) if isinstance(data, DataModule) else judged_on(data)  # the run's poison goes into it
    guarded(parts).setup()
    settings: Settings = {
        "name": Path(out).name,
        "seed": 0,
        "model": model,
        "device": None,
        **({} if run is None else run.settings | {"run": str(run.path), "which": "best"}),
        **options,
        "data": parts,
        "threat": threat,
        "attack": None,
    }
    settings["evaluation"] = {
        "attacks": chosen,
        "limit": None,
        "batch_size": parts.eval_batch_size,
        "seed": settings["seed"],
    }
    if run is not None:
        return evaluate_run(settings, parts, Path(out), run)
    return _judge(as_module(network).eval(), parts, settings, Path(out))


def evaluate_run(settings: Settings, data: DataModule, out: Path, run: Run | None = None) -> RobustnessResults:
    """Attack the model of a run, show it the backdoors that are in it, and write an evaluation directory.

    Args:
        settings: of the evaluation: `run`, `which`, and what it restores of the run.
        data: set up, without the run's poison.
        out: the directory.
        run: the same that the settings name, where the caller has it at hand.
    """
    source, which = Path(settings["run"]), settings["which"]
    model = load_model(source, which) if run is None else run.model
    planted = _planted(settings, data, source)
    return _judge(model, data, settings, out, weights_of(source, which), planted)


def _planted(settings: Settings, data: DataModule, source: Path) -> list[Planted]:
    """The backdoors that a run is known to hold: its own poison's, which is put into `data`, and inherited ones."""
    own = planted_by(poison_as_configured(data, settings, source, other_data=True), twin_of(source))
    older = planted_in(source) if (source / TROJAN).is_file() else inherited(settings, source)
    check_shown(older, data)
    return [*own, *older]


def evaluate_model(settings: Settings, data: DataModule, out: Path) -> RobustnessResults:
    """Build a model of any origin, load its checkpoint, attack, and write an evaluation directory.

    Args:
        settings: of the evaluation: `model`, `checkpoint` and `adapter` among them.
        data: set up.
        out: the directory.
    """
    weights = settings["checkpoint"]
    return _judge(foreign_model(settings, data), data, settings, out, None if weights is None else Path(weights))


def _judge(
    model: nn.Module,
    data: DataModule,
    settings: Settings,
    out: Path,
    weights: Path | None = None,
    planted: Sequence[Planted] = (),
) -> RobustnessResults:
    """Attack `model` as the settings say, and write the evaluation directory; `weights` is the file it came from."""
    evaluated = settings["evaluation"]
    if settings["attack"] is not None:
        evaluated = evaluated | {"attacks": {_name(settings["attack"]): settings["attack"]}, "curve": None}
    settings = settings | {"evaluation": evaluated}
    threat = build(settings["threat"], "threat")
    device = pick_device(settings["device"])
    named = described(settings["model"])
    if named["_target_"] == CALLABLE:  # people know it by its own name
        named = {"_target_": named["path"]}
    introduce(data, threat, named, model)
    record = out / VERDICTS
    own_files(out)
    sweep(out)  # what an evaluation that was killed here had half written
    write_settings(described(settings), out / CONFIG)
    try:
        results = evaluate_as_configured(model, data, threat, evaluated, device, record)
    except RequestError:
        if not record.exists():
            (out / CONFIG).unlink()  # refused before the first image: there is nothing to continue
        raise
    block = backdoors_of_model(model, planted, data, threat, evaluated, device)
    results = results.model_copy(update={"backdoor": block})
    write_outcome(
        out,
        results,
        data,
        settings,
        device,
        command="evaluate",
        model=describe_model(named, model, weights),
        cost=Cost(peak_memory_mb=peak_memory_mb(device)),
    )
    tell(out)
    if not results.complete:
        again = pasteable("evaluate", f"resume={out}")
        say(f"stopped early, so that the worst case is an upper bound; go on with: {again}")
    return results


def _name(attack: Any) -> str:
    """What to call the one attack that was chosen."""
    settings = described(attack)
    return str(settings.get("name") or str(settings.get("path", settings["_target_"])).rpartition(".")[2]).lower()


def foreign_model(settings: Settings, data: DataModule) -> nn.Module:
    """Build the model of the settings, load its checkpoint, and try it on one image.

    Args:
        settings: `model`, `checkpoint` and `adapter`.
        data: what it will be evaluated on.

    Raises:
        RequestError: it cannot be built, called or loaded, or does not turn the data's images into logits.
    """
    model = build(settings["model"])
    if not callable(model):
        raise RequestError(f"model= makes a {type(model).__name__}, which cannot be called with images")
    module = as_module(model, **settings["adapter"])
    if settings["checkpoint"] is None:
        say("no checkpoint: the model is evaluated as it is made")
    elif isinstance(model, nn.Module):
        load_checkpoint(module, Path(settings["checkpoint"]))
    else:
        raise RequestError(f"checkpoint= needs a torch.nn.Module, but model= makes a {type(model).__name__}")
    _try(module, data)
    return module.eval()


def _try(model: nn.Module, data: DataModule) -> None:
    """Refuse a model that does not give logits for the first image of the test split."""
    x, _ = next(iter(data.loader("test", limit=1)))
    device = next((parameter.device for parameter in model.parameters()), x.device)
    with evaluating(model), torch.no_grad():
        try:
            output = fitted(model, x.to(device))(x.to(device))
        except RequestError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RequestError(f"the model cannot take an image of shape {tuple(x.shape)}: {reason}") from error
        if not isinstance(output, Tensor):
            raise RequestError(
                f"the model returned a {type(output).__name__}; say where its logits are with adapter.logits_key=..."
            )
        classes = logits_of(fitted(model, x.to(device)), x.to(device)).shape[1]
    if classes < data.num_classes:
        raise RequestError(f"the model tells {classes} classes apart, but {data.name} has {data.num_classes}")
