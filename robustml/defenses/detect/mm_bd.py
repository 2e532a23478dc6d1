"""MM-BD: a backdoor's class can be preferred by a far larger margin than any other, and no data are needed to see it.

Wang, Xiang, Miller and Kesidis 2024, "MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary Backdoor
Pattern Types Using a Maximum Margin Statistic" (IEEE S&P, arXiv:2205.06900). For each class the largest margin of its
logit over every other is sought in the whole box of inputs, by gradient ascent from random ones. The largest of these
statistics is held against a Gamma distribution fitted to the others: p = 1 - H(largest) ** classes.

Deviations:

- A step goes along the gradient divided by its own norm, an input each; the paper's step is a plain one, which needs
  another length for each network.
- The score of a class is -log10 of its p-value with the distribution fitted to all the others; the paper asks for the
  largest only. Found is a p-value below 1e-3, not .05: of small clean networks one in many is below .05.
- Two Gamma distributions are fitted, one that begins at 0 and one whose place is free as well, which is what the paper
  has; the larger p-value counts. Three parameters of nine numbers may say anything; two called a clean CIFAR-10 network
  backdoored (p = 9e-5, where the other fit has .05).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.defenses.reading import require_classes
from robustml.errors import RequestError
from robustml.evaluation.batches import device_of
from robustml.modes import evaluating
from robustml.poisoning.checks import check_number, check_whole
from robustml.progress import track
from robustml.types import Labelled, Suspicion

# Fewer statistics than three say nothing of a distribution.
_CLASSES = 4


@dataclass(frozen=True)
class MMBD:
    """Score of a class: -log10 of the p-value of its maximum margin; no clean data, and no records, are looked at.

    Args:
        starts: random inputs that are climbed from, for each class; the best one counts.
        steps: of gradient ascent.
        step_size: length of a step, of inputs in [0, 1], as a share of the box's diagonal; falls to 0 along a line.
        p_value: below it a backdoor is found.

    Raises:
        RequestError: an argument out of range; when called: a model of fewer than 4 classes.
    """

    starts: int = 20
    steps: int = 100
    step_size: float = 0.05
    p_value: float = 0.001

    def __post_init__(self) -> None:
        check_whole(self.starts, "starts", "of a margin's search must be at least 1", 1)
        check_whole(self.steps, "steps", "of a margin's search must be at least 1", 1)
        check_number(self.step_size, "step_size", "is a share of the box's diagonal, above 0", 0, above=True)
        check_number(self.p_value, "p_value", "must be in (0, 1)", 0, 1, above=True)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (C,), a class each; facts name the class of the largest margin, its p-value, and all margins."""
        classes = require_classes(model, records)
        if classes < _CLASSES:
            raise RequestError(f"mm_bd compares classes, at least {_CLASSES} of them; the model has {classes}")
        margins = torch.stack(
            [self._margin(model, records, label, generator) for label in track(range(classes), "margins of classes")]
        )
        return self.judge(margins)

    def judge(self, margins: Tensor) -> Suspicion:
        """What the maximum margins (C,) of the classes say."""
        scores = torch.tensor([_evidence(margins, label) for label in range(len(margins))], dtype=torch.float64)
        worst = int(margins.argmax())
        facts = {"class": worst, "p_value": 10 ** -float(scores[worst]), "margins": margins.tolist()}
        return Suspicion(scores, -math.log10(self.p_value), facts=facts)

    def _margin(self, model: nn.Module, records: Labelled, label: int, generator: Generator | None) -> Tensor:
        """The largest margin found of a class: the logit less the largest other one."""
        shape, device = records.x.shape[1:], device_of(model)
        x = torch.rand(self.starts, *shape, generator=generator).to(device)
        length = self.step_size * math.sqrt(shape.numel())

        def margins(logits: Tensor) -> Tensor:
            others = logits.clone()
            others[:, label] = -math.inf
            return logits[:, label] - others.amax(dim=1)

        best = torch.full((self.starts,), -math.inf, dtype=torch.float64)
        with crafting(model, x) as (x,), evaluating(model):
            for step in range(self.steps + 1):
                gradient, logits = input_gradient(model, x, margins)
                best = best.maximum(margins(logits).double().cpu())
                norm = gradient.flatten(1).norm(dim=1).clamp_(min=1e-12).view(-1, *[1] * len(shape))
                x = (x + length * (1 - step / self.steps) * gradient / norm).clamp_(0, 1)
        return best.max()


def _evidence(margins: Tensor, label: int) -> float:
    """-log10 of the chance that the largest of so many is as large as this one, were it drawn like the others."""
    from scipy.stats import gamma  # takes a second, and only this needs it

    others = torch.cat([margins[:label], margins[label + 1 :]]).clamp(min=1e-6).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the search for the place tries out impossible ones
        fits = (gamma.fit(others, floc=0), gamma.fit(others))
    tails = [float(gamma.sf(float(margins[label]), *fit)) for fit in fits]
    # 1 - (1 - tail) ** classes, where the tail may be too small to be seen beside 1
    tail = min(np.nanmax(tails), 1 - 1e-12)
    return -math.log10(max(-math.expm1(len(margins) * math.log1p(-tail)), 1e-300))
