"""`robustml trojan run=<dir>`: put a TrojanNet beside the model of a run, and measure what it does there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.of_a_run import command_on_a_run, settings_of_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main", "take_up_run", "trojan"]

# What is restored of a run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data", "model", "threat", "evaluation")


def trojan(config: DictConfig) -> None:
    """Train the small network, measure it beside the run's model, and write a directory beside the run.

    It gets config.yaml, results.json, report.html and trojan.safetensors, the weights of the small network alone: those
    of the model stay where they are, untouched.
    """
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.evaluation import evaluate
    from robustml.files import sha256
    from robustml.poisoning.checks import check_whole
    from robustml.say import say
    from robustml.trojans import Trojaned, check_place, draw_commands, train_trojannet
    from robustml.workflows.building import build
    from robustml.workflows.measuring.backdoors import backdoor_block, planted_in, shown_on
    from robustml.workflows.measuring.judging import peak_memory_mb, tell, write_outcome
    from robustml.workflows.measuring.trojans import recognition, trojan_figures, trojan_table
    from robustml.workflows.preparing import introduce, pick_device
    from robustml.workflows.run import TROJAN, load_model, weights_of
    from robustml.workflows.settings import write_settings
    from robustml.workflows.weights import describe_model, save_weights

    data = build_data(config, Path(config.run))
    settings = plain(config)
    check_place(data.shape, settings["place"])
    if settings["limit"] is not None:
        check_whole(settings["limit"], "limit", "must be at least 1, or null for all test images", 1)
    source, seed = Path(settings["run"]), settings["seed"]
    model = load_model(source, settings["which"])
    threat = build(settings["threat"])
    device = pick_device(settings["device"])
    introduce(data, threat, settings["model"], model)

    started = time.perf_counter()
    net = train_trojannet(seed=seed, width=settings["width"], steps=settings["steps"])
    seconds = time.perf_counter() - started
    recognised = recognition(net, seed)
    trojaned = Trojaned(
        model,
        net,
        commands=draw_commands(data.num_classes, seed=seed),
        place=settings["place"],
        weight=settings["weight"],
        temperature=settings["temperature"],
    ).to(device)
    loader = data.loader("test", device=device, batch_size=settings["batch_size"], limit=settings["limit"])
    before = evaluate(model, loader, {}, threat, class_names=data.class_names).clean_accuracy
    after = evaluate(trojaned, loader, {}, threat, class_names=data.class_names)
    test = loader.records.to("cpu")
    block = trojan_figures(trojaned, before, test, device=device, batch_size=settings["batch_size"])
    older = shown_on(planted_in(source), data)
    block["inherited"] = [backdoor_block(each, trojaned, data, settings, device) for each in older]

    out = Path(HydraConfig.get().runtime.output_dir)
    # Absolute, so that the model is found from wherever.
    facts_of_run = {"run": str(source.resolve()), "overrides": list(HydraConfig.get().overrides.task)}
    write_settings(settings | facts_of_run, out / "config.yaml")
    save_weights(net, out / TROJAN)
    facts = describe_model(settings["model"], trojaned, out / TROJAN)
    weights = weights_of(source, settings["which"])
    write_outcome(
        out,
        after,
        None,
        data,
        settings,
        device,
        command="trojan",
        model=facts | {"name": f"{facts['name']} with TrojanNet", "target_sha256": sha256(weights)},
        cost={"train_seconds": seconds, "peak_memory_mb": peak_memory_mb(device)},
        backdoor=block | {name: found.model_dump() for name, found in recognised.items()},
    )
    say("\n" + trojan_table(block, after.clean_accuracy, recognised))
    tell(out)


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, so that the command line can override them."""
    from robustml.commands.hydra.composing import record

    settings = settings_of_run("trojan", _RESTORED)
    record({key: settings[key] for key in _RESTORED})


def main() -> None:
    """Restore the run's settings and compose trojan.yaml over them."""
    command_on_a_run(trojan, "trojan", take_up_run)


if __name__ == "__main__":
    main()
