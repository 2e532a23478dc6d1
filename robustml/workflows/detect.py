"""Look for poisoned records and for backdoors: in a run, in a model of any other origin, or in one at hand."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

from torch import nn

from robustml.config import config_dir
from robustml.data import DataModule, Records
from robustml.errors import RequestError
from robustml.evaluation import evaluate
from robustml.evaluation.batches import Loader
from robustml.results import Cost, ModelFacts
from robustml.say import say
from robustml.types import Detector
from robustml.untrusted import read_yaml
from robustml.workflows.given import data_of, records_of
from robustml.workflows.integrity.guarding import guarded
from robustml.workflows.measuring.detection import Findings, examine, write_suspects
from robustml.workflows.measuring.judging import peak_memory_mb, tell, write_outcome
from robustml.workflows.measuring.suspects import Part, Suspects, check_model, suspects_of_run
from robustml.workflows.preparing import introduce, pick_device
from robustml.workflows.reading.weights import describe_model
from robustml.workflows.run import Run, load_run, weights_of
from robustml.workflows.settings import CONFIG, write_settings
from robustml.workflows.settings.building import Settings, build
from robustml.workflows.settings.describing import described

SUSPECTS = Path("suspects.parquet")


def detect(
    model: nn.Module | Run | str | Path,
    data: DataModule | Loader | None = None,
    detectors: Mapping[str, Detector] | Sequence[Detector] | Detector | None = None,
    *,
    clean: Loader | Part | None = None,
    twin: bool = False,
    out: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Findings:
    """Look for poisoned records and for backdoors.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C); or a run, whose data are the default.
        data: what the model was, or is to be, trained on: a DataModule, a data set, or tensors (x, y).
        detectors: one, a list, or by name; those of configs/detect.yaml by default.
        clean: records that are known to be clean, as `data`; the test part of a DataModule, or the part of `data` that
            is named. Of a run None is the validation part where its own poison spared it, else the test part.
        twin: examine the clean twin of a poisoned run beside it; trained first where there is none yet.
        out: a directory to write, with results.json, suspects.parquet and a report; none by default. Of a run only.
        class_names: of data that are no DataModule.
        seed: of all that is drawn.
        device: where the model runs; cuda by default where there is one.

    Raises:
        RequestError: data are missing or do not fit the model; or a detector that was asked for does not fit them.
    """
    chosen, by_name = detectors is not None, _named(detectors)
    for name, each in by_name.items():
        if isinstance(each, type) or not isinstance(each, Detector):
            raise RequestError(f"detectors: expected a detector such as STRIP(), got {each!r:.60} as {name}")
    if isinstance(model, Run | str | Path):
        run = model if isinstance(model, Run) else load_run(model)
        parts = copy(run.data if data is None else data_of(data, class_names=class_names))
        part: Part | None = clean if clean in ("val", "test") else None
        if out is not None:
            told = {
                "run": str(run.path),
                "which": "best",
                "clean": part,
                "twin": twin,
                "pictures": 48,
                "device": device,
            }
            settings = dict(run.settings) | told | {"seed": seed, "detector": by_name}
            return detect_run(settings, parts, Path(out), chosen=chosen, run=run)
        suspects = suspects_of_run(run, parts, run.settings, clean=part, twin=twin)
        return examine(suspects, by_name, seed=seed, device=device, chosen=chosen)
    if out is not None or twin:
        raise RequestError("out= and twin= are of runs: a model at hand has no directory that its results belong to")
    if data is None:
        raise RequestError("detect needs the records that the model was trained on, unless it is given a run")
    if isinstance(data, DataModule):
        guarded(data).setup()
        records = data.train
    else:
        records = records_of(data, class_names)
    check_model(model, records, "the data")
    known = _known(clean, data, records)
    return examine(Suspects(model, records, known), by_name, seed=seed, device=device, chosen=chosen)


def detect_run(
    settings: Settings, data: DataModule, out: Path, *, chosen: bool = True, run: Run | None = None
) -> Findings:
    """Examine the model of a run and its records, and write a directory.

    Args:
        settings: `run`, `which`, `detector`, `clean`, `twin`, `pictures`, and what is restored of the run.
        data: set up, without the run's poison.
        out: the directory.
        chosen: the detectors were asked for, so that one which does not fit is refused, not left out.
        run: the same that the settings name, where the caller has it at hand.
    """
    run = run or load_run(settings["run"])
    suspects = suspects_of_run(
        run, data, settings, which=settings["which"], clean=settings["clean"], twin=settings["twin"]
    )
    weights = weights_of(run.path, settings["which"])
    return _written(suspects, data, settings, out, describe_model(settings["model"], suspects.model, weights), chosen)


def detect_model(settings: Settings, data: DataModule, out: Path, *, chosen: bool = True) -> Findings:
    """Build a model of any origin, load its checkpoint, examine it and the training part, and write a directory."""
    from robustml.workflows.evaluate import foreign_model

    model = foreign_model(settings, data)
    check_model(model, data.train, data.name)
    clean = data.val if settings["clean"] == "val" else data.test
    weights = None if settings["checkpoint"] is None else Path(settings["checkpoint"])
    facts = describe_model(described(settings["model"]), model, weights)
    return _written(Suspects(model, data.train, clean), data, settings, out, facts, chosen)


def _written(
    suspects: Suspects, data: DataModule, settings: Settings, out: Path, facts: ModelFacts, chosen: bool
) -> Findings:
    """Examine, and write config.yaml, results.json, suspects.parquet and the report."""
    threat, device = build(settings["threat"], "threat"), pick_device(settings["device"])
    detectors = {name: build(each, f"detector.{name}") for name, each in settings["detector"].items()}
    introduce(data, threat, described(settings["model"]), suspects.model)
    began = time.perf_counter()
    findings = examine(suspects, detectors, seed=settings["seed"], device=settings["device"], chosen=chosen)
    say(f"examined in {time.perf_counter() - began:.1f} s")
    clean = evaluate(suspects.model.to(device), data.loader("test", device=device), {}, threat)
    write_settings(described(settings), out / CONFIG)
    write_suspects(findings, data, out / SUSPECTS, settings["pictures"])
    write_outcome(
        out,
        clean.model_copy(update={"examples": None}),
        data,
        settings,
        device,
        command="detect",
        model=facts,
        cost=Cost(peak_memory_mb=peak_memory_mb(device)),
        detection=findings.detection,
    )
    say(f"\n{findings}\n")
    count = int(findings.flagged.sum())
    if count:
        say(f"{count:,} records under suspicion; train without them: data.exclude={out / SUSPECTS}")
    tell(out)
    return findings


def default_detectors() -> dict[str, Detector]:
    """Those that configs/detect.yaml names, with their values there."""
    defaults = read_yaml(config_dir() / "detect.yaml")["defaults"]
    names = next(each["detector"] for each in defaults if isinstance(each, dict) and "detector" in each)
    found: dict[str, Detector] = {}
    for name in names:
        for key, settings in read_yaml(config_dir() / "detector" / f"{name}.yaml").items():
            found[key] = build(settings, f"detector.{key}")
    return found


def _named(detectors: Mapping[str, Detector] | Sequence[Detector] | Detector | None) -> dict[str, Detector]:
    if detectors is None:
        return default_detectors()
    if isinstance(detectors, Mapping):
        return dict(detectors)
    listed = detectors if isinstance(detectors, Sequence) and not isinstance(detectors, str) else [detectors]
    return {type(each).__name__.lower(): each for each in listed}


def _known(clean: Loader | Part | None, data: DataModule | Loader, records: Records) -> Records | None:
    """The clean records that somebody has beside a model of his own."""
    if clean is None:
        return None
    if isinstance(clean, str):
        if not isinstance(data, DataModule) or clean not in ("val", "test"):
            raise RequestError(f"clean={clean!r} names no part of the data: expected val or test, of a DataModule")
        return data.val if clean == "val" else data.test
    if isinstance(clean, DataModule):
        guarded(clean).setup()
        return clean.test
    return records_of(clean, records.class_names)
