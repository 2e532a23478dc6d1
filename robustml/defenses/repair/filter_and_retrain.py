"""Filter and retrain: leave out the records that a detector suspects, and train anew on the others.

What Tran, Li and Madry, "Spectral Signatures in Backdoor Attacks" (NeurIPS 2018, arXiv:1811.00636), and Chen et al.,
"Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering" (2018, arXiv:1811.03728), do with what
they find. A training without as many records drawn at random is what it has to beat.

Deviation: the training is this one, short and without augmentation or attacks, whatever the first model had.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Generator, nn

from robustml.defenses.detect import ActivationClustering
from robustml.defenses.reading import require_classes
from robustml.defenses.repair.tuning import Tuning, anew, drawing, rows_of
from robustml.errors import RequestError
from robustml.types import Detector, Labelled


@dataclass(frozen=True)
class FilterAndRetrain(Tuning):
    """Trains from fresh weights on what is not flagged. Further arguments are those of `Tuning`, for that training.

    Args:
        detector: one that scores records; it flags what lies above its threshold, whether or not it raises an alarm.
    """

    learning_rate: float = 0.003
    detector: Detector = field(default_factory=ActivationClustering)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """A model of the same architecture; `clean` are for the detector.

        Raises:
            RequestError: the detector judges models, or leaves nothing of a class; a layer has no rule to be drawn anew
                by; or the detector refuses.
        """
        require_classes(model, records)
        found = self.detector(model, records, clean, generator=generator)
        if found.ids is None:
            raise RequestError(
                f"{type(self.detector).__name__} judges the model and not its records: give filter and retrain another "
                "detector"
            )
        kept = ~found.flagged
        gone = set(records.y.tolist()) - set(records.y[kept.to(records.y.device)].tolist())
        if gone:
            raise RequestError(
                f"{type(self.detector).__name__} flags every record of the classes {sorted(gone)}: raise its threshold"
            )
        with drawing(model, generator):
            return self.fit(anew(model), rows_of(records, kept.nonzero().squeeze(1)), what="training anew")
