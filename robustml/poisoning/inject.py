"""Inject adversarial examples, crafted on a surrogate model and labelled as the attacker wishes.

Fowl et al. 2021, "Adversarial Examples Make Strong Poisons" (arXiv:2106.10807): training on adversarial examples that
carry their original labels teaches features that do not help on clean inputs. With the labels that the surrogate gives
them (``label="predicted"``) they remain fit to train on: the paper's control. Which way they point (away from their
class, or towards another, which the paper found stronger) is the attack's `target`.

Deviations: any attack, any share of the set, a class of the attacker's choice as a third way to label, and examples
that are added; the paper replaces the whole set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.data import Arrays
from robustml.errors import RequestError
from robustml.poisoning.add import appended
from robustml.poisoning.choose import check_rate, class_label, seeded
from robustml.poisoning.pixels import as_stored, in_unit_range
from robustml.poisoning.poison import Poisoned, replaced
from robustml.poisoning.shown import rows_of_others
from robustml.poisoning.surrogate import borrowed
from robustml.types import Attack

__all__ = ["InjectAdversarial"]


@dataclass(frozen=True, eq=False)
class InjectAdversarial:
    """Adversarial examples of different rows, added to the set or put in the place of those rows.

    A row that the attack gives back as it was, after rounding to bytes where the set holds images, is passed over for
    the next in a random order.

    Args:
        attack: crafts them against their true labels.
        surrogate: inputs (N, ...) in [0, 1] to logits (N, C), in the classes of the set; lent in eval mode, handed back
            as found.
        rate: how many are injected, as a share of the set before, in [0, 1].
        label: ``"true"``: the label of the row; ``"predicted"``: what the surrogate takes the example for; or a class
            (number or name), and then rows of other classes are attacked.
        replace: put them in the place of the rows; at the end of the set otherwise.
        batch_size: rows attacked at once.

    Raises:
        RequestError: a rate outside [0, 1] or a batch size below 1; when called: no such class, or fewer rows than the
            rate asks for that the attack changes.
    """

    attack: Attack
    surrogate: nn.Module
    rate: float = 0.1
    label: int | str = "true"
    replace: bool = False
    batch_size: int = 256

    def __post_init__(self) -> None:
        """Refuse what could only fail after the data are loaded."""
        check_rate(self.rate)
        if self.batch_size < 1:
            raise RequestError(f"poison.batch_size must be >= 1, got {self.batch_size}")

    def __call__(self, data: Arrays, *, seed: int) -> Poisoned:
        """The set with ``round(rate * N)`` adversarial examples in it."""
        keeps = self.label == "true" or self.label is True  # as YAML reads the word without its quotes
        own = keeps or self.label == "predicted"
        wanted = None if own else class_label(data, self.label, "poison.label")
        candidates = torch.arange(len(data)) if wanted is None else rows_of_others(data, wanted)
        rows, x_adv = self._crafted(data, candidates, round(self.rate * len(data)), seed)
        if wanted is not None:
            y = torch.full_like(rows, wanted)
        elif keeps:
            y = data.y[rows]
        else:
            y = self._predicted(x_adv)
        return replaced(data, rows, x_adv, y) if self.replace else appended(data, x_adv, y)

    def _crafted(self, data: Arrays, candidates: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """`count` rows, in random order, and an adversarial example of each, as the set stores them."""
        order = candidates[torch.randperm(len(candidates), generator=seeded(seed, "inject"))]
        generator = seeded(seed, "inject/attack")
        rows, found = [order[:0]], [data.x[:0]]
        missing, looked_at = count, 0
        while missing and looked_at < len(order):
            batch = order[looked_at : looked_at + min(missing, self.batch_size)]
            x, looked_at = data.x[batch], looked_at + len(batch)
            x_adv = self._attacked(x, data.y[batch], generator)
            differs = (x_adv != x).flatten(1).any(dim=1)
            rows.append(batch[differs])
            found.append(x_adv[differs])
            missing -= int(differs.sum())
        if missing:
            raise RequestError(
                f"injectadversarial: {count} rows are to be attacked, but the attack changed only {count - missing} of "
                f"{len(order)}; lower poison.rate, or choose an attack that moves every row"
            )
        return torch.cat(rows), torch.cat(found)

    def _attacked(self, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        with borrowed(self.surrogate) as device:
            x_adv = self.attack(self.surrogate, in_unit_range(x).to(device), y.to(device), generator=generator)
        return as_stored(x_adv.cpu(), x)

    def _predicted(self, x: Tensor) -> Tensor:
        """The class (K,) that the surrogate takes each of `x` (K, ...), as stored, for."""
        with borrowed(self.surrogate) as device, torch.no_grad():
            parts = [
                self.surrogate(in_unit_range(part).to(device)).argmax(1).cpu()
                for part in torch.split(x, self.batch_size)
            ]
        return torch.cat(parts)
