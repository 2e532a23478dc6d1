"""Records that lie far from all others: noise, pictures of something else, broken rows.

The mean distance to the k nearest others, after Ramaswamy, Rastogi and Shim 2000, "Efficient Algorithms for Mining
Outliers from Large Data Sets" (SIGMOD), who take the distance to the k-th. The threshold is in robust deviations from
the median (Iglewicz and Hoaglin 1993).

Inputs are looked at by default: a network reads noise as something that it knows, so that features hide it. Found are
outliers where more than one record in a hundred is one: of clean digits .4 in a hundred are, of CIFAR-10 .3, of MNIST
.02. Uniform noise is found among digits and MNIST. In CIFAR-10 it ranks first (AUROC .99), but no farther than pictures
there are from each other, and is not flagged.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, nn

from robustml.defenses.detect.neighbours import View, check_view, nearest_distances, viewed
from robustml.poisoning.checks import check_number, check_whole
from robustml.types import Labelled, Suspicion


@dataclass(frozen=True)
class Outliers:
    """Score of a record: how many robust deviations its distance lies above the median.

    Args:
        neighbours: whose mean distance is taken.
        view: of ``"inputs"`` or of the model's ``"features"``.
        layer: of the features; None is what the last linear layer gets.
        threshold: a score above it is flagged.
        share: found is more than this share of the records.

    Raises:
        RequestError: an argument out of range; when called: too few records, or no such layer.
    """

    neighbours: int = 10
    view: View = "inputs"
    layer: str | None = None
    threshold: float = 3.0
    share: float = 0.01

    def __post_init__(self) -> None:
        check_view(self.view)
        check_whole(self.neighbours, "neighbours", "of a record must be at least 1", 1)
        check_number(self.threshold, "threshold", "is a number of deviations, above 0", 0, above=True)
        check_number(self.share, "share", "of the records that may be outliers is in [0, 1]", 0, 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (N,); facts hold the share that is flagged."""
        distances, _ = nearest_distances(viewed(model, records, self.view, self.layer), self.neighbours)
        far = distances.mean(dim=1)
        middle = far.median()
        spread = 1.4826 * (far - middle).abs().median()
        scores = (far - middle) / spread.clamp(min=1e-9)
        share = float((scores > self.threshold).double().mean())
        facts = {"share": share, "view": self.view}
        return Suspicion(scores, self.threshold, records.ids, found=share > self.share, facts=facts)
