"""The schema of card.json, and reading one: figures of one model, each with the results.json that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from robustml.errors import RequestError
from robustml.results.backdoor import Backdoor
from robustml.results.rates import Block, Rate
from robustml.results.reading import checked, read_content
from robustml.results.results_json import require_schema
from robustml.results.robustness import AttackResult, Certified, Corruptions, Curve, Flag
from robustml.results.run import Cost, DataFacts, Environment, ModelFacts, Threat

CARD_SCHEMA = 1


class Figure(Block):
    """A rate, and the results.json that holds it, by its path within the run directory."""

    accuracy: Rate
    source: str


class ClassFigure(Figure):
    """The class that fares worst."""

    label: int
    name: str


class AttackFigure(AttackResult):
    """One attack of one evaluation; not `complete`, its accuracy is an upper bound."""

    attack: str
    source: str
    complete: bool


class ThreatFigures(Block):
    """All that was tried within one budget.

    `worst_case` is None where no evaluation was completed; `others` are the worst cases of other complete evaluations,
    `upper_bounds` those of evaluations broken off. `rounded_accuracy` is the smallest of the attacks of one
    evaluation, their images stored with 8 bits a value; `max_norm` is the largest change that any attack made.
    """

    threat: Threat
    worst_case: Figure | None
    rounded_accuracy: Figure | None
    worst_class: ClassFigure | None
    others: list[Figure]
    upper_bounds: list[Figure]
    max_norm: float
    attacks: list[AttackFigure]

    @property
    def lower(self) -> list[Figure]:
        """Those of `upper_bounds` that lie below the worst case, by more than chance explains."""
        if self.worst_case is None:
            return []
        shown = self.worst_case.accuracy
        found = []
        for bound in self.upper_bounds:
            rate = bound.accuracy
            # On as many images they are the same images; on fewer, the figure may be lower by chance.
            limit = rate.value if rate.n == shown.n else rate.ci95[1]
            if limit is not None and shown.value is not None and limit < shown.value:
                found.append(bound)
        return found


class SourcedCurve(Block):
    """A curve, the norm of its budgets, and where it is from."""

    norm: str
    curve: Curve
    source: str


class SourcedCorruptions(Block):
    """Accuracy under common corruptions, and where it is from."""

    corruptions: Corruptions
    source: str


class SourcedCertified(Block):
    """What is proved, and where it is from."""

    certified: Certified
    source: str


class SourcedBackdoor(Block):
    """What a backdoor does, and where it is from."""

    backdoor: Backdoor
    source: str


class CardVerdict(Block):
    """The verdict over all files: "fine", "caution" or "alarm", a word or two, and sentences."""

    level: Literal["fine", "caution", "alarm"]
    word: str
    sentences: list[str]


class SourcedFlag(Flag):
    """A flag and every file that raises it."""

    sources: list[str]


class Evidence(Block):
    """A results.json that the card draws on: its digest, that of the config.yaml beside it, and how to repeat it."""

    name: str
    sha256: str
    config_sha256: str | None
    command_line: str | None
    complete: bool
    n: int
    threat: Threat
    attacks: list[str]
    environment: Environment


class MappedFigure(Block):
    """What was measured, in words; the results.json that says so, and the section of the page that shows it."""

    text: str
    source: str
    section: Literal["figures", "attacks", "corruptions", "certified", "flags", "files"]


class Clause(Block):
    """What a text asks about, what was measured of it, and what was not, with the command that would measure it."""

    clause: str
    about: str
    measured: list[MappedFigure]
    not_measured: list[str]


class Mapping(Block):
    """A text by other people, and where in it the figures of the card belong. A mapping claims no conformity."""

    text: str
    identifier: str
    clauses: list[Clause]


class Card(Block):
    """All of card.json, schema 1."""

    schema_version: Literal[1] = Field(alias="schema")
    kind: Literal["card"]
    experiment: str
    seed: int | None
    data: DataFacts
    model: ModelFacts
    threat: Threat
    clean_accuracy: Figure
    worst_class: ClassFigure | None
    threats: list[ThreatFigures]
    curves: list[SourcedCurve]
    corruptions: SourcedCorruptions | None
    certified: list[SourcedCertified]
    backdoor: SourcedBackdoor | None
    verdict: CardVerdict
    flags: list[SourcedFlag]
    cost: Cost
    environment: Environment
    evidence: list[Evidence]
    left_out: list[str]
    mappings: list[Mapping] = Field(default_factory=list)

    @field_validator("schema_version", mode="before")
    @classmethod
    def _known_schema(cls, number: object) -> object:
        require_schema(number, CARD_SCHEMA)
        return number

    @model_validator(mode="after")
    def _figures_have_sources(self) -> Card:
        complete = {evidence.name: evidence.complete for evidence in self.evidence}
        for name in self._sources():
            if name not in complete:
                raise ValueError(f"a figure is from {name!r}, which evidence does not hold")
        for figures in self.threats:
            if figures.worst_case is not None and not complete[figures.worst_case.source]:
                raise ValueError(f"a worst case is from {figures.worst_case.source!r}, which is not complete")
        return self

    def _sources(self) -> Iterator[str]:
        yield self.clean_accuracy.source
        for figures in self.threats:
            named = (figures.worst_case, figures.rounded_accuracy, figures.worst_class)
            yield from (figure.source for figure in (*named, *figures.others, *figures.upper_bounds) if figure)
            yield from (attack.source for attack in figures.attacks)
        others = (self.worst_class, self.corruptions, self.backdoor, *self.curves, *self.certified)
        yield from (other.source for other in others if other is not None)
        yield from (name for flag in self.flags for name in flag.sources)

    def within(self, threat: Threat) -> ThreatFigures | None:
        """The figures within a budget, or None where nobody attacked within it."""
        return next((figures for figures in self.threats if budget_of(figures.threat) == budget_of(threat)), None)

    @property
    def own_threat(self) -> ThreatFigures | None:
        """The figures within the budget of the run itself."""
        return self.within(self.threat)


def read_card(path: Path | str) -> Card:
    """Read and check the card of one model.

    Args:
        path: the file, or the folder that holds card.json.

    Raises:
        RequestError: the file is missing, no card, does not pass the checks, or holds several cards.
    """
    cards = read_cards(path)
    if len(cards) != 1:
        raise RequestError(f"{path} holds {len(cards)} cards, expected one; read_cards reads them all")
    return cards[0]


def read_cards(path: Path | str) -> list[Card]:
    """Read and check a card.json of one model or several.

    Raises:
        RequestError: the file is missing, no card, or does not pass the checks.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "card.json"
    if not path.exists():
        raise RequestError(f"cannot read {path}: No such file or directory; robustml card <run> writes it")
    content = read_content(path)
    return [checked(Card, one, str(path)) for one in (content if isinstance(content, list) else [content])]


def budget_of(threat: Threat) -> tuple[str, str]:
    """What two threats that are the same have in common; nine digits, for 8/255 may have been rounded in a file."""
    return threat.norm, f"{threat.eps:.9g}"
