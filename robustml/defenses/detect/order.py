"""Records that are not in a random order: sorted, appended, or collected in batches that differ.

After no paper. The set is cut, as it stands, into ten stretches. A stretch departs by its labels (Cohen's w, 1988, of
their distribution against the set's) or by its inputs (Cohen's d of its mean in eight principal components, in
brightness and in contrast), each less what chance alone would make of it. Found is a departure above .8, which Cohen
calls large: natural sets do depend on the order in which they were collected, and the digits, written by 43 people one
after another, up to .41. It sees stretches, not cycles: 0, 1, 2, 0, 1, 2 is random to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.defenses.detect.neighbours import viewed
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number, check_whole
from robustml.types import Labelled, Suspicion

_COMPONENTS = 8
_LEAST = 20


@dataclass(frozen=True)
class RecordOrder:
    """Score of a record: how far its stretch of the set departs from the whole; here the row counts, not the record.

    Args:
        stretches: of equal length; fewer where they would have less than 20 records.
        threshold: a departure above it is flagged.

    Raises:
        RequestError: an argument out of range; when called: fewer than 40 records.
    """

    stretches: int = 10
    threshold: float = 0.8
    by_position: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole(self.stretches, "stretches", "of the set must be at least 2", 2)
        check_number(self.threshold, "threshold", "is a departure above 0", 0, above=True)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (N,), the same within a stretch; facts name the rows of the worst, and what departs there."""
        stretches = min(self.stretches, len(records.y) // _LEAST)
        if stretches < 2:
            raise RequestError(f"order needs at least {2 * _LEAST} records, and there are {len(records.y)}: add some")
        labels = functional.one_hot(records.y.cpu()).double()
        inputs = _summed_up(viewed(model, records, "inputs", None))
        scores, told = torch.empty(len(labels), dtype=torch.float64), []
        usual = labels.mean(dim=0)
        there = usual > 0
        for rows in torch.tensor_split(torch.arange(len(labels)), stretches):
            departed = (labels[rows].mean(dim=0) - usual)[there].square().div(usual[there]).sum()
            by_label = float((departed - (int(there.sum()) - 1) / len(rows)).clamp(min=0).sqrt())
            by_input = float((inputs[rows].mean(dim=0).square().max() - 1 / len(rows)).clamp(min=0).sqrt())
            scores[rows] = max(by_label, by_input)
            told.append((max(by_label, by_input), int(rows[0]), int(rows[-1]), by_label, by_input))
        _, first, last, by_label, by_input = max(told)
        facts = {"rows": [first, last], "labels": by_label, "inputs": by_input}
        return Suspicion(scores, self.threshold, records.ids, facts=facts)


def _summed_up(rows: Tensor) -> Tensor:
    """A few columns (N, K) that say most of rows (N, D), each of mean 0 and deviation 1."""
    centred = rows - rows.mean(dim=0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    columns = [centred @ directions[:, -_COMPONENTS:], rows.mean(dim=1, keepdim=True), rows.std(dim=1, keepdim=True)]
    joined = torch.cat(columns, dim=1)
    deviation = joined.std(dim=0)
    return (joined - joined.mean(dim=0)) / deviation.where(deviation > 1e-9, torch.inf)
