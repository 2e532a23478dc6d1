"""What detectors found, as a table: a row a detector, with the clean twin's verdict beside its own."""

from __future__ import annotations

from collections.abc import Mapping

from robustml.reporting.formats import percent, plain, seconds_text
from robustml.reporting.tables.cells import Cell, Row, Table
from robustml.results import Detection, DetectionFigures


def detection_table(detection: Mapping[str, Detection]) -> Table:
    """Each detector: whether it found something, what it flagged, and how that compares with the truth where known."""
    known = any(each.auroc is not None for each in detection.values())
    twins = any(each.twin is not None for each in detection.values())
    rows: list[Row] = []
    for name, each in detection.items():
        rates = (each.true_positive_rate, each.false_positive_rate)
        truth = [
            None if each.auroc is None else f"{each.auroc:.3f}",
            *(None if rate is None else percent(rate.value) for rate in rates),
        ]
        twin = [None if each.twin is None else _verdict(each.twin), _flagged(each.twin, each.judges)] if twins else []
        own = [_verdict(each), _flagged(each, each.judges)]
        rows.append([name, *own, *twin, *(truth if known else []), seconds_text(each.seconds)])
    beside = ["twin found", "twin flagged"] if twins else []
    told = ["AUROC", "poison found", "false alarms"] if known else []
    note = "A detector never sees the truth, which is held against its scores afterwards: "
    note += "the poison found is the share of poisoned records that is flagged, false alarms that of the others."
    if twins:
        note += " The twin is the same training without the poison."
    headings = ["detector", "found", "flagged", *beside, *told, "time"]
    return Table(headings, rows, words=frozenset({"found", "twin found"}), note=note if known else "")


def facts_table(detection: Mapping[str, Detection]) -> Table:
    """What must be known to read the figures: threshold, settings, and what each detector has to say besides."""
    rows: list[Row] = [
        [name, f"{each.threshold:.4g}", Cell("", chips=_chips(each.facts)), Cell("", chips=_chips(each.params))]
        for name, each in detection.items()
    ]
    return Table(["detector", "threshold", "facts", "settings"], rows, words=frozenset({"facts", "settings"}))


def _verdict(figures: DetectionFigures) -> Cell:
    return Cell("yes", level="alarm") if figures.found else Cell("no", level="fine")


def _flagged(figures: DetectionFigures | None, judges: str) -> Cell | None:
    if figures is None:
        return None
    what = "" if judges == "records" else "classes" if figures.of > 1 else "model"
    return Cell(f"{figures.flagged:,} of {figures.of:,}", more=what)


def _chips(facts: Mapping[str, object]) -> dict[str, str]:
    """Those that are set; of a long list its beginning."""
    texts = {name: plain(value) for name, value in facts.items() if value is not None}
    return {name: text if len(text) <= 60 else f"{text[:57]}..." for name, text in texts.items()}
