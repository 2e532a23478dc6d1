"""A run directory as reports see it: the results, and whatever else of it is there."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.errors import RequestError
from robustml.reporting.formats import parse_eps
from robustml.reporting.schema import Results, read_results
from robustml.untrusted import own_files

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Examples", "Run", "find_runs", "labels", "read_config", "read_run"]


@dataclass(frozen=True, eq=False)
class Examples:
    """A few test examples before and after an attack.

    Attributes:
        x: examples, float (K, C, H, W) in [0, 1], or (K, D) where they are not images.
        x_adv: the same after the attack.
        y: true labels, int (K,).
        prediction: labels given to `x`, int (K,).
        adversarial_prediction: labels given to `x_adv`, int (K,).
        confidence: probability of `prediction`, float (K,).
        adversarial_confidence: probability of `adversarial_prediction`, float (K,).
        class_names: name of each label; empty if unknown.
        attack: name of the attack.
    """

    x: NDArray[np.floating[Any]]
    x_adv: NDArray[np.floating[Any]]
    y: NDArray[np.integer[Any]]
    prediction: NDArray[np.integer[Any]]
    adversarial_prediction: NDArray[np.integer[Any]]
    confidence: NDArray[np.floating[Any]]
    adversarial_confidence: NDArray[np.floating[Any]]
    class_names: tuple[str, ...]
    attack: str

    @property
    def images(self) -> bool:
        """Whether the examples can be drawn."""
        return self.x.ndim == 4

    def name(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.class_names[label] if 0 <= label < len(self.class_names) else str(label)


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
        """The budget that the config trained with (`threat.eps`), or None if it does not say."""
        threat = self.config.get("threat")
        return parse_eps(threat.get("eps")) if isinstance(threat, dict) else None

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
        RequestError: if results.json is missing, or any of the files cannot be understood.
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
        config_text=config_file.read_text(encoding="utf-8") if config_file.is_file() else None,
        config=read_config(config_file),
        examples=_read_examples(path / "examples.npz"),
        health=_read_health(path / "health.csv"),
    )


def find_runs(folder: Path | str) -> list[Run]:
    """All runs at or below a folder, by path; hidden folders are passed over.

    Raises:
        RequestError: if the folder is missing, or a run in it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder")
    files = [file for file in folder.rglob("results.json") if not _hidden(file.relative_to(folder))]
    return [read_run(file.parent) for file in sorted(files)]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def labels(runs: Sequence[Run]) -> list[str]:
    """A short, distinct name for each run: its experiment; with seed or folder where that is not enough."""
    names = [run.results.experiment for run in runs]
    return [
        name
        if names.count(name) == 1
        else f"{name}{_distinction(run, [other for other in runs if _alike(run, other)])}"
        for run, name in zip(runs, names, strict=True)
    ]


def _alike(run: Run, other: Run) -> bool:
    return run.results.experiment == other.results.experiment


def _distinction(run: Run, alike: Sequence[Run]) -> str:
    """What tells a run from others of its experiment: the seed, else the part of the path that differs."""
    if len({other.results.seed for other in alike}) == len(alike):
        return f", seed {run.results.seed}"
    # Not the whole path: a report must not spell out the folders of the machine.
    common = Path(os.path.commonpath([other.path.resolve().parent for other in alike]))
    return f" ({run.path.resolve().relative_to(common).as_posix()})"


def read_config(path: Path) -> dict[str, Any]:
    """A YAML mapping, or an empty one if the file is absent.

    Raises:
        RequestError: if the file is not a YAML mapping.
    """
    import yaml

    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RequestError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RequestError(f"{path} must hold a YAML mapping, got {type(content).__name__}")
    return content


def _read_table(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    if not path.is_file():
        return None
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not a table of comma-separated values: {error}") from error


def _read_health(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    frame = _read_table(path)
    if frame is None or not {"step", "fgsm_accuracy", "pgd_accuracy", "gradient_alignment", "action"} <= {*frame}:
        return None
    actions = frame["action"].fillna("").astype(str)
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
        frame.insert(0, "epoch", range(len(frame)))
    # A resumed run writes an epoch again: the later row is the one that counts.
    frame = frame.dropna(subset=["epoch"]).drop_duplicates("epoch", keep="last")
    return None if frame.empty else frame.sort_values("epoch").reset_index(drop=True)


def _read_examples(path: Path) -> Examples | None:
    import numpy as np

    if not path.is_file():
        return None
    try:
        # allow_pickle=False: a report must not run what a file brings along.
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
            count = len(x)
            unknown = np.full(count, np.nan)
            examples = Examples(
                x=x,
                x_adv=arrays["x_adv"],
                y=y.astype(int),
                prediction=arrays["prediction"].astype(int),
                adversarial_prediction=arrays["adversarial_prediction"].astype(int),
                confidence=arrays.get("confidence", unknown),
                adversarial_confidence=arrays.get("adversarial_confidence", unknown),
                class_names=tuple(str(name) for name in arrays["class_names"]) if "class_names" in arrays else (),
                attack=str(arrays["attack"]) if "attack" in arrays else "",
            )
    except KeyError as error:
        raise RequestError(f"{path} lacks an array: {error.args[0]}") from error
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} cannot be read as arrays: {error}") from error
    lengths = {len(examples.x_adv), len(y), len(examples.prediction), len(examples.adversarial_prediction)}
    lengths |= {len(examples.confidence), len(examples.adversarial_confidence)}
    if lengths != {count} or examples.x.shape != examples.x_adv.shape:
        raise RequestError(f"{path}: the arrays differ in length or shape")
    return examples if count else None
