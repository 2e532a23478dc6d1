"""Poisons against detectors and repairs: every defense on every backdoor, beside clean twins, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.errors import RequestError, RunFailed
from robustml.progress import track
from robustml.reporting.pages.defenses import defenses_text, write_defenses
from robustml.results import Detection, Rate, Repair, Results, read_results
from robustml.say import hushed, say
from robustml.types import Detector
from robustml.types import Repair as RepairMethod
from robustml.workflows.detect import detect
from robustml.workflows.repair import repair
from robustml.workflows.reproduce import Training, rerun
from robustml.workflows.run import RESULTS
from robustml.workflows.trojan import trojan

if TYPE_CHECKING:
    import pandas as pd

TROJANNET = "trojannet"


@dataclass(frozen=True)
class Planting:
    """A backdoored model to be.

    Args:
        poison: what the table calls it; of `TROJANNET` the training is the clean model that the network is put beside.
        seed: of the training.
        training: that makes it.
        hardened: the same under adversarial training, which no defense is tried on; None for none.
    """

    poison: str
    seed: int
    training: Training
    hardened: Training | None = None


def defenses(
    plantings: Sequence[Planting],
    detectors: Mapping[str, Detector],
    repairs: Mapping[str, RepairMethod],
    *,
    out: str | Path,
    first: Sequence[Training] = (),
    device: str | None = None,
) -> pd.DataFrame:
    """Train every model, try every defense on it and on its clean twin, and write defenses.csv and defenses.html.

    What is done is not done again, and what fails is named, and the rest done.

    Args:
        plantings: one a poison and seed.
        detectors: by name.
        repairs: by name.
        out: the folder.
        first: trainings that others need.
        device: where defenses run.

    Returns:
        A row for each poison, seed and defense.

    Raises:
        RequestError: nothing could be done.
    """
    out = Path(out)
    rows: list[dict[str, Any]] = []
    measured: list[Results] = []
    failed: dict[str, str] = {}

    def tried(name: str, job: Callable[[], object]) -> bool:
        try:
            with hushed():
                job()
        except (RequestError, RunFailed) as error:
            failed[name] = str(error)
            say(f"failed: {name}: {error}")
            return False
        return True

    for training in first:
        rerun(training)
    for each in track(plantings, "models"):
        name = f"{each.poison}, seed {each.seed}"
        if not tried(name, partial(rerun, each.training)):
            continue
        run = _trojaned(each) if each.poison == TROJANNET else each.training.run
        say(f"{name}: {_planted(run)}")
        found = run / "detections" / "all"
        if not _done(found):
            tried(f"{name}: detectors", partial(detect, run, None, detectors, twin=True, out=found, seed=each.seed))
        for method, how in repairs.items():
            place = run / "repairs" / method
            if not _done(place):
                tried(f"{name}: {method}", partial(repair, run, how, out=place, seed=each.seed, device=device))
        if each.hardened is not None:
            tried(f"{name}, adversarially trained", partial(rerun, each.hardened))
        rows += _rows(each, run, repairs)
        measured.append(read_results(run))
        if rows:
            frame = write_defenses(rows, failed, measured, out)
    if not rows:
        raise RequestError(f"no defense could be tried: {next(iter(failed.values()), 'there was nothing to do')}")
    say(f"\n{defenses_text(frame)}\n")
    say(f"table:  {out / 'defenses.csv'}\npage:   {out / 'defenses.html'}\nrun: {out}")
    return frame


def _trojaned(planting: Planting) -> Path:
    """The clean model with a TrojanNet beside it."""
    place = planting.training.run / "trojans" / "one"
    if not _done(place):
        with hushed():
            trojan(planting.training.run, out=place, seed=planting.seed)
    return place


def _done(place: Path) -> bool:
    return (place / RESULTS).is_file()


def _planted(run: Path) -> str:
    """The backdoor that the defenses are up against, in a few words."""
    results = read_results(run)
    success = None if results.backdoor is None else results.backdoor.attack_success_rate
    at = "" if success is None else f", attack success {float(success):.1%}"
    return f"clean accuracy {float(results.clean_accuracy):.1%}{at}"


def _rows(planting: Planting, run: Path, repairs: Mapping[str, RepairMethod]) -> list[dict[str, Any]]:
    """The figures of one model: a row a defense, and one of adversarial training."""
    identity = {"poison": planting.poison, "seed": planting.seed}
    before = read_results(run)
    success = None if before.backdoor is None else before.backdoor.attack_success_rate
    identity |= {"clean_accuracy": _value(before.clean_accuracy), "attack_success_rate": _value(success)}
    rows = []
    if _done(run / "detections" / "all"):
        for name, detection in (read_results(run / "detections" / "all").detection or {}).items():
            rows.append(identity | {"kind": "detector", "defense": name} | _of_detection(detection))
    places = {name: run / "repairs" / name for name in repairs}
    blocks = {name: read_results(place).repair for name, place in places.items() if _done(place)}
    rows += [
        identity | {"kind": "repair", "defense": name} | _of_repair(block)
        for name, block in blocks.items()
        if block is not None
    ]
    if planting.hardened is not None and _done(planting.hardened.run):
        hardened = read_results(planting.hardened.run)
        worst = None if hardened.worst_case is None else hardened.worst_case.robust_accuracy
        planted = hardened.backdoor
        figures = {
            "clean_accuracy_after": _value(hardened.clean_accuracy),
            "attack_success_rate_after": None if planted is None else _value(planted.attack_success_rate),
            "robust_accuracy_after": _value(worst),
        }
        rows.append(identity | {"kind": "training", "defense": "adversarial training"} | figures)
    return rows


def _of_detection(detection: Detection) -> dict[str, Any]:
    twin = detection.twin
    return {
        "judges": detection.judges,
        "found": detection.found,
        "twin_found": None if twin is None else twin.found,
        "auroc": detection.auroc,
        "true_positive_rate": _value(detection.true_positive_rate),
        "false_positive_rate": _value(detection.false_positive_rate),
        "seconds": detection.seconds,
    }


def _of_repair(block: Repair) -> dict[str, Any]:
    twin = block.twin_after
    return {
        "clean_accuracy_after": _value(block.after.clean_accuracy),
        "attack_success_rate_after": _value(block.after.attack_success_rate),
        "recovery_accuracy_after": _value(block.after.recovery_accuracy),
        "robust_accuracy_after": _value(block.after.robust_accuracy),
        "twin_clean_accuracy_after": None if twin is None else _value(twin.clean_accuracy),
        "twin_attack_success_rate_after": None if twin is None else _value(twin.attack_success_rate),
        "reactivated": _value(block.reactivated_attack_success_rate),
        "twin_reactivated": _value(block.twin_reactivated_attack_success_rate),
        "searched": _value(block.searched_attack_success_rate),
        "twin_searched": _value(block.twin_searched_attack_success_rate),
        "clean_images": block.clean_images,
        "seconds": block.seconds,
    }


def _value(rate: Rate | None) -> float | None:
    return None if rate is None else rate.value
