"""What a poison was asked for and what came of it: counted on the bytes of both sets, and why the two differ, if so."""

from __future__ import annotations

from dataclasses import dataclass

from robustml.errors import RequestError
from robustml.results import Budget, PoisonFigures

__all__ = ["Dose"]


@dataclass(frozen=True)
class Dose:
    """The figures of one poison.

    Attributes:
        kind: the poison's name.
        of: how many rows the set had before.
        rows: how many rows it changed to its own ends, added, or deleted; without the cover.
        requested: the share of the set that those were to be; None where the poison has no rate.
        cover: how many rows it changed beside them, so that it works or hides better; they keep their labels.
        requested_cover: the share that those were to be.
        label_only: how many of `rows` were to be marked and relabelled, and show no mark: the trigger looks like what
            was there.
        backdoor: whether it plants one.
        budget: of crafted changes, where there is one.
        notes: what the poison itself has to say.
    """

    kind: str
    of: int
    rows: int
    requested: float | None = None
    cover: int = 0
    requested_cover: float | None = None
    label_only: int = 0
    backdoor: bool = False
    budget: Budget | None = None
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """`rows` as a share of the set before."""
        return self.rows / self.of

    @property
    def cover_rate(self) -> float:
        """`cover` as a share of the set before."""
        return self.cover / self.of

    @property
    def asked(self) -> int | None:
        """How many rows `requested` is; None where the poison has no rate."""
        return None if self.requested is None else round(self.requested * self.of)

    @property
    def why(self) -> str | None:
        """Why the figures are not quite what was asked for, in words; None where they are."""
        reasons = []
        if self.asked is not None and self.rows != self.asked:
            reasons.append(f"{self.asked - self.rows:,} of the {self.asked:,} rows drawn looked so before")
        if self.requested_cover is not None and (gap := round(self.requested_cover * self.of) - self.cover):
            reasons.append(f"{gap:,} of the cover's rows looked so before")
        if self.label_only:
            reasons.append(
                f"on {self.label_only:,} of the {self.rows:,} rows the trigger changes nothing but the label"
            )
        if self.budget is not None and abs(self.budget.stored - self.budget.asked) > 1e-5 * self.budget.asked:
            name, asked, stored = self.budget.name, self.budget.asked, self.budget.stored
            reasons.append(f"{name} {asked:.4g} asked for, at most {stored:.4g} as stored")
        return "; ".join([*reasons, *self.notes]) or None

    def check(self) -> None:
        """Refuse a poison that is none.

        Raises:
            RequestError: rows were to be changed, and none is; or none of them shows the trigger.
        """
        wants_some = self.asked is None or self.asked > 0
        if wants_some and not self.rows and (self.backdoor or self.asked is not None):
            raise RequestError(
                f"poison: {self.kind} changes no row, since all that were drawn looked so before: choose other settings"
            )
        if self.backdoor and self.rows and self.label_only == self.rows:
            raise RequestError(
                f"poison: the trigger of {self.kind} changes nothing in any of the {self.rows:,} rows: choose another "
                "value, place or strength"
            )

    def describe(self) -> str:
        """The figures in one line."""
        text = f"{self.kind}, {self.rows:,} row{'' if self.rows == 1 else 's'}, {self.rate:.2%} of the training set"
        if self.requested is not None:
            text += f" ({self.requested:.2%} asked for)"
        if self.cover or self.requested_cover:
            text += (
                f", and {self.cover:,} rows of cover, {self.cover_rate:.2%} ({self.requested_cover or 0:.2%} asked for)"
            )
        return text + (f"; {self.why}" if self.why else "")

    def figures(self) -> PoisonFigures:
        """The figures as results.json and the manifest's first line hold them."""
        return PoisonFigures(
            kind=self.kind,
            rate=self.rate,
            requested_rate=self.requested,
            poisoned=self.rows,
            cover=self.cover,
            cover_rate=self.cover_rate,
            requested_cover_rate=self.requested_cover,
            budget=self.budget,
            why=self.why,
        )
