"""Put a TrojanNet beside the model of a run, measure what it does there, and leave a directory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from robustml.data import DataModule
from robustml.evaluation import evaluate
from robustml.files import sha256
from robustml.poisoning.checks import check_whole
from robustml.results import Cost, Results
from robustml.say import say
from robustml.trojans import Trojaned, check_place, draw_commands, train_trojannet
from robustml.types import Threat
from robustml.workflows.measuring.backdoors import backdoor_block, planted_in, shown_on
from robustml.workflows.measuring.judging import peak_memory_mb, tell, write_outcome
from robustml.workflows.measuring.trojans import recognition, trojan_figures, trojan_table
from robustml.workflows.preparing import introduce, pick_device
from robustml.workflows.reading.weights import describe_model, save_weights
from robustml.workflows.run import TROJAN, Run, load_model, load_run, weights_of
from robustml.workflows.settings import CONFIG, write_settings


def trojan(
    run: Run | str | Path,
    data: DataModule | None = None,
    threat: Threat | None = None,
    *,
    out: str | Path,
    which: Literal["best", "last"] = "best",
    place: Sequence[int] = (-4, -4),
    weight: float = 0.7,
    temperature: float = 0.1,
    width: int = 64,
    steps: int = 600,
    limit: int | None = None,
    batch_size: int = 500,
    seed: int = 0,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Results:
    """Train the small network, measure it beside the run's model, and write a directory that `load_model` reads.

    It gets config.yaml, results.json, a report and trojan.safetensors, the weights of the small network alone: those of
    the model stay where they are, untouched.

    Args:
        run: whose model it is put beside.
        data: set up; its test part is what the triggers are shown on. The run's own by default.
        threat: for the record of the clean accuracy; the run's own by default.
        out: the directory to write; in the run's `trojans` folder it may be moved with the run.
        which: weights of the run.
        place: row and column of the 4 x 4 patch's upper left pixel; negative ones from the lower right.
        weight: of the small network in the merged output, in (.5, 1).
        temperature: of the merged output.
        width: of the small network's hidden layer.
        steps: of its training.
        limit: look at so many test images, of every class; None for all.
        batch_size: images a batch.
        seed: of the training and of the triggers.
        device: where the models run; cuda by default where there is one.
        settings: what config.yaml is to say beside the run's place; by default the run's own with what was passed here.

    Raises:
        RequestError: there is no such run, a setting is out of range, or the images have no room for the patch.
    """
    run, out = run if isinstance(run, Run) else load_run(run), Path(out)
    data, threat, source = data or run.data, threat or run.threat, run.path
    check_place(data.shape, place)
    if limit is not None:
        check_whole(limit, "limit", "must be at least 1, or null for all test images", 1)
    passed = {"which": which, "place": [*place], "weight": weight, "temperature": temperature, "width": width}
    told = dict(settings or run.settings | passed | {"seed": seed})
    where = pick_device(device)
    model = run.model if which == "best" else load_model(source, which, trust=run.trust)
    introduce(data, threat, told["model"], model)

    started = time.perf_counter()
    net = train_trojannet(seed=seed, width=width, steps=steps)
    seconds = time.perf_counter() - started
    recognized = recognition(net, seed)
    commands = draw_commands(data.num_classes, seed=seed)
    trojaned = Trojaned(model, net, commands=commands, place=place, weight=weight, temperature=temperature).to(where)
    loader = data.loader("test", device=where, batch_size=batch_size, limit=limit)
    before = evaluate(model, loader, {}, threat, class_names=data.class_names).clean_accuracy
    after = evaluate(trojaned, loader, {}, threat, class_names=data.class_names)
    block = trojan_figures(trojaned, before, loader.records.to("cpu"), device=where, batch_size=batch_size)
    shown = {"limit": limit, "batch_size": batch_size}
    inherited = [backdoor_block(each, trojaned, data, shown, where) for each in shown_on(planted_in(source), data)]
    block = block.model_copy(update={"inherited": inherited, **recognized})

    # Absolute, so that the model is found from wherever.
    write_settings(told | {"run": str(source.resolve())}, out / CONFIG)
    save_weights(net, out / TROJAN)
    facts = describe_model(told["model"], trojaned, out / TROJAN)
    target = sha256(weights_of(source, which))
    written = write_outcome(
        out,
        after,
        data,
        {"name": told["name"], "seed": seed},
        where,
        command="trojan",
        model=facts.model_copy(update={"name": f"{facts.name} with TrojanNet", "target_sha256": target}),
        cost=Cost(train_seconds=seconds, peak_memory_mb=peak_memory_mb(where)),
        backdoor=block,
    )
    say("\n" + trojan_table(block, written.clean_accuracy))
    tell(out)
    return written
