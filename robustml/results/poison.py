"""What a poison was asked for and what came of it: the `poison` entry of the data block, and the head of a plan."""

from __future__ import annotations

from robustml.results.rates import Amount, Block, Count, Fraction


class Budget(Block):
    """How far crafted changes may go, and how far they go.

    Attributes:
        name: of the option, such as ``"eps"``.
        asked: in the unit of the threat, inputs in [0, 1].
        stored: the largest change of any record, in that unit, as the set stores it: images hold whole bytes.
    """

    name: str
    asked: Amount
    stored: Amount


class Dose(Block):
    """The figures of one poison, shares of the set before it.

    Attributes:
        kind: the poison's name.
        rate: the share of the set that it changed to its own ends, added, or deleted; without the cover.
        requested_rate: the share that it was asked for; None where the poison has no rate.
        poisoned: how many records that is.
        cover: how many records it changed beside them, so that it works or hides better; they keep their labels.
        cover_rate: the share that those are.
        requested_cover_rate: the share that those were to be.
        budget: of crafted changes, where there is one.
        why: why the figures are not quite what was asked for, in words; None where they are.
    """

    kind: str
    rate: Amount
    requested_rate: Fraction | None = None
    poisoned: Count
    cover: Count = 0
    cover_rate: Fraction = 0.0
    requested_cover_rate: Fraction | None = None
    budget: Budget | None = None
    why: str | None = None

    def describe(self) -> str:
        """The figures in one line."""
        rows = f"{self.poisoned:,} row{'' if self.poisoned == 1 else 's'}"
        text = f"{self.kind}, {rows}, {self.rate:.2%} of the training set"
        if self.requested_rate is not None:
            text += f" ({self.requested_rate:.2%} asked for)"
        if self.cover or self.requested_cover_rate:
            asked = self.requested_cover_rate or 0
            text += f", and {self.cover:,} rows of cover, {self.cover_rate:.2%} ({asked:.2%} asked for)"
        return text + (f"; {self.why}" if self.why else "")


class PoisonSummary(Dose):
    """The figures of the whole, how many records differ, cover included, and the figures of several poisons in turn."""

    changed: Count = 0
    added: Count = 0
    deleted: Count = 0
    parts: tuple[Dose, ...] = ()

    @property
    def dose(self) -> Dose:
        """The figures alone."""
        return Dose(**{name: getattr(self, name) for name in Dose.model_fields})

    def of_kind(self, kind: str) -> Dose:
        """The figures of the last poison of a kind among several; those of the whole where there is none."""
        return next((part for part in reversed(self.parts) if part.kind == kind), self)

    def lines(self) -> list[str]:
        """The figures for people to read: of the whole, and of each of several poisons in turn."""
        facts = {"changed": self.changed, "added": self.added, "deleted": self.deleted}
        counts = ", ".join(f"{count:,} {what}" for what, count in facts.items() if count)
        return [
            f"{self.describe()} ({counts or 'nothing changed'})",
            *(f"of those, {part.describe()}" for part in self.parts),
        ]
