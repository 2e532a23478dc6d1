"""Some classes of another source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from robustml.data.cache import Source, cached
from robustml.data.records import Records
from robustml.data.splits import Split
from robustml.errors import RequestError, nearest


@dataclass(frozen=True)
class Subset:
    """The rows of some classes, in their order; the classes are numbered anew, as they are named here.

    The source below is cached as ever; choosing rows of it is not worth a cache of its own.

    Args:
        source: where the set comes from.
        classes: names of its classes, at least two.

    Raises:
        RequestError: fewer than two classes, or one twice; when loaded: the source has no such class.
    """

    source: Source
    classes: Sequence[str]

    def __post_init__(self) -> None:
        """Refuse what is no classification problem."""
        if len(self.classes) < 2 or len(set(map(str, self.classes))) != len(self.classes):
            raise RequestError(f"data.source.classes needs two or more distinct class names, got {list(self.classes)}")

    @property
    def fitted(self) -> bool:
        """Whether the training part of the source decides on what the inputs mean."""
        return bool(getattr(self.source, "fitted", False))

    def load(self, split: Split) -> Records:
        """The rows of the chosen classes."""
        records = cached(self.source, split)
        number = torch.full((len(records.class_names),), -1)
        names = tuple(map(str, self.classes))  # a request for the class named 3 may come as the number
        for label, name in enumerate(names):
            if name not in records.class_names:
                raise RequestError(
                    f"data.source.classes: there is no class {name!r}; {nearest(name, records.class_names)}"
                )
            number[records.class_names.index(name)] = label
        y = number[records.y]
        rows = (y >= 0).nonzero().squeeze(1)
        understood = records.understood.noting(f"{len(rows)} of {len(records)} rows are of the classes chosen")
        return Records(records.x.index_select(0, rows), y[rows], names, understood, records.ids[rows])
