"""A run directory as reports see it: the results, and whatever else of it is there."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.errors import RequestError, printable
from robustml.files import read_text
from robustml.reporting.formats import eps_text, parse_eps
from robustml.results import Examples, Results, read_results, read_settings_file
from robustml.untrusted import own_files

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run; None stands for a file that the run did not write.

    Attributes:
        path: the run directory.
        results: results.json.
        metrics: metrics.csv, a row an epoch.
        config_text: config.yaml, as it is written.
        config: config.yaml, parsed; empty if absent.
        examples: examples.npz.
        health: health.csv, a row a measurement.
    """

    path: Path
    results: Results
    metrics: pd.DataFrame | None
    config_text: str | None
    config: dict[str, Any]
    examples: Examples | None
    health: pd.DataFrame | None = None

    @property
    def train_eps(self) -> float | None:
        """The budget within which training attacked (`threat.eps`); None where it did not, or none was trained."""
        if self.results.command != "train" or not self._attacked_in_training:
            return None
        threat = self.config.get("threat")
        return parse_eps(threat.get("eps")) if isinstance(threat, dict) else None

    @property
    def budget_remark(self) -> str:
        """What the budget of the attacker has to do with the training of the model."""
        if self.results.command != "train" or "objective" not in self.config:
            return "largest change allowed"
        if not self._attacked_in_training:
            return "trained without attacks"
        return "largest change allowed" if self.train_eps is None else f"training threat {eps_text(self.train_eps)}"

    @property
    def _attacked_in_training(self) -> bool:
        """Whether the objective has an attack or bounds a threat, itself or in one that it wraps."""
        # A class of somebody else's may keep its attack elsewhere; the share of one that has none is clockwork.
        return (self.results.cost.attack_share or 0.0) > 0.02 or any(
            key in ("attack", "threat") and value is not None for key, value in _entries(self.config.get("objective"))
        )

    @property
    def unit(self) -> str:
        """What one example is called."""
        if self.examples is not None:
            return "images" if self.examples.images else "examples"
        data = self.config.get("data")
        shape = data.get("shape") if isinstance(data, dict) else None
        return "images" if not isinstance(shape, list) or len(shape) == 3 else "examples"


def read_run(path: Path | str) -> Run:
    """Read a run directory; only results.json must be there.

    Raises:
        RequestError: if results.json is missing, or any of the files is empty, damaged or not understood; names it.
    """
    path = Path(path)
    if not path.is_dir():
        raise RequestError(f"{path} is not a run directory: no such folder")
    own_files(path)
    results = read_results(path / "results.json")
    config_file = path / "config.yaml"
    return Run(
        path=path,
        results=results,
        metrics=_read_metrics(path / "metrics.csv"),
        config_text="\n".join(map(printable, read_text(config_file).split("\n"))) if config_file.is_file() else None,
        config=read_settings_file(config_file),
        examples=Examples.read(path / "examples.npz"),
        health=_read_health(path / "health.csv"),
    )


def find_runs(folder: Path | str) -> tuple[list[Run], dict[str, str]]:
    """All runs at or below a folder, by path; hidden folders are passed over.

    Returns:
        The runs, and why each run that cannot be read was left out, by its place below `folder`.

    Raises:
        RequestError: if the folder is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder")
    runs, left_out = [], {}
    for file in sorted(folder.rglob("results.json")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        try:
            runs.append(read_run(file.parent))
        except RequestError as error:
            # What is made of it travels: it names files by their place below the folder.
            left_out[printable(file.parent.relative_to(folder).as_posix())] = printable(
                str(error).replace(str(folder), ".")
            )
    return runs, left_out


def lying(recorded: str, near: Path) -> Path | None:
    """Where a run directory lies that was recorded by its path; None where it is not found.

    There, or as it lay to a run that was moved together with it: at the end of its path below a folder above `near`.
    """
    path = Path(recorded)
    if (path / "config.yaml").is_file():
        return path
    names = path.parts[1:] if path.is_absolute() else path.parts
    if ".." in names:
        return None
    for folder in near.resolve().parents:
        for start in range(max(len(names) - 1, 0)):
            candidate = folder.joinpath(*names[start:])
            if (candidate / "config.yaml").is_file():
                return candidate
    return None


def comparable(runs: Sequence[Run]) -> bool:
    """Whether one figure under attack is better than another: other models, on the same examples, within one budget."""
    contests = {
        (run.results.data.fingerprint or run.results.data.name, run.results.threat.norm, run.results.threat.eps,
         run.results.clean_accuracy.n)
        for run in runs
    }  # fmt: skip
    return len(contests) == 1 and not one_model(runs)


def one_model(runs: Sequence[Run]) -> bool:
    """Whether all of several runs measured the same weights."""
    weights = {run.results.model.sha256 for run in runs}
    return len(runs) > 1 and len(weights) == 1 and None not in weights


def labels(runs: Sequence[Run]) -> list[str]:
    """A short, distinct name for each run: its experiment; with seed or folder where that is not enough."""
    names = [run.results.experiment for run in runs]
    return [
        name
        if names.count(name) == 1
        else f"{name}{_distinction(run, [other for other, same in zip(runs, names, strict=True) if same == name])}"
        for run, name in zip(runs, names, strict=True)
    ]


def _distinction(run: Run, alike: Sequence[Run]) -> str:
    """What tells a run from others of its experiment: the seed, else the part of the path that differs."""
    if len({other.results.seed for other in alike}) == len(alike):
        return f", seed {run.results.seed}"
    # Not the whole path: a report must not spell out the folders of the machine.
    common = Path(os.path.commonpath([other.path.resolve().parent for other in alike]))
    return f" ({printable(run.path.resolve().relative_to(common).as_posix())})"


def _entries(settings: object) -> Iterator[tuple[object, object]]:
    """Keys and values of nested settings."""
    for key, value in settings.items() if isinstance(settings, dict) else ():
        yield key, value
        yield from _entries(value)


def _read_table(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    if not path.is_file():
        return None
    try:
        return pd.read_csv(io.StringIO(read_text(path)))
    except RequestError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"{path} is not a table of comma-separated values: {reason}") from error


def _read_health(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    frame = _read_table(path)
    if frame is None or not {"step", "fgsm_accuracy", "pgd_accuracy", "gradient_alignment", "action"} <= {*frame}:
        return None
    actions = frame["action"].astype(object).fillna("").astype(str)
    frame = frame.drop(columns="action").apply(pd.to_numeric, errors="coerce").assign(action=actions)
    frame = frame.dropna(subset=["step"])
    return None if frame.empty else frame.sort_values("step").reset_index(drop=True)


def _read_metrics(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    frame = _read_table(path)
    if frame is None:
        return None
    for column in frame.columns:
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    if "epoch" not in frame.columns:
        frame.insert(0, "epoch", range(1, len(frame) + 1))
    # A resumed run writes an epoch again: the later row is the one that counts.
    frame = frame.dropna(subset=["epoch"]).drop_duplicates("epoch", keep="last")
    return None if frame.empty else frame.sort_values("epoch").reset_index(drop=True)
