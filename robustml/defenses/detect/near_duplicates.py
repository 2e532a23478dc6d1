"""Records that stand in the set twice, or nearly so.

After no paper; the rule of a distance that is small beside the set's usual one is that of cleanlab's documentation of
near-duplicates, written anew. Labels and models are not looked at. Found are duplicates where more than one record in a
hundred is one: of 5,000 pictures of MNIST or CIFAR-10, and of the digits, none is.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, nn

from robustml.defenses.detect.neighbours import nearest_distances, viewed
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number
from robustml.types import Labelled, Suspicion


@dataclass(frozen=True)
class NearDuplicates:
    """Score of a record: 1 less its distance to the nearest other, in units of the median such distance.

    1 is an equal record, 0 a usual one; below 0 are those that stand alone.

    Args:
        threshold: a score above it is flagged.
        share: found is more than this share of the records.

    Raises:
        RequestError: an argument out of range; when called: fewer than 3 records.
    """

    threshold: float = 0.87
    share: float = 0.01

    def __post_init__(self) -> None:
        check_number(self.threshold, "threshold", "is a score below 1, where records are equal", 0, 1)
        if self.threshold == 1:
            raise RequestError("threshold is a score below 1, where records are equal; got 1")
        check_number(self.share, "share", "of the records that may be duplicates is in [0, 1]", 0, 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (N,); facts hold the share that is flagged, and count those that have an equal."""
        distances, _ = nearest_distances(viewed(model, records, "inputs", None), 1)
        nearest = distances[:, 0]
        apart = nearest[nearest > 0]  # copies, however many, do not say what is usual
        usual = float(apart.median()) if len(apart) else 1.0
        scores = 1 - nearest / usual
        flagged = scores > self.threshold
        facts = {"share": float(flagged.double().mean()), "equal": int((nearest == 0).sum()), "usual_distance": usual}
        return Suspicion(scores, self.threshold, records.ids, found=facts["share"] > self.share, facts=facts)
