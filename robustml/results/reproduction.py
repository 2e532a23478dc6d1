"""What a reproduction came to: every run, ours beside the paper's, the verdicts; as reproduction.json holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from robustml.results.paper import Paper, PerEpoch, Published
from robustml.results.rates import Block
from robustml.results.reading import checked, read_object
from robustml.results.run import DataFacts, Environment

SCHEMA = 1

Verdict = Literal["match", "within tolerance", "off", "collapsed", "not measured", "no target"]
MISSES = ("off", "collapsed")


class SeedRun(Block):
    """One run: its figures by name (None where it does not have one), and what became of its health.

    `collapsed` says whether the last look of health.csv found it unhealthy, and nothing was done about it; None where
    nobody looked. `rollbacks` counts how often the health callback put healthy weights back and went on.
    """

    variant: str
    seed: int
    folder: str
    failed: str | None = None
    figures: dict[str, float | None] = Field(default_factory=dict)
    collapsed: bool | None = None
    rollbacks: int = 0
    train_seconds: float | None = None


class Comparison(Block):
    """One figure of one variant over its seeds, against the published one where there is one.

    Attributes:
        values: one a seed that has it.
        spread: standard deviation over seeds; None for one seed.
        healthy: mean over the seeds that did not collapse, where some did and some did not.
        n: examples that a value of ours was measured on; None for a curve whose n nobody wrote down.
        ci95: Wilson's 95% interval of the mean at that n: what a draw of other test examples could have given.
    """

    variant: str
    figure: str
    share: bool
    published: Published | None
    values: list[float]
    mean: float | None
    spread: float | None
    healthy: float | None
    n: int | None
    ci95: tuple[float, float] | None
    difference: float | None
    collapsed_seeds: list[int]
    verdict: Verdict


class EpochRow(Block):
    """One epoch of the authors' log beside ours."""

    epoch: int
    published: list[float]
    ours: list[float]


class EpochTable(Block):
    """The shared prefix of the authors' log and one of our runs; `differences` are means over it, ours minus theirs."""

    variant: str
    seed: int
    reference: PerEpoch
    rows: list[EpochRow]
    differences: list[float]
    verdict: Verdict


class Reproduction(Block):
    """All of reproduction.json, schema 1."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    paper: Paper
    overrides: list[str]
    runs: list[SeedRun]
    comparisons: list[Comparison]
    epochs: list[EpochTable]
    data: DataFacts | None = None
    environment: Environment | None = None

    @property
    def missed(self) -> list[str]:
        """Everything that is off or collapsed or failed, in words."""
        return [
            *(f"{row.variant} {row.figure}: {row.verdict}" for row in self.comparisons if row.verdict in MISSES),
            *(
                f"{table.variant} seed {table.seed} epoch by epoch: {table.verdict}"
                for table in self.epochs
                if table.verdict in MISSES
            ),
            *(f"{run.variant} seed {run.seed} failed: {run.failed}" for run in self.runs if run.failed),
        ]

    @property
    def unmeasured(self) -> list[str]:
        """The published figures that no run has; with their variant where there are several."""
        several = len({row.variant for row in self.comparisons}) > 1
        return [
            f"{row.variant} {row.figure}" if several else row.figure
            for row in self.comparisons
            if row.verdict == "not measured"
        ]


def read_reproduction(path: Path) -> Reproduction:
    """Read and check a reproduction.json.

    Raises:
        RequestError: it is missing or does not pass the checks.
    """
    return checked(Reproduction, read_object(path), str(path))
