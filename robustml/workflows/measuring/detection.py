"""Call detectors on a model and its records, hold what they say against the truth, and write down who is suspect."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from robustml.data import DataModule, Records, record_name
from robustml.errors import RequestError, RunFailed
from robustml.files import replacing
from robustml.poisoning.pixels import in_unit_range
from robustml.progress import track
from robustml.reporting.tables.detection import detection_table
from robustml.reporting.tables.text import table_text
from robustml.results import Detection, DetectionFigures, share
from robustml.say import say
from robustml.types import Detector, Suspicion
from robustml.workflows.measuring.suspects import Suspects
from robustml.workflows.preparing import pick_device
from robustml.workflows.settings.describing import described


@dataclass(frozen=True)
class Findings:
    """What detectors say of a model and its records.

    Attributes:
        detection: the figures, by the detector's name, as results.json holds them.
        suspicions: the scores behind them.
        records: that were looked through.
    """

    detection: dict[str, Detection]
    suspicions: dict[str, Suspicion] = field(repr=False)
    records: Records = field(repr=False)

    @property
    def found(self) -> bool:
        """Whether any detector says that something is there."""
        return any(each.found for each in self.detection.values())

    @property
    def flagged(self) -> Tensor:
        """Which records (N,) are flagged by a detector of records that says that something is there."""
        flagged = torch.zeros(len(self.records), dtype=torch.bool)
        for suspicion in self.suspicions.values():
            if suspicion.ids is not None and suspicion.says_so:
                flagged |= suspicion.flagged.cpu()
        return flagged

    def __str__(self) -> str:
        return table_text(detection_table(self.detection))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def examine(
    suspects: Suspects, detectors: Mapping[str, Detector], *, seed: int, device: str | None, chosen: bool = True
) -> Findings:
    """Call every detector on a model and its records, and on those of its clean twin.

    Args:
        suspects: what there is.
        detectors: by name.
        seed: of each.
        device: where the models run.
        chosen: refuse a detector that does not fit; False leaves it out, and says why.

    Raises:
        RequestError: a detector does not fit, or none does.
    """
    where = pick_device(device)
    detection, suspicions = {}, {}
    for name, detector in track(list(detectors.items()), "detectors"):
        try:
            suspicion, figures = _examined(suspects, detector, seed, where)
            twin = None if suspects.twin is None else _examined(suspects.twin, detector, seed, where)[1]
        except RequestError as error:
            if chosen:
                raise RequestError(f"{name}: {error}") from error
            say(f"{name}: left out: {error}")
            continue
        judges: Literal["records", "model"] = "model" if suspicion.ids is None else "records"
        detection[name] = Detection(
            **dict(figures),
            judges=judges,
            scores=suspicion.scores.tolist() if judges == "model" else [],
            params={key: value for key, value in described(detector).items() if key[:1] != "_"},
            clean=0 if suspects.clean is None else len(suspects.clean),
            twin=twin,
        )
        suspicions[name] = suspicion
        say(_line(name, detection[name]))
    if not detection:
        raise RequestError("no detector fits this model and these data")
    return Findings(detection, suspicions, suspects.records)


def _examined(
    suspects: Suspects, detector: Detector, seed: int, device: torch.device
) -> tuple[Suspicion, DetectionFigures]:
    model, records, truth = suspects.model.to(device), suspects.records, suspects.truth
    began = time.perf_counter()
    found = detector(model, records, suspects.clean, generator=Generator().manual_seed(seed))
    seconds = time.perf_counter() - began
    if not torch.isfinite(found.scores).all():
        raise RunFailed(f"{type(detector).__name__} gave scores that are no numbers")
    flagged = found.flagged.cpu()
    figures: dict[str, Any] = {}
    if found.ids is not None:
        if not torch.equal(found.ids.cpu(), records.ids.cpu()):
            raise RunFailed(f"{type(detector).__name__} scored other records than it was given")
        if truth is not None and 0 < int(truth.sum()) < len(truth):
            from sklearn.metrics import roc_auc_score

            figures = {
                "auroc": float(roc_auc_score(truth.numpy(), found.scores.cpu().double().numpy())),
                "true_positive_rate": share(flagged[truth]),
                "false_positive_rate": share(flagged[~truth]),
            }
    return found, DetectionFigures(
        found=found.says_so,
        threshold=float(found.threshold),
        flagged=int(flagged.sum()),
        of=len(flagged),
        seconds=seconds,
        facts=dict(found.facts),
        **figures,
    )


def write_suspects(findings: Findings, data: DataModule, path: Path, pictures: int) -> None:
    """Write a row a record, the most suspect first: id, place, file, label, whether it is flagged, and all scores.

    Args:
        findings: of detectors of records.
        data: where the records are from.
        path: the Parquet file.
        pictures: how many rows get their picture, as PNG.
    """
    import pyarrow as pa
    from pyarrow import parquet

    records, flagged = findings.records, findings.flagged
    of_records = {name: each for name, each in findings.suspicions.items() if each.ids is not None}
    # By how many of the detectors that found something flag it, and then by the rank that it has on average.
    found = [each for each in of_records.values() if each.says_so]
    votes = sum((each.flagged.cpu().double() for each in found), torch.zeros(len(records)).double())
    ranks = [each.scores.cpu().double().argsort().argsort().double() / len(records) for each in of_records.values()]
    suspect = flagged.double() * 1e6 + votes * 1e3 + (sum(ranks) if ranks else torch.zeros(len(records)))
    order = suspect.argsort(descending=True, stable=True)
    ids = records.ids.cpu()[order].tolist()
    table = {
        "id": pa.array(ids, pa.int64()),
        "record": [record_name(each) for each in ids],
        "file": [_file_of(data, each) for each in ids],
        "label": [records.class_names[label] for label in records.y.cpu()[order].tolist()],
        "flagged": pa.array(flagged[order].tolist(), pa.bool_()),
        "picture": pa.array([*_pictures(records, order[:pictures]), *[None] * (len(order) - pictures)], pa.binary()),
    }
    for name, each in of_records.items():
        table[f"{name}_score"] = pa.array(each.scores.cpu().double()[order].numpy())
        table[f"{name}_flagged"] = pa.array(each.flagged.cpu()[order].tolist(), pa.bool_())
    with replacing(path) as file:
        parquet.write_table(pa.table(table), file)


def _file_of(data: DataModule, identity: int) -> str | None:
    """The file that a record was read from, where its source has one a record."""
    files = getattr(data.source, "named", None)
    part, _, row = record_name(identity).partition(" ")
    if files is None or part not in ("train", "test"):
        return None
    names = files(part)
    return names[int(row)] if int(row) < len(names) else None


def _pictures(records: Records, rows: Tensor) -> list[bytes | None]:
    """The records at those rows as PNG files; None where they are no pictures."""
    if records.x.ndim != 4 or records.x.shape[1] not in (1, 3):
        return [None] * len(rows)
    from PIL import Image

    drawn: list[bytes | None] = []
    for picture in in_unit_range(records.x[rows]).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(file, "PNG")
        drawn.append(file.getvalue())
    return drawn


def _line(name: str, figures: Detection) -> str:
    """What a detector found, in a line."""
    what = "records" if figures.judges == "records" else "classes" if figures.of > 1 else "model"
    verdict = "FOUND" if figures.found else "nothing found"
    beside = "" if figures.twin is None else f"; clean twin: {'FOUND' if figures.twin.found else 'nothing found'}"
    return f"{name}: {verdict}, {figures.flagged:,} of {figures.of:,} {what} flagged{beside}"
