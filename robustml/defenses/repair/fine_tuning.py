"""Fine-tuning: go on training on clean records, the baseline that whatever is cleverer has to beat.

As old as backdoors are; measured as a defense in Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against
Backdooring Attacks on Deep Neural Networks" (RAID 2018, arXiv:1805.12185). Zhu et al. 2023 (arXiv:2304.11823) show that
it fails at small learning rates, and where few records were poisoned.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, nn

from robustml.defenses.reading import require_classes, require_clean
from robustml.defenses.repair.tuning import Tuning, copied, drawing
from robustml.types import Labelled


@dataclass(frozen=True)
class FineTuning(Tuning):
    """Cross-entropy on the clean records, all parameters; arguments as of `Tuning`."""

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """The tuned copy; `records` are not looked at.

        Raises:
            RequestError: there are no clean records, or the model was trained on other classes.
        """
        clean = require_clean(clean, "fine-tuning", 2)
        require_classes(model, clean)
        with drawing(model, generator):
            return self.fit(copied(model), clean)
