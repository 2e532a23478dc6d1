"""What the `paper` block of an experiment may say: published figures, where they are from, what is different here.

Every published figure names where it was seen. What somebody remembers has no such place, so it cannot be written down:
neither `seen` nor anything else here takes "memory".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from robustml.results.rates import Block
from robustml.results.reading import checked

At = Literal["last", "best", "max", "min"] | Annotated[int, Field(ge=0)]

_RESULT = re.compile(
    r"clean_accuracy|worst_case|attack_success_rate|collapse_epoch|robust_accuracy@\w+|certified_accuracy@[\d.]+"
)
_COLUMN = re.compile(r"(health|val|train)/\w+")


class Figure(Block):
    """A figure of a run.

    Attributes:
        metric: one figure of results.json: ``clean_accuracy``, ``worst_case``, ``attack_success_rate``,
            ``robust_accuracy@<name in evaluation.attacks>`` or ``certified_accuracy@<radius>``; one place of a curve:
            ``health/<column>`` of health.csv (the mean of an epoch's measurements), ``val/<column>`` or
            ``train/<column>`` of metrics.csv; or ``collapse_epoch``, the first epoch that health.csv calls unhealthy.
        at: which row of a curve: ``last``, the selected epoch (``best``), the one with the highest or lowest value, or
            the number of an epoch, from 1.
    """

    metric: str
    at: At = "last"

    @model_validator(mode="after")
    def _known(self) -> Figure:
        if not _RESULT.fullmatch(self.metric) and not _COLUMN.fullmatch(self.metric):
            raise ValueError(
                f"metric {self.metric!r} is unknown: expected clean_accuracy, worst_case, attack_success_rate, "
                "collapse_epoch, robust_accuracy@<attack>, certified_accuracy@<radius>, health/<column>, val/<column> "
                "or train/<column>"
            )
        if self.at != "last" and not _COLUMN.fullmatch(self.metric):
            raise ValueError(f"at={self.at!r} chooses a row of a curve, and {self.metric} is no curve")
        return self


class Published(Figure):
    """A figure that somebody published and that was seen where `source` says.

    Attributes:
        value: a share in [0, 1] where the figure is one, as nearly all are.
        tolerance: how far our mean may be away from it.
        n: examples that the paper measured it on; None where it does not say.
        attack: what the paper measured it with, in words.
        variant: the variant that it is published for; None for the first.
        seen: the kind of place; a value read off a figure is right to about 0.015.
    """

    value: float
    tolerance: Annotated[float, Field(gt=0)]
    source: str
    seen: Literal["repo", "issue", "abstract", "figure"]
    n: Annotated[int, Field(gt=0)] | None = None
    attack: str | None = None
    variant: str | None = None

    @model_validator(mode="after")
    def _a_share(self) -> Published:
        if is_share(self.metric) and not (0 <= self.value <= 1 and self.tolerance < 1):
            raise ValueError(
                f"{self.metric} is a share in [0, 1], got {self.value:g} with tolerance {self.tolerance:g}"
            )
        return self


class ThirdParty(Block):
    """What others measured, in words: shown beside ours, never compared."""

    what: str
    value: str
    source: str


class Variant(Block):
    """One of several trainings that a reproduction sets side by side: the experiment with overrides.

    ``{folder}`` and ``{seed}`` in an override stand for the folder of the reproduction and the seed of the run: a
    variant may start from what one before it left in ``{folder}/<variant>/seed-{seed}``.
    """

    name: Annotated[str, Field(pattern=r"[a-z0-9_]+")]
    overrides: list[str] = Field(default_factory=list)
    what: str | None = None


class Budget(Block):
    """What one seed of all variants costs: where it is meant to run, and for how long; an estimate until it ran."""

    device: Literal["cpu2", "h200", "many-gpu"]
    minutes: Annotated[float, Field(gt=0)]


class PerEpoch(Block):
    """The authors' log: figures epoch by epoch, compared as far as our run has come.

    Attributes:
        columns: our column of metrics.csv for each value of a row.
        values: epoch, from 1 (logs that count from 0 are renumbered), to its values, in the order of `columns`.
        tolerance: how far the mean difference over the shared epochs may be from 0.
    """

    columns: list[str]
    values: dict[Annotated[int, Field(ge=1)], list[float]]
    tolerance: Annotated[float, Field(gt=0)]
    source: str
    variants: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> PerEpoch:
        for epoch, values in self.values.items():
            if len(values) != len(self.columns):
                raise ValueError(f"epoch {epoch} has {len(values)} values, expected {len(self.columns)}")
        return self


class Paper(Block):
    """The whole block."""

    id: str
    title: str
    citation: str
    arxiv: str | None = None
    fidelity: Literal["exact", "near", "reduced", "adapted"]
    budget: Budget
    status: str = "not yet run"
    deviations: list[str] = Field(default_factory=list)
    published: list[Published] = Field(default_factory=list)
    third_party: list[ThirdParty] = Field(default_factory=list)
    shown: list[Figure] = Field(default_factory=list)
    per_epoch: list[PerEpoch] = Field(default_factory=list)
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(default_factory=lambda: [0])
    variants: list[Variant] = Field(default_factory=lambda: [Variant(name="main")], min_length=1)

    @model_validator(mode="after")
    def _variants_are_known(self) -> Paper:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"variants have the same name: {', '.join(names)}")
        named = [figure.variant for figure in self.published if figure.variant is not None]
        named += [name for reference in self.per_epoch for name in reference.variants]
        for name in named:
            if name not in names:
                raise ValueError(f"variant {name!r} is unknown; there are {', '.join(names)}")
        return self

    def published_for(self, variant: str) -> list[Published]:
        """The published figures of a variant, in the order of the block."""
        first = self.variants[0].name
        return [figure for figure in self.published if (figure.variant or first) == variant]


def is_share(metric: str) -> bool:
    """Whether a figure lies in [0, 1] and is written as a percentage."""
    return metric.endswith("accuracy") or metric in ("worst_case", "attack_success_rate") or "accuracy@" in metric


def name_of(figure: Figure) -> str:
    """The figure in one word, with its row where it has one."""
    return f"{figure.metric} at {figure.at}" if _COLUMN.fullmatch(figure.metric) else figure.metric


def read_paper(block: Mapping[str, Any], name: str) -> Paper:
    """Check a block.

    Raises:
        RequestError: it does not fit; names the first fault.
    """
    return checked(Paper, dict(block), f"the paper block of {name}")
