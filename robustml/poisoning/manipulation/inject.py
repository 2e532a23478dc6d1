"""Inject adversarial examples, crafted on a surrogate model and labelled as the attacker wishes.

Fowl et al. 2021, "Adversarial Examples Make Strong Poisons" (arXiv:2106.10807): training on adversarial examples that
carry their original labels teaches features that do not help on clean inputs. With the labels that the surrogate gives
them (``label="predicted"``) they remain fit to train on: the paper's control. Which way they point (away from their
class, or towards another, which the paper found stronger) is the attack's `target`.

Deviations: any attack, any share of the set, a class of the attacker's choice as a third way to label, and examples
that are added; the paper replaces the whole set.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustml.calling import refuse_misfit
from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_rate, check_whole
from robustml.poisoning.choose import class_to_aim_at, classes_with_rows, rows_for, rows_of_others, seeded
from robustml.poisoning.pixels import in_unit_range
from robustml.poisoning.plan import PoisonPlan, planned
from robustml.poisoning.surrogate import attacked, borrowed, budget_of
from robustml.progress import track
from robustml.types import Attack, Threat


@dataclass(frozen=True, eq=False)
class InjectAdversarial:
    """Adversarial examples of different rows, added to the set or put in the place of those rows.

    Where the set holds images, an example is rounded to bytes within the attack's budget. A row that the attack then
    gives back as it was is passed over for the next in a random order.

    Args:
        attack: crafts them against their true labels.
        threat: what the attack may do.
        surrogate: inputs (N, ...) in [0, 1] to logits (N, C), in the classes of the set; lent in eval mode, handed back
            as found.
        rate: how many are injected, as a share of the set before, in [0, 1].
        label: ``"true"`` or None: the label of the row; ``"predicted"``: what the surrogate takes the example for; or a
            class (name or number), and then rows of other classes are attacked.
        replace: put them in the place of the rows; at the end of the set otherwise.
        batch_size: rows attacked at once.

    Raises:
        RequestError: a rate outside [0, 1] or a batch size below 1; when called: no such class, or fewer rows than the
            rate asks for that the attack changes.
    """

    attack: Attack
    threat: Threat
    surrogate: nn.Module
    rate: float = 0.1
    label: int | str | None = "true"
    replace: bool = False
    batch_size: int = 256

    def __post_init__(self) -> None:
        refuse_misfit(self.attack, self.threat)
        check_rate(self.rate)
        check_whole(self.batch_size, "poison.batch_size", "must be a whole number, batch_size must be >= 1", 1)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` adversarial examples in it."""
        # as YAML reads the word without its quotes
        keeps = self.label is None or self.label == "true" or self.label is True
        own = keeps or self.label == "predicted"
        if own and self.label is not None:
            self._check_word(records)
        wanted = None if own else class_to_aim_at(records, self.label, "poison.label")
        candidates = torch.arange(len(records)) if wanted is None else rows_of_others(records, wanted)
        rows, x_adv, x = self._crafted(records, candidates, rows_for(self.rate, records), seed)
        budget = budget_of(self.threat, [(x_adv, x)])
        if wanted is not None:
            y = torch.full_like(rows, wanted)
        elif keeps:
            y = records.y[rows]
        else:
            y = self._predicted(x_adv, classes_with_rows(records))
        if self.replace:
            return planned(self, records, records.changed(rows, x_adv, y), budget=budget)
        return planned(self, records, records.extended(x_adv, y), budget=budget)

    def _check_word(self, records: Records) -> None:
        """Refuse a word that may as well mean a class."""
        word = str(self.label)
        for index, name in enumerate(records.class_names):
            if name in (word, word.lower()):
                raise RequestError(
                    f"poison.label={word} is the class {name!r} too: write poison.label={index} for the class, or null "
                    "for the label of each row"
                )

    def _crafted(self, records: Records, candidates: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """`count` rows, in random order, an adversarial example of each, as the set stores them, and its original."""
        order = candidates[torch.randperm(len(candidates), generator=seeded(seed, "inject"))]
        generator = seeded(seed, "inject/attack")
        rows, found = [order[:0]], [records.x[:0]]
        missing, looked_at = count, 0
        with closing(track(range(0, count, self.batch_size), "crafting poison")) as ticks:
            while missing and looked_at < len(order):
                next(ticks, None)
                batch = order[looked_at : looked_at + min(missing, self.batch_size)]
                x, looked_at = records.x[batch], looked_at + len(batch)
                with borrowed(self.surrogate) as device:
                    x_adv = attacked(self.attack, self.threat, self.surrogate, x, records.y[batch], generator, device)
                differs = (x_adv != x).flatten(1).any(dim=1)
                rows.append(batch[differs])
                found.append(x_adv[differs])
                missing -= int(differs.sum())
        if missing:
            raise RequestError(
                f"injectadversarial: {count} rows are to be attacked, but the attack changed only {count - missing} of "
                f"{len(order)}; lower poison.rate, or choose an attack that moves every row"
            )
        return torch.cat(rows), torch.cat(found), records.x[torch.cat(rows)]

    def _predicted(self, x: Tensor, among: Tensor) -> Tensor:
        """Which of the classes `among` the surrogate takes each of `x` (K, ...), as stored, for: (K,)."""
        with borrowed(self.surrogate) as device, torch.no_grad():
            parts = [
                among[self.surrogate(in_unit_range(part).to(device)).cpu()[:, among].argmax(1)]
                for part in torch.split(x, self.batch_size)
            ]
        return torch.cat(parts)
