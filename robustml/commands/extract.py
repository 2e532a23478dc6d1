"""`robustml extract victim=<run or URL>`: copy a model by asking it, and measure what the copy is worth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.failures import report_failures
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from robustml.data import DataModule
    from robustml.extraction import Victim

__all__ = ["extract", "main"]

# What an extraction takes from its victim's run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data", "model", "threat")
COPY = Path("copy.safetensors")


def extract(config: DictConfig) -> None:
    """Ask, copy, measure, and write a directory with the copy, results.json and a report."""
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.evaluation import evaluate
    from robustml.reporting.extraction import extraction_table
    from robustml.results import ExtractionResults
    from robustml.say import say
    from robustml.workflows.building import build
    from robustml.workflows.extraction import loot, prepare
    from robustml.workflows.measuring.backdoors import planted_in, shown_on
    from robustml.workflows.measuring.judging import peak_memory_mb, tell, write_outcome
    from robustml.workflows.measuring.trojans import backdoors_of_model
    from robustml.workflows.preparing import introduce, pick_device
    from robustml.workflows.run import load_model
    from robustml.workflows.secret import without_secret, words_without_secret
    from robustml.workflows.settings import write_settings
    from robustml.workflows.weights import describe_model, save_weights

    if not isinstance(config.budget, int) or config.budget < 1:
        raise RequestError(f"budget must be a number of queries of at least 1, got {config.budget!r}")
    device = pick_device(config.device)
    data = build_data(config, None if _is_address(config.victim) else Path(config.victim))
    open_interface = _interfaces(config, data, device)
    settings = plain(config)
    threat = build(settings["threat"])
    # a backdoor in the victim may be copied with it
    victim = None if _is_address(config.victim) else load_model(config.victim, config.which).to(device)
    planted = [] if victim is None else shown_on(planted_in(Path(config.victim)), data)
    heist = prepare(settings, data, open_interface, device)
    undefended = heist.rob(None, with_curve=settings["defense"] is None)
    defended = None if heist.defense is None else heist.rob(heist.defense, with_curve=True)
    copy = (undefended if defended is None else defended).copy
    block = ExtractionResults.model_validate(loot(heist, defended, undefended))
    named = {"_target_": f"{type(copy).__module__}.{type(copy).__name__}"}
    introduce(data, threat, named, copy)
    loader = data.loader("test", device=device)
    results = evaluate(copy, loader, {}, threat, class_names=data.class_names, device=device, examples=0)

    out = Path(HydraConfig.get().runtime.output_dir)
    words = words_without_secret(HydraConfig.get().overrides.task)
    write_settings(without_secret(settings) | {"overrides": words}, out / "config.yaml")
    save_weights(copy, out / COPY)
    write_outcome(
        out,
        results,
        None,
        data,
        without_secret(settings) | {"name": f"copy of {settings['name']}"},
        device,
        command="extract",
        model=describe_model(named, copy, out / COPY),
        cost={"peak_memory_mb": peak_memory_mb(device)},
        backdoor=backdoors_of_model(victim, planted, data, threat, {"limit": None, "batch_size": 500}, device, copy),
        extraction=block.model_dump(mode="json"),
    )
    say("\n" + extraction_table(block))
    tell(out)


def _interfaces(config: DictConfig, data: DataModule, device: torch.device) -> Callable[[int | None], Victim]:
    """What gives the victim anew, with a budget of its own; here it is seen whether there is one at all."""
    from robustml.extraction import HttpVictim, ModelVictim
    from robustml.workflows.run import load_model

    if not _is_address(config.victim):
        model = load_model(Path(config.victim), config.which).to(device)
        return lambda budget: ModelVictim(model, budget=budget)
    if config.defense is not None:
        raise RequestError(
            "defense= is what an interface of our own does to its answers: that of an endpoint is chosen where it is "
            "started, robustml serve run=<dir> defense=..."
        )
    address, timeout, batch_size = config.victim, config.timeout, config.batch_size
    if not (isinstance(timeout, (int, float)) and timeout > 0 and isinstance(batch_size, int) and batch_size > 0):
        raise RequestError(f"timeout and batch_size must be above 0, got {timeout!r} and {batch_size!r}")
    told, known = HttpVictim(address, timeout=timeout).about(), (tuple(data.shape), data.num_classes)
    if told != known:
        raise RequestError(
            f"{address} takes inputs of shape {told[0]} and tells {told[1]} classes apart, but {data.name} has shape "
            f"{known[0]} and {known[1]} classes: choose its data with data=..."
        )
    return lambda budget: HttpVictim(address, budget=budget, timeout=timeout, batch_size=batch_size)


def take_up_victim() -> None:
    """Record the settings of the victim's run, so that the command line can override them; a URL has none."""
    from robustml.commands.hydra.composing import record
    from robustml.workflows.settings import read_settings

    victim = argument("victim")
    if victim is None:
        raise RequestError(
            "extract needs a victim: robustml extract victim=outputs/<name>/<time>, or victim=http://<host>:<port>"
        )
    if _is_address(victim):
        if argument("data") is None:
            raise RequestError("victim=<URL> needs data=..., whose test images copy and victim are compared on")
        if argument("threat") is None:
            sys.argv.append("threat=linf")
        record({})
        return
    settings = read_settings(Path(victim))
    missing = [key for key in _RESTORED if key not in settings]
    if missing:
        raise RequestError(f"{victim}/config.yaml lacks {', '.join(missing)}: it is no config of robustml train")
    anew = [group for group in ("data", "threat") if argument(group) is not None]
    restored: dict[str, Any] = {key: settings[key] for key in _RESTORED}
    record(restored | {"output": f"{victim.rstrip('/')}/extractions"}, without=anew)


def _quoted(word: str) -> str:
    """``victim=http://[::1]:8000`` as Hydra can read it, to whom brackets mean a list."""
    name, _, value = word.partition("=")
    if name != "victim" or not _is_address(value) or value[:1] in "'\"":
        return word
    return "victim='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_address(victim: str) -> bool:
    return "://" in str(victim)


def main() -> None:
    """Restore the settings of the victim's run and compose extract.yaml over them."""
    if any(word in ("--help", "-h", "--shell-completion", "-sc") for word in sys.argv):
        from robustml.commands.hydra.composing import record

        record({})  # help and completion need no victim, but a config that composes
    else:
        report_failures(take_up_victim)
        sys.argv = [sys.argv[0], *map(_quoted, sys.argv[1:])]
    hydra_command(extract, "extract")


if __name__ == "__main__":
    main()
