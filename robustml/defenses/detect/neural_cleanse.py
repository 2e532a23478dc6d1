"""Neural Cleanse: the smallest mark that turns everything into a class; a backdoor's is far smaller than the others.

Wang, Yao, Shan, Li, Viswanath, Zheng and Zhao 2019, "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in
Neural Networks" (IEEE S&P). For each class a mask and a pattern are found by gradient descent such that clean inputs
with the pattern under the mask are read as that class, at the least L1 norm of the mask; the weight of the norm rises
while the mark works and falls while it does not.

Deviations:

- Found is a backdoor where the anomaly index is above 2, as in the paper, **and** the mask is at most half as large as
  the median one. The index alone flags clean models: of ten norms the least is often two deviations from the median.
- The index is that of the norms' logarithms. Norms are positive and skewed: of norms as they are, a mask a sixteenth of
  the median one was 1.7 deviations below it (BadNets on MNIST).
- All classes are optimised side by side, each with a mask, a pattern, a weight and an optimiser state of its own.
- The mark of a class is made on inputs of the other classes only.
- Each step sees one batch, not a pass over the data: whether the mark works is judged on the mean over the last ten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.defenses.reading import content_order, require_classes, require_clean
from robustml.errors import RequestError
from robustml.evaluation.batches import device_of
from robustml.modes import evaluating
from robustml.poisoning.checks import check_number, check_whole
from robustml.poisoning.pixels import in_unit_range
from robustml.progress import track
from robustml.types import Labelled, Suspicion

# Of classes at once: memory depends on it.
_GROUP = 10
# Whether a mark works is read off so many steps.
_RECENT = 10
# The weight of the norm rises by this and falls by it to the power of 1.5.
_FACTOR = 1.5
# Above it a norm is an outlier, as in the paper.
_INDEX = 2.0
_CLASSES = 4


@dataclass(frozen=True)
class NeuralCleanse:
    """Score of a class: how many times smaller its mark is than the median class's.

    Args:
        steps: of Adam. On digits the ratio stays within .05 from 300 on. Norms of larger pictures have not all settled
            then: clean networks have ratios of .75 on CIFAR-10 and .51 on MNIST.
        batch_size: clean inputs of other classes that a class sees in a step.
        learning_rate: of Adam, with the paper's betas (.5, .9).
        success: the share of inputs that a mark must turn for its norm to count.
        patience: steps in a row in which a mark works, or does not, before the weight of its norm changes.
        weight: of the norm at first.
        threshold: a mark so many times smaller than the median one is suspect; at least 1.

    Raises:
        RequestError: an argument out of range; when called: too few clean records, or fewer than 4 classes.
    """

    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 0.1
    success: float = 0.99
    patience: int = 5
    weight: float = 0.001
    threshold: float = 2.0

    def __post_init__(self) -> None:
        check_whole(self.steps, "steps", f"of neural_cleanse must be at least {_RECENT}", _RECENT)
        check_whole(self.batch_size, "batch_size", "of neural_cleanse must be at least 1", 1)
        check_whole(self.patience, "patience", "of neural_cleanse must be at least 1", 1)
        check_number(self.learning_rate, "learning_rate", "of neural_cleanse must be above 0", 0, above=True)
        check_number(self.weight, "weight", "of the mask's norm must be above 0", 0, above=True)
        check_number(self.success, "success", "is a share of inputs, in (0, 1]", 0, 1, above=True)
        check_number(self.threshold, "threshold", "of neural_cleanse must be at least 1", 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (C,), a class each; facts name the class of the smallest mark, and hold index, ratio and norms.

        Only `clean` is looked at, of which no class may be the only one.
        """
        clean = require_clean(clean, "neural_cleanse", 10)
        classes = require_classes(model, clean)
        if classes < _CLASSES:
            raise RequestError(f"neural_cleanse compares classes, at least {_CLASSES} of them; the model has {classes}")
        if int(clean.y.min()) == int(clean.y.max()):
            raise RequestError("neural_cleanse turns inputs of other classes into each, but the clean ones are of one")
        order = content_order(clean)
        x, y = in_unit_range(clean.x[order]).to(device_of(model)), clean.y[order].cpu()
        groups = torch.split(torch.arange(classes), _GROUP)
        with crafting(model, x) as (x,), evaluating(model):
            return self.judge(torch.cat([self._norms(model, x, y, labels, generator) for labels in groups]))

    def judge(self, norms: Tensor) -> Suspicion:
        """What the norms (C,) of the classes' masks say."""
        norms = norms.double()
        # numpy's median: torch's is the lower of the middle two
        median = norms.quantile(0.5)
        below = (median / norms.clamp(min=1e-9)).log()
        spread = 1.4826 * below.abs().quantile(0.5)
        smallest = int(norms.argmin())
        index = float(below[smallest] / spread.clamp(min=1e-9))
        scores = median / norms.clamp(min=1e-9)
        found = index > _INDEX and float(scores[smallest]) >= self.threshold
        ratio = float(norms[smallest] / median)
        facts = {"class": smallest, "index": index, "ratio": ratio, "norms": norms.tolist()}
        return Suspicion(scores, self.threshold, found=found, facts=facts)

    def _norms(self, model: nn.Module, x: Tensor, y: Tensor, labels: Tensor, generator: Generator | None) -> Tensor:
        """The norm (K,) of the smallest mask that works for each of some classes (K,); of a full one where none did."""
        others = [(y != label).nonzero().squeeze(1) for label in labels]
        count, size = len(labels), self.batch_size
        cells = (1, *x.shape[2:]) if x.ndim == 4 else tuple(x.shape[1:])  # one mask for all channels
        start = [torch.rand(count, 1, *shape, generator=generator) for shape in (cells, x.shape[1:])]
        mask, pattern = (torch.atanh((2 * each - 1) * 0.999).to(x.device).requires_grad_() for each in start)
        adam = torch.optim.Adam([mask, pattern], lr=self.learning_rate, betas=(0.5, 0.9))
        targets = labels.repeat_interleave(size).to(x.device)
        weight = torch.full((count,), self.weight, device=x.device)
        streak, best = torch.zeros(count, device=x.device), torch.full((count,), float(math.prod(cells)))
        best = best.to(x.device)
        recent: list[Tensor] = []
        for _ in track(range(self.steps), "marks of classes"):
            rows = torch.stack([own[torch.randint(len(own), (size,), generator=generator)] for own in others])
            with torch.enable_grad():
                share, shown = (mask.tanh() + 1) / 2, (pattern.tanh() + 1) / 2
                logits = logits_of(model, ((1 - share) * x[rows] + share * shown).flatten(0, 1))
                losses = functional.cross_entropy(logits, targets, reduction="none").view(count, size).mean(dim=1)
                norms = share.flatten(1).sum(dim=1)
                mask.grad, pattern.grad = torch.autograd.grad((losses + weight * norms).sum(), [mask, pattern])
            works = (logits.argmax(dim=1) == targets).view(count, size).float().mean(dim=1)
            recent = [*recent[1 - _RECENT :], works]
            if len(recent) == _RECENT:
                counts = torch.stack(recent).mean(dim=0) >= self.success
                best = torch.where(counts, best.minimum(norms.detach()), best)
            # how many steps in a row it has worked, or has not: above or below 0
            sign = torch.where(works >= self.success, 1.0, -1.0)
            streak = torch.where(streak * sign > 0, streak + sign, sign)
            raised, lowered = streak >= self.patience, streak <= -self.patience
            weight = torch.where(raised, weight * _FACTOR, torch.where(lowered, weight / _FACTOR**1.5, weight))
            streak[raised | lowered] = 0
            adam.step()
        return best.cpu()
