"""The shortcut search as a detector: a patch of the training pictures that by itself decides what the model reads.

`robustml.evaluation.find_shortcuts` does the work, and says what it is after; no paper. It finds marks that are common
among the pictures of a class: a shortcut, a trigger that nearly all of a class carry, the single pixel of clean labels.
A trigger on a few records of a class is missed, unless they are a large part of that class.

Found is a place that turns 60 of 100 pictures more than the median place of its class does, which is the rule of
`robustml shortcuts`: true features at their usual place turn up to half.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, nn

from robustml.data import Records
from robustml.defenses.reading import content_order, require_classes
from robustml.evaluation import find_shortcuts
from robustml.poisoning.checks import check_number, check_whole
from robustml.poisoning.pixels import require_images
from robustml.types import Labelled, Suspicion


@dataclass(frozen=True)
class ShortcutSearch:
    """Score of a class: how many pictures more the worst place turns into it than the median place, a share.

    Args:
        size: side of the patch in pixels; None is an eighth of the pictures', and at least 2.
        stride: pixels from one place to the next; None is half of the size.
        pictures: of each class, whose patches are tried on as many of the others.
        threshold: an excess above it is found.

    Raises:
        RequestError: an argument out of range; when called: no pictures, or a patch larger than they are.
    """

    size: int | None = None
    stride: int | None = None
    pictures: int = 100
    threshold: float = 0.6

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("stride", self.stride), ("pictures", self.pictures)):
            if value is not None:
                check_whole(value, name, "of the search for shortcuts must be at least 1", 1)
        check_number(self.threshold, "threshold", "is a share of pictures, in [0, 1]", 0, 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (C,), a class each, 0 where it has no pictures; facts name the worst class and its place."""
        classes, order = require_classes(model, records), content_order(records)
        names = tuple(str(label) for label in range(classes))
        train = Records(records.x[order], records.y[order], names)
        _, *sides = require_images(train, "the search for shortcuts")
        size = self.size or max(2, min(sides) // 8)
        seed = int(torch.randint(2**31, (), generator=generator))
        suspects = find_shortcuts(model, train, size=size, stride=self.stride, pictures=self.pictures, seed=seed)
        scores = torch.zeros(classes, dtype=torch.float64)
        for suspect in suspects:
            scores[int(suspect.class_name)] = suspect.excess
        worst = {"class": int(suspects[0].class_name), "place": list(suspects[0].place)} if suspects else {}
        return Suspicion(scores, self.threshold, facts={**worst, "size": size})
