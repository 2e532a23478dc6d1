"""Every defense on every backdoor: one CSV, and a page with what was found, what was removed, and at what price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.files import write_text
from robustml.reporting.figures.charts import heat_map
from robustml.reporting.figures.look import Chart
from robustml.reporting.formats import percent, seconds_text
from robustml.reporting.pages.links import stamp
from robustml.reporting.pages.template import Section, write_page
from robustml.reporting.spreadsheet import csv_text
from robustml.reporting.tables.cells import Cell, Content, Row, Table
from robustml.reporting.tables.text import table_text
from robustml.results import Results

if TYPE_CHECKING:
    import pandas as pd


def write_defenses(
    rows: Sequence[Mapping[str, Any]], failed: Mapping[str, str], measured: Sequence[Results], folder: Path
) -> pd.DataFrame:
    """Write defenses.csv and defenses.html.

    Args:
        rows: a row for each poison, seed and defense.
        failed: what could not be done, and why.
        measured: the results of the backdoored models.
        folder: gets the files.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    write_text(folder / "defenses.csv", csv_text(frame))
    poisons, seeds = frame["poison"].nunique(), frame["seed"].nunique()
    write_page(
        folder / "defenses.html",
        "comparison.html.j2",
        kind="defenses",
        kicker=", ".join(dict.fromkeys(each.data.name for each in measured)),
        heading="Backdoors against defenses",
        stamp=stamp([each.data for each in measured], [each.environment for each in measured]),
        lead=f"{poisons} poisons, seeds: {seeds}. Every figure is the median over the seeds.",
        left_out=dict(failed),
        sections=_sections(frame),
        closing="Every figure, a row for each poison, seed and defense: defenses.csv.",
    )
    return frame


def defenses_text(frame: pd.DataFrame) -> str:
    """The tables of the page, for a terminal."""
    tables = [(section.title, table) for section in _sections(frame, drawn=False) for table in section.tables]
    return "\n\n".join(f"{title}\n{table_text(table)}" for title, table in tables)


def _sections(frame: pd.DataFrame, *, drawn: bool = True) -> list[Section]:
    poisons = list(dict.fromkeys(frame["poison"]))
    detectors, repairs = (frame[frame["kind"] == kind] for kind in ("detector", "repair"))
    found, left = Chart(""), Chart("")
    if drawn:
        found = _picture(detectors, "auroc", poisons, _FOUND)
        left = _picture(repairs, "attack_success_rate_after", poisons, _LEFT)
    sections = [
        Section("What finds what", [_detector_table(detectors, poisons)], charts=[found]),
        Section("What removes what", [_repair_table(repairs, frame, poisons)], charts=[left]),
        Section("Whether it comes back", [_back_table(repairs, poisons)]),
        Section("Adversarial training against backdoors", [_training_table(frame, poisons)]),
    ]
    return [section for section in sections if any(table.rows for table in section.tables)]


_FOUND = "AUROC of the scores of records, in percent: 50 is chance. Detectors of models have none."
_LEFT = "Attack success rate after the repair, in percent."


def _detector_table(frame: pd.DataFrame, poisons: Sequence[str]) -> Table:
    def cell(part: pd.DataFrame) -> Content:
        count = len(part)
        found, twin = int(part["found"].sum()), int(part["twin_found"].fillna(False).astype(bool).sum())
        auroc = part["auroc"].median()
        text = f"{found} of {count}" if auroc != auroc else f"{auroc:.3f}"
        more = f"twin {twin}" if auroc != auroc else f"found {found} of {count}, twin {twin}"
        return Cell(text, more=more)

    note = "The area under the ROC curve of records' scores; how many models were found out, and how many clean twins."
    return _table("detector", frame, poisons, cell, note)


def _repair_table(frame: pd.DataFrame, everything: pd.DataFrame, poisons: Sequence[str]) -> Table:
    def cell(part: pd.DataFrame) -> Content:
        return Cell(
            percent(part["attack_success_rate_after"].median()),
            more=f"clean {percent(part['clean_accuracy_after'].median())}, "
            f"recovery {percent(part['recovery_accuracy_after'].median())}",
        )

    before = []
    for poison in poisons:
        part = everything[everything["poison"] == poison].drop_duplicates("seed")
        before.append(
            Cell(
                percent(part["attack_success_rate"].median()), more=f"clean {percent(part['clean_accuracy'].median())}"
            )
        )
    table = _table(
        "repair",
        frame,
        poisons,
        cell,
        "Attack success rate; clean accuracy; recovery: triggered inputs read as they should be.",
    )
    return Table(table.headings, [["before", *before, ""], *table.rows], note=table.note)


def _back_table(frame: pd.DataFrame, poisons: Sequence[str]) -> Table:
    def cell(part: pd.DataFrame) -> Content:
        back, twin = part["reactivated"].median(), part["twin_reactivated"].median()
        if back != back:
            return None
        return Cell(percent(back), more=f"twin {percent(twin)}; near {percent(part['searched'].median())}")

    note = "Attack success rate of the repaired model once it was fine-tuned on a few poisoned records; of the twin, "
    note += "treated alike; and of the repaired model under a trigger that was searched for near the old one."
    return _table("repair", frame, poisons, cell, note)


def _training_table(frame: pd.DataFrame, poisons: Sequence[str]) -> Table:
    hardened = frame[frame["kind"] == "training"]

    def cell(part: pd.DataFrame) -> Content:
        return Cell(
            percent(part["attack_success_rate_after"].median()),
            more=f"clean {percent(part['clean_accuracy_after'].median())}, "
            f"robust {percent(part['robust_accuracy_after'].median())}",
        )

    table = _table("training", hardened, poisons, cell, "Attack success rate; clean accuracy; accuracy under attack.")
    plain = []
    for poison in poisons:
        part = frame[frame["poison"] == poison].drop_duplicates("seed")
        plain.append(
            Cell(
                percent(part["attack_success_rate"].median()), more=f"clean {percent(part['clean_accuracy'].median())}"
            )
        )
    return Table(
        table.headings[:-1],
        [["standard", *plain], *(row[:-1] for row in table.rows)] if table.rows else [],
        note=table.note,
    )


def _table(what: str, frame: pd.DataFrame, poisons: Sequence[str], cell: Any, note: str) -> Table:
    """A row a defense, a column a poison, and the time that it takes."""
    rows: list[Row] = []
    for name in dict.fromkeys(frame["defense"]):
        own = frame[frame["defense"] == name]
        cells = [cell(part) if len(part := own[own["poison"] == poison]) else None for poison in poisons]
        seconds = own["seconds"].median() if "seconds" in own else float("nan")
        rows.append([str(name).replace("_", " "), *cells, "" if seconds != seconds else seconds_text(seconds)])
    return Table([what, *poisons, "time"], rows, note=note)


def _picture(frame: pd.DataFrame, column: str, poisons: Sequence[str], caption: str) -> Chart:
    """The medians as a heat map."""
    if column not in frame or frame[column].isna().all():
        return Chart("")
    known = frame.dropna(subset=[column])
    values = known.pivot_table(index="defense", columns="poison", values=column, aggfunc="median")
    order = [name for name in dict.fromkeys(frame["defense"]) if name in values.index]
    values = values.reindex(index=order, columns=[poison for poison in poisons if poison in values.columns])
    return Chart(heat_map(values, title=caption), caption)
