"""What happened to each test image: the raw material of every figure that the evaluator reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass
class AttackVerdicts:
    """One attack on N images.

    Attributes:
        robust: which still get their true label; those that the attack has not come to yet count as robust.
        distance: how far each was moved, in the unit of eps.
        rounded: which still get their true label when the attacked images are stored with 8 bits a value.
        seconds: what it cost.
        params: the settings of the attack.
        pending: how many images it has not come to, or not to an end with, because the evaluation was stopped.
        to_go: of one batch where some are pending, which (N,).
        at_once: how many of those to attack at once when time is limited.
    """

    robust: Bools
    distance: Floats
    rounded: Bools
    seconds: float = 0.0
    params: dict[str, Any] = field(default_factory=dict)
    pending: int = 0
    to_go: Bools | None = None
    at_once: int = 0

    def copy(self) -> AttackVerdicts:
        """The same in arrays of its own."""
        return replace(self, robust=self.robust.copy(), distance=self.distance.copy(), rounded=self.rounded.copy())


@dataclass
class Verdicts:
    """N images: their labels, the clean predictions, and one entry an attack.

    Attributes:
        y: labels (N,).
        prediction: what the model takes each for when nobody attacks (N,).
        attacks: what each attack did.
        images: the identity of each image (`robustml.evaluation.batches.identities`), where it is known.
        ids: the id of each record (`robustml.data.record_name`), where the loader tells.
        reach: how far each can be moved at all, in the unit of eps, where that is known.
        elsewhere: which images withstand what else the run tried, such as the search of a curve; True where nothing
            was tried.
    """

    y: Integers
    prediction: Integers
    attacks: dict[str, AttackVerdicts]
    images: Integers | None = None
    ids: Integers | None = None
    reach: Floats | None = None
    elsewhere: Bools | None = None

    @property
    def correct(self) -> Bools:
        """Which images are classified correctly when nobody attacks."""
        return np.equal(self.y, self.prediction)

    def shown_to(self, attack: str, *, cascade: bool) -> Bools:
        """Which images an attack is run on: those classified correctly.

        Args:
            attack: its name; one that has no verdicts yet comes after all that have.
            cascade: in a cascade, only those of them that withstood every attack before it.
        """
        shown = self.correct
        for name, before in self.attacks.items() if cascade else ():
            if name == attack:
                break
            shown = shown & before.robust
        return shown

    @property
    def worst_case(self) -> Bools:
        """Which images withstand every attack of the run (and are correct to begin with)."""
        robust = self.correct.copy()
        if self.elsewhere is not None:
            robust &= self.elsewhere
        for attack in self.attacks.values():
            robust &= attack.robust
        return robust

    @property
    def complete(self) -> bool:
        """Whether every attack has come to every image; if not, `worst_case` is an upper bound."""
        return not any(attack.pending for attack in self.attacks.values())

    @staticmethod
    def concatenate(parts: list[Verdicts]) -> Verdicts:
        """One object for consecutive batches that all saw the same attacks; seconds add up."""
        attacks = {
            name: AttackVerdicts(
                robust=np.concatenate([part.attacks[name].robust for part in parts]),
                distance=np.concatenate([part.attacks[name].distance for part in parts]),
                rounded=np.concatenate([part.attacks[name].rounded for part in parts]),
                seconds=sum(part.attacks[name].seconds for part in parts),
                params=parts[0].attacks[name].params,
                pending=sum(part.attacks[name].pending for part in parts),
            )
            for name in parts[0].attacks
        }
        return Verdicts(
            y=np.concatenate([part.y for part in parts]),
            prediction=np.concatenate([part.prediction for part in parts]),
            attacks=attacks,
            images=_joined([part.images for part in parts]),
            ids=_joined([part.ids for part in parts]),
            reach=_joined([part.reach for part in parts]),
        )


def _joined(parts: Sequence[npt.NDArray[Any] | None]) -> Any:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None
