"""How much a model relies on a mark: accuracy by group, and how often adding or removing the mark changes its mind.

Worst-group accuracy is from Sagawa et al. 2020, "Distributionally Robust Neural Networks for Group Shifts"
(arXiv:1911.08731). The test pictures come without the mark; it is put on here, so that each picture is read both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.data import Records, TensorLoader
from robustml.modes import evaluating
from robustml.poisoning.choose import class_label
from robustml.poisoning.pixels import stamped
from robustml.results import Rate, rate

__all__ = ["ShortcutResults", "shortcut_reliance"]


@dataclass(frozen=True)
class ShortcutResults:
    """What a mark does to a model.

    Attributes:
        groups: accuracy by (class name, whether the mark is there), every test picture of the class both ways.
        aligned_accuracy: accuracy where the mark is as training suggests: on the target class, and on no other.
        flip_rate_added: the share of pictures of other classes that are read differently once the mark is on them.
        flip_rate_removed: the share of marked pictures of the target class read differently once it is off them.
    """

    groups: dict[tuple[str, bool], Rate]
    aligned_accuracy: Rate
    flip_rate_added: Rate
    flip_rate_removed: Rate

    @property
    def worst_group(self) -> tuple[str, bool]:
        """The class, and whether with the mark, that is recognised worst."""
        known = {group: found.value for group, found in self.groups.items() if found.value is not None}
        return min(known, key=lambda group: known[group])

    @property
    def worst_group_accuracy(self) -> Rate:
        """The accuracy on it."""
        return self.groups[self.worst_group]

    @property
    def gap(self) -> float:
        """Aligned minus worst-group accuracy: about 0 for a model that does not care about the mark."""
        return float(self.aligned_accuracy.value or 0) - float(self.worst_group_accuracy.value or 0)

    def to_dict(self) -> dict[str, Any]:
        """The figures, by name, as plain values."""
        name, marked = self.worst_group
        return {
            "aligned_accuracy": self.aligned_accuracy.model_dump(),
            "worst_group": {"class": name, "marked": marked, "accuracy": self.worst_group_accuracy.model_dump()},
            "flip_rate_added": self.flip_rate_added.model_dump(),
            "flip_rate_removed": self.flip_rate_removed.model_dump(),
            "groups": [
                {"class": group, "marked": marked, "accuracy": found.model_dump()}
                for (group, marked), found in self.groups.items()
            ],
        }


@torch.no_grad()
def shortcut_reliance(
    model: nn.Module,
    test: Records,
    mark: Callable[[Tensor], Tensor],
    target: int | str,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 500,
) -> ShortcutResults:
    """Classify every test input with and without the mark, in eval mode.

    Args:
        model: inputs (N, ...) in [0, 1] to logits (N, C), on `device`.
        test: without the mark.
        mark: puts it on inputs (N, ...) in [0, 1]; the `trigger` of a `Shortcut`.
        target: the class (number or name) that the mark went with in training.
        device: where to run.
        batch_size: inputs a batch.

    Raises:
        RequestError: there is no such class, the test part is empty, or the mark does not fit.
    """
    own = test.y == class_label(test, target, "target")
    marked = Records(stamped(test.x, mark), test.y, test.class_names)
    with evaluating(model):
        without, with_mark = (_labels(model, arrays, device, batch_size) for arrays in (test, marked))
    groups = {
        (name, is_marked): _share((labels == test.y)[test.y == label])
        for label, name in enumerate(test.class_names)
        for is_marked, labels in ((False, without), (True, with_mark))
    }
    flipped = without != with_mark
    aligned = torch.where(own, with_mark, without) == test.y
    return ShortcutResults(groups, _share(aligned), _share(flipped[~own]), _share(flipped[own]))


def _labels(model: nn.Module, arrays: Records, device: torch.device | str, batch_size: int) -> Tensor:
    """What the model reads in each input: (N,), on the CPU."""
    loader = TensorLoader(arrays, batch_size, device=device)
    return torch.cat([logits_of(model, x).argmax(dim=1) for x, _ in loader]).cpu()


def _share(which: Tensor) -> Rate:
    return rate(int(which.sum()), len(which))
