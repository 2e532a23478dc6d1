"""Where a model comes from: the steps from the data to the signature, and whether each holds on to the one before."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from robustml.results.rates import Block

Kind = Literal["data", "poison", "training", "repair", "trojan", "card", "signature"]


class Link(Block):
    """One thing that was checked: what it says, and whether it holds; None where there was nothing to check it by."""

    says: str
    holds: bool | None


class Step(Block):
    """One step: what kind, its name, where it lies, what is known of it, and what was checked."""

    kind: Kind
    name: str
    place: str | None = None
    facts: dict[str, str] = Field(default_factory=dict)
    links: list[Link] = Field(default_factory=list)


class Lineage(Block):
    """The steps that led to a run directory, the earliest first."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: str
    steps: list[Step]

    @property
    def broken(self) -> list[str]:
        """What does not hold, a line each."""
        return [f"{step.kind}: {link.says}" for step in self.steps for link in step.links if link.holds is False]
