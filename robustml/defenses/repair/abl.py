"""Anti-backdoor learning: train anew, isolate the records that were learnt too fast, and unlearn them.

Li, Lyu, Koren, Lyu, Li and Ma, "Anti-Backdoor Learning: Training Clean Models on Poisoned Data" (NeurIPS 2021,
arXiv:2110.11571): first the loss of each record is kept near gamma (local gradient ascent below it, descent above),
which only what is learnt with ease falls through; the share of the records with the lowest loss is taken for poisoned;
the model learns the others, and then has the loss of the isolated ones raised (global gradient ascent).

Deviations: after the isolation the training starts again from fresh weights, without the isolated records, as short
trainings leave no time to forget; while they are unlearnt, the others go on being learnt, and a record whose loss is
twice that of a guess is raised no further.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.defenses.reading import read_logits, require_classes
from robustml.defenses.repair.tuning import Rows, Tuning, anew, drawing, rows_of
from robustml.errors import RequestError
from robustml.evaluation.batches import device_of
from robustml.poisoning.pixels import in_unit_range
from robustml.types import Labelled


@dataclass(frozen=True)
class AntiBackdoorLearning(Tuning):
    """Needs no clean records: the model is trained anew on those under suspicion.

    Further arguments are those of `Tuning`, for the training.

    Args:
        gamma: the loss that records are kept at while they are sorted.
        sorting_epochs: of that; the paper's 20 are of a ResNet.
        share: of the records that is isolated.
        unlearning_epochs: of the ascent on the isolated ones; a pass is one over them.
    """

    learning_rate: float = 0.003
    gamma: float = 0.5
    sorting_epochs: int = 4
    share: float = 0.02
    unlearning_epochs: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise RequestError(f"share, of the records to isolate, must be in (0, 1), got {self.share}")
        self._at_least(0, "gamma", "sorting_epochs", "unlearning_epochs")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """A model of the same architecture, trained from fresh weights; `clean` are not looked at.

        Raises:
            RequestError: the model's classes are not the data's, or a layer has no rule to be drawn anew by.
        """
        classes = require_classes(model, records)
        with drawing(model, generator):
            order = self.sorted(model, records)
            count = max(1, round(self.share * len(order)))
            isolated, rest = rows_of(records, order[:count]), rows_of(records, order[count:])
            found = self.fit(anew(model), rest, what="training anew")
            return self._unlearnt(found, isolated, rest, 2 * math.log(classes))

    def sorted(self, model: nn.Module, records: Labelled) -> Tensor:
        """Rows (N,), those that a fresh model learnt fastest first; call it within `drawing`."""
        sorting = replace(self, epochs=self.sorting_epochs)
        fresh = sorting.fit(anew(model), records, self._flooded, "isolating")
        loss = functional.cross_entropy(read_logits(fresh, records.x), records.y.cpu(), reduction="none")
        return loss.argsort(stable=True)

    def _flooded(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        loss = functional.cross_entropy(logits_of(model, x), y, reduction="none")
        return ((loss - self.gamma).sign() * loss).mean()

    def _unlearnt(self, found: nn.Module, isolated: Rows, rest: Rows, highest: float) -> nn.Module:
        device = device_of(found)

        def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            rows = torch.randint(len(rest.y), (4 * self.batch_size,))
            others = in_unit_range(rest.x[rows.to(rest.x.device)]).to(device)
            logits = logits_of(model, torch.cat([others, x]))
            known = functional.cross_entropy(logits[: len(rows)], rest.y[rows.to(rest.y.device)].to(device))
            wrong = functional.cross_entropy(logits[len(rows) :], y, reduction="none")
            return known - wrong.clamp_max(highest).mean()

        unlearning = replace(self, epochs=self.unlearning_epochs, learning_rate=self.learning_rate / 3)
        return unlearning.fit(found, isolated, loss, "unlearning")
