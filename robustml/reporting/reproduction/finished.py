"""The figures that a paper asks for, read off finished runs: their results, their curves and later evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robustml.errors import RequestError
from robustml.reporting.evaluations import evaluations_of
from robustml.reporting.runs import Run, read_run
from robustml.results import Rate, Results
from robustml.results.paper import Figure, Paper, is_share, name_of
from robustml.results.reproduction import SeedRun


@dataclass(frozen=True)
class Measured:
    """A value, and the number of examples behind it where it is known."""

    value: float
    n: int | None = None


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        run: its results, metrics.csv and, with the health callback, health.csv.
        evaluations: results of the same weights within the same threat, from `robustml evaluate run=`: they are asked
            for what the run itself does not have, and the one with most examples answers.
    """

    run: Run
    evaluations: list[Results] = field(default_factory=list)

    def measure(self, figure: Figure) -> Measured | None:
        """A figure of the run, or None where the run does not have it."""
        kind, _, name = figure.metric.replace("/", "@").partition("@")
        if kind == "collapse_epoch":
            return self._collapse()
        if kind in ("health", "val", "train"):
            return self._curve(figure, kind, name)
        own = list(_rates(kind, name, self.run.results))
        others = [rate for results in self.evaluations for rate in _rates(kind, name, results)]
        found = own[0] if own else max(others, key=lambda rate: rate.n, default=None)
        return None if found is None or found.value is None else Measured(found.value, found.n)

    def _collapse(self) -> Measured | None:
        if self.run.health is None:
            return None
        unhealthy = self.run.health.loc[self.run.health["healthy"] == 0, "epoch"]
        return None if unhealthy.empty else Measured(float(unhealthy.iloc[0]))

    def _curve(self, figure: Figure, kind: str, name: str) -> Measured | None:
        table, column = (self.run.health, name) if kind == "health" else (self.run.metrics, figure.metric)
        if table is None or column not in table.columns:
            return None
        # One batch of training images is few: the measurements of an epoch together say more.
        table = table.groupby("epoch", as_index=False)[[column]].mean().dropna()
        if figure.at in ("max", "min"):
            values = table[column].sort_values(ascending=figure.at == "max")
        elif figure.at == "last":
            values = table[column]
        else:
            selection = self.run.results.selection
            last = int(table["epoch"].max()) if len(table) else 0
            best = selection.best.epoch if selection is not None else last
            values = table.loc[table["epoch"] == (best if figure.at == "best" else figure.at), column]
        if values.empty:
            return None
        n = self.run.results.data.val if kind == "val" and is_share(figure.metric) else None
        return Measured(float(values.iloc[-1]), n or None)

    @property
    def collapsed(self) -> bool | None:
        """Whether the last look found it unhealthy, and healthy weights were not put back; None without health.csv."""
        if self.run.health is None:
            return None
        last = self.run.health.iloc[-1]
        return bool(last["healthy"] == 0) and last["action"] not in ("rollback", "stop")

    @property
    def rollbacks(self) -> int:
        """How often the health callback went back to healthy weights."""
        return 0 if self.run.health is None else int((self.run.health["action"] == "rollback").sum())


def read_finished(folder: Path) -> Finished:
    """A run directory with results.json.

    Raises:
        RequestError: a file of it cannot be read.
    """
    sources, _, broken = evaluations_of(folder)
    if broken:
        raise RequestError(f"{folder}: {broken[0]}")
    own, *others = (source.results for source in sources)
    run = read_run(folder)
    if run.health is not None and not {"epoch", "healthy"} <= {*run.health}:
        raise RequestError(f"{folder / 'health.csv'} is not a run's health: expected the columns epoch and healthy")
    return Finished(run, [other for other in others if other.threat == own.threat])


def read_seed(folder: Path, paper: Paper, variant: str, seed: int, name: str) -> tuple[SeedRun, Finished]:
    """The figures of one run that the paper asks for.

    Args:
        folder: the run directory.
        paper: says which figures.
        variant: which of its variants that was.
        seed: which seed.
        name: what reproduction.json calls the folder.
    """
    finished = read_finished(folder)
    measured = {name_of(figure): finished.measure(figure) for figure in figures_of(paper, variant)}
    run = SeedRun(
        variant=variant,
        seed=seed,
        folder=name,
        figures={key: None if found is None else found.value for key, found in measured.items()},
        collapsed=finished.collapsed,
        rollbacks=finished.rollbacks,
        train_seconds=finished.run.results.cost.train_seconds,
    )
    return run, finished


def figures_of(paper: Paper, variant: str) -> list[Figure]:
    """What is looked at in every run of a variant: the published figures, then the others that are shown."""
    figures: dict[str, Figure] = {}
    for figure in (*paper.published_for(variant), *paper.shown):
        figures.setdefault(name_of(figure), figure)
    return list(figures.values())


def _rates(kind: str, name: str, results: Results) -> Iterator[Rate]:
    """A figure of results.json; none of them where the evaluation was broken off, for they are bounds then."""
    if not results.complete:
        return
    if kind == "clean_accuracy":
        yield results.clean_accuracy
    elif kind == "worst_case" and results.worst_case is not None:
        yield results.worst_case.robust_accuracy
    elif kind == "robust_accuracy" and name in results.attacks:
        yield results.attacks[name].robust_accuracy
    elif kind == "attack_success_rate" and results.backdoor is not None:
        yield results.backdoor.attack_success_rate
    elif kind == "certified_accuracy" and results.certified is not None:
        radius = float(name)
        if radius == 0:
            yield results.certified.accuracy
        yield from (point.certified_accuracy for point in results.certified.radii if abs(point.radius - radius) < 1e-9)
