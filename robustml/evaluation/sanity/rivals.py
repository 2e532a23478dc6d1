"""Flags that attacks raise beside each other: one that is weaker by nature must not fool what a stronger one does not.

Sources: as for `robustml.evaluation.sanity.model`.

| flag | what it takes |
|---|---|
| one_step_beats_many | FGSM fools what PGD does not |
| black_box_beats_white_box | an attack without gradients fools what those with gradients do not |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from robustml.evaluation.verdicts import Bools, Verdicts
from robustml.results import Flag
from robustml.types import Attack

# As the authors of AutoAttack have it in their own check of what Square adds.
_ADDED_SHARE = 0.002


def look_at_attacks(verdicts: Verdicts, attacks: Mapping[str, Attack], *, cascade: bool = False) -> Iterator[Flag]:
    """Flags that attacks show beside each other.

    One step that fools clearly more images than many steps do; an attack without gradients (one with a true attribute
    `black_box`) that fools clearly more than all others together, or, in a cascade, more than a few of those that
    every attack with gradients had left.

    Args:
        verdicts: what each attack did to the same images. Attacks that did not come to all of them are left out.
        attacks: the attacks themselves.
        cascade: each attack saw only what those before it had left, so that no two can be compared.
    """
    attacks = {name: attack for name, attack in attacks.items() if not verdicts.attacks[name].pending}
    if cascade:
        yield from _added_without_gradients(verdicts, attacks)
        return
    steps = {name: int(getattr(attack, "steps", 0)) for name, attack in attacks.items()}
    fooled = {name: ~verdicts.attacks[name].robust for name in attacks}
    for one in (name for name in attacks if steps[name] == 1):
        for many in (name for name in attacks if steps[name] > 1):
            only_one, only_many = _disagreement(fooled[one], fooled[many])
            if _clearly_more(only_one, only_many):
                message = (
                    f"{one} (one step) fools {only_one} images that {many} ({steps[many]} steps) does not, and only "
                    f"{only_many} the other way round: a sign of masked gradients, or of steps that are too small"
                )
                yield Flag(name="one_step_beats_many", message=message, attack=many)
    black = [name for name, attack in attacks.items() if getattr(attack, "black_box", False)]
    white = [name for name in attacks if name not in black]
    for name in black if white else []:
        only_black, only_white = _disagreement(fooled[name], np.logical_or.reduce([fooled[other] for other in white]))
        if _clearly_more(only_black, only_white):
            message = (
                f"{name}, which sees no gradient, fools {only_black} images that {', '.join(white)} do not, and only "
                f"{only_white} the other way round: the gradients are masked"
            )
            yield Flag(name="black_box_beats_white_box", message=message, attack=name)


def _added_without_gradients(verdicts: Verdicts, attacks: Mapping[str, Attack]) -> Iterator[Flag]:
    white: list[str] = []
    left = verdicts.correct
    for name, attack in attacks.items():
        after = left & verdicts.attacks[name].robust
        added = int((left & ~after).sum())
        if not getattr(attack, "black_box", False):
            white.append(name)
        elif white and added > max(1, _ADDED_SHARE * len(left)):
            message = (
                f"{name}, which sees no gradient, fools {added} of the {int(left.sum())} images that "
                f"{', '.join(white)} had left: a sign of masked gradients"
            )
            yield Flag(name="black_box_beats_white_box", message=message, attack=name)
        left = after


def _disagreement(first: Bools, second: Bools) -> tuple[int, int]:
    """How many images only the one and only the other attack fooled."""
    return int((first & ~second).sum()), int((~first & second).sum())


def _clearly_more(first: int, second: int) -> bool:
    """A sign test at three standard deviations on the images where two attacks disagree."""
    return first - second > 3 * math.sqrt(first + second)
