"""shortcuts.json: where a patch of a class's pictures by itself decides what a model reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from robustml.results.rates import TOLERANCE, Block, Count, Fraction, Rate
from robustml.results.run import DataFacts, Environment


class ShortcutSuspect(Block):
    """The most suspect place in the pictures of one class.

    Attributes:
        class_name: whose pictures the patch is from.
        found: whether `excess` reaches the threshold of the search.
        place: row and column of the patch's upper left pixel.
        size: the patch's side in pixels.
        flip_rate: the share of other classes' pictures, read rightly before, that are read as this class with it.
        excess: `flip_rate` less the median of all places of this class: what this place does beyond any other.
        flip_rates: that share for every place looked at: row, column, share; row by row.
        example: two rows of the training set: a picture of the class, and one of another class that its patch turned
            (or was tried on, where it turned none).
    """

    class_name: str = Field(alias="class")
    found: bool
    place: tuple[Count, Count]
    size: Count
    flip_rate: Rate
    excess: float
    flip_rates: list[tuple[Count, Count, Fraction]]
    example: tuple[Count, Count]

    @model_validator(mode="after")
    def _one_of_those_looked_at(self) -> ShortcutSuspect:
        there = [share for row, column, share in self.flip_rates if (row, column) == self.place]
        if len(there) != 1 or abs(there[0] - (self.flip_rate.value or 0.0)) > TOLERANCE:
            raise ValueError(f"flip_rates do not hold {self.flip_rate.value} at place {list(self.place)}")
        return self


class ShortcutSearch(Block):
    """All of shortcuts.json: a run and its clean twin, where it has one, searched with the same settings."""

    command: Literal["shortcuts"] = "shortcuts"
    run: str
    twin: str | None
    data: DataFacts
    environment: Environment | None = None
    which: str
    seed: int
    size: Count
    stride: Count | None
    pictures: Count
    threshold: Fraction
    suspects: list[ShortcutSuspect]
    twin_suspects: list[ShortcutSuspect]
