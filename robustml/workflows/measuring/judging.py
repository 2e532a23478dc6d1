"""Judge a model as the `evaluation` settings say, and write what came of it into a directory."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustml import __version__
from robustml.data import DataModule
from robustml.deadline import Deadline, OutOfTime
from robustml.evaluation import RobustnessResults, accuracy_curve, evaluate, united
from robustml.results import Environment, Flag, Results, write_results
from robustml.say import say
from robustml.types import Attack, Threat
from robustml.workflows.measuring.certification import certified_as_configured
from robustml.workflows.measuring.corruptions import corruptions_as_configured
from robustml.workflows.preparing import build_attacks
from robustml.workflows.run import EXAMPLES, REPORT, RESULTS


def evaluate_as_configured(
    model: nn.Module,
    data: DataModule,
    threat: Threat,
    settings: Mapping[str, Any],
    device: torch.device,
    progress: Path | None = None,
) -> RobustnessResults:
    """Run the attacks of the `evaluation` settings on the test split; corruptions and curve if they ask for them."""
    loader = data.loader("test", device=device, batch_size=settings["batch_size"], limit=settings["limit"])
    attacks = build_attacks(settings, threat)
    model = model.to(device)
    say(f"evaluating on {len(loader.records)} test images: clean, {', '.join(attacks) or 'no attack'}")
    deadline = Deadline(settings.get("time_limit"))
    results = evaluate(
        model,
        loader,
        attacks,
        threat,
        class_names=data.class_names,
        seed=settings["seed"],
        device=device,
        cascade=settings.get("cascade", False),
        progress=progress,
        time_limit=deadline.seconds,
        check_limits=True,
    )
    if not results.complete:
        return results
    try:
        with deadline.held():
            certified = certified_as_configured(model, loader, threat, attacks, results.verdicts, settings, device)
            results = results.model_copy(update={"certified": certified})
            corruptions = corruptions_as_configured(model, data, settings, device)
            results = results.model_copy(update={"corruptions": corruptions})
            return _with_curve(results, model, data, threat, attacks, settings, device)
    except OutOfTime:
        message = "the time limit left no time for all that was asked for beside the attacks; going on does the rest"
        flags = [*results.flags, Flag(name="stopped_early", message=message)]
        return results.model_copy(update={"complete": False, "flags": flags})


def _with_curve(
    results: RobustnessResults,
    model: nn.Module,
    data: DataModule,
    threat: Threat,
    attacks: Mapping[str, Attack],
    settings: Mapping[str, Any],
    device: torch.device,
) -> RobustnessResults:
    """The results with the curve that the `evaluation` settings ask for."""
    curve_settings = settings.get("curve")
    if not curve_settings:
        return results
    name = curve_settings["attack"]
    # The curve never looks at more images than the figures beside it.
    limit = min((n for n in (settings["limit"], curve_settings["limit"]) if n is not None), default=None)
    limited = data.loader("test", device=device, batch_size=settings["batch_size"], limit=limit)
    radii = _curve_radii(curve_settings, threat)
    say(f"accuracy under {name} at {len(radii)} values of eps, on {len(limited.records)} test images")
    return united(results, accuracy_curve(model, limited, name, attacks[name], threat, radii, seed=settings["seed"]))


def _curve_radii(settings: Mapping[str, Any], threat: Threat) -> list[float]:
    """The eps values of a curve: absolute ones, or multiples of the threat's own, no wider than the image box."""
    if settings.get("eps") is not None:
        return [float(eps) for eps in settings["eps"]]
    low, high = threat.bounds
    widest = high - low if getattr(threat, "norm", None) == "inf" else float("inf")
    return sorted({min(multiple * threat.eps, widest) for multiple in settings["relative"]})


def environment(device: torch.device) -> Environment:
    """The date, the git commit of the current folder, versions, platform and device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    return Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        lightning=version("pytorch_lightning"),
        robustml=__version__,
        platform=platform.system(),
        device=name,
    )


def _commit() -> str | None:
    """The commit that git has checked out here, "-dirty" where its files were changed; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def peak_memory_mb(device: torch.device) -> float:
    """The most memory this process held so far: on the GPU where it trains there, otherwise resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def write_outcome(
    out: Path,
    results: RobustnessResults,
    data: DataModule,
    settings: Mapping[str, Any],
    device: torch.device,
    flags: Sequence[Flag] = (),
    **blocks: Any,
) -> Results:
    """Write results.json and the examples of an evaluation.

    Args:
        out: the directory.
        results: the figures.
        data: what was evaluated on.
        settings: of the command: name and seed.
        device: where it ran.
        flags: raised beside those of the evaluation.
        blocks: fields of `Results` that the command fills: command, model, cost, selection, backdoor, extraction.
    """
    if results.examples is not None:
        results.examples.save(out / EXAMPLES)
    flags = [*results.flags, *flags]
    if data.left_out:
        left_out = f"{data.left_out} of {data.left_out + len(data.test)} test records"
        message = f"the set has changed: {left_out} were trained or selected on by this model, and are left out"
        flags.append(Flag(name="changed_data", message=message))
    written = Results.of(
        results.model_copy(update={"flags": flags}),
        experiment=settings["name"],
        seed=settings["seed"],
        data=data.summary(),
        environment=environment(device),
        **blocks,
    )
    write_results(written, out / RESULTS)
    return written


def tell(run: Path) -> None:
    """Write the report of a finished directory and print the table and where things lie."""
    from robustml.reporting import read_run, summary_table, write_report  # start-up: not needed until the end

    report = write_report([run], run / REPORT)
    say("\n" + summary_table([read_run(run)]) + "\n")
    say(f"report: {report}")
    say(f"run: {run}")
