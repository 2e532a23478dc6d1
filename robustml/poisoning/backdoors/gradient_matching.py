"""Gradient matching: faint changes to correctly labelled pictures make training misread a few chosen test pictures.

Geiping et al. 2021, "Witches' Brew: Industrial Scale Data Poisoning via Gradient Matching" (ICLR, arXiv:2009.02276):
the poisoned pictures are changed within eps so that their training gradient points where the gradient of the chosen
pictures with the wanted label does; a model that learns them learns the wrong label on the way. There is no trigger:
what the attacker shows at test time are the chosen pictures, untouched.

Deviations: one surrogate (the paper's strongest results use an ensemble), and no augmentation while crafting. As in the
paper's code, the sign of the gradient goes through Adam, and the step size falls by ten after 3/8, 5/8 and 7/8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from robustml.data import Records, Source, cached
from robustml.errors import RequestError
from robustml.poisoning.backdoors.aiming import largest_change, own_rows
from robustml.poisoning.checks import check_number, check_rate, check_whole
from robustml.poisoning.choose import class_label, seeded
from robustml.poisoning.pixels import as_stored, in_unit_range
from robustml.poisoning.plan import PoisonPlan, Triggered, planned
from robustml.poisoning.surrogate import borrowed
from robustml.progress import track

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class GradientMatching:
    """The gradient matching attack with clean labels, on chosen test rows.

    Args:
        surrogate: inputs (N, ...) in [0, 1] to logits; lent in eval mode, handed back as found.
        source: whose test part holds the chosen rows.
        rows: which rows of the test part shall be misread.
        target: the class (number or name) that they shall be read as; none of them may be of it.
        rate: the share of the whole training set that is changed, all of it of the target class.
        eps: the largest change of a value, of a range of 1; on bytes, rounded down to whole ones.
        steps: of the crafting.
        step_size: the first ones' length, of a range of 1.
        restarts: random starts; the one that matches best is kept. The paper uses 8.
        batch_size: poisoned rows that are matched together.

    Raises:
        RequestError: a value out of range; when called: no such class or row, a chosen row of the target class, or too
            few rows of that class.
    """

    surrogate: nn.Module
    source: Source
    rows: Sequence[int]
    target: int | str
    rate: float = 0.01
    eps: float = 16 / 255
    steps: int = 250
    step_size: float = 5 / 255
    restarts: int = 1
    batch_size: int = 128

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_number(self.eps, "poison.eps", "must be in (0, 1]", 0, 1, above=True)
        check_number(self.step_size, "poison.step_size", "must be above 0", 0, above=True)
        for name in ("steps", "restarts", "batch_size"):
            check_whole(getattr(self, name), f"poison.{name}", "must be a whole number of at least 1", 1)
        expected = "names different rows of the test part, from 0 on, such as [17]"
        if not isinstance(self.rows, Sequence) or isinstance(self.rows, str) or not self.rows:
            raise RequestError(f"poison.rows {expected}; got {self.rows!r}")
        for row in self.rows:
            check_whole(row, "poison.rows", expected, 0)
        if len(set(self.rows)) < len(self.rows):
            raise RequestError(f"poison.rows {expected}; got {list(self.rows)}")

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows of the target class changed within eps; all labels are kept."""
        eps = int(self.eps * 255 + 1e-6) / 255 if records.x.dtype == torch.uint8 else self.eps
        if not eps:
            raise RequestError(f"poison.eps={self.eps} is less than one byte: raise it to 1/255 at least")
        wanted = self.triggered(records)
        rows = own_rows(records, self.target, self.rate, seed, "gradient_matching")
        draws = seeded(seed, "gradient_matching starts")
        changed = records.x[rows]
        with borrowed(self.surrogate) as device, torch.enable_grad():
            # copies, so that neither the surrogate's gradients nor its frozen parameters are touched
            weights = {name: value.detach().clone() for name, value in self.surrogate.named_parameters()}
            for value in weights.values():
                value.requires_grad_()
            aim = self._gradient(weights, in_unit_range(wanted.x).to(device), wanted.target.to(device))
            aim = [part.detach() for part in aim]
            parts = torch.split(torch.arange(len(rows)), self.batch_size)
            ticks = track(range(len(parts) * self.restarts * self.steps), "crafting poison")
            for part in parts:
                x, y = in_unit_range(changed[part]).to(device), records.y[rows[part]].to(device)
                tries = [self._matched(weights, x, y, aim, eps, draws, ticks) for _ in range(self.restarts)]
                best = min(range(self.restarts), key=lambda number: tries[number][1])
                changed[part] = as_stored(tries[best][0].to(changed.device), changed)
        next(ticks, None)
        budget = largest_change("eps", self.eps, changed, records.x[rows])
        return planned(self, records, records.changed(rows, changed), budget=budget)

    def triggered(self, test: Records) -> Triggered:
        """The chosen rows, as they are: of the source's test part, whatever sample of it or order `test` is.

        Args:
            test: its classes are those that labels are of.
        """
        whole = cached(self.source, "test")
        if max(self.rows) >= len(whole):
            raise RequestError(f"poison.rows names row {max(self.rows)} of a test part of {len(whole)} rows")
        label = class_label(test, self.target, "poison.target")
        chosen = whole.take(torch.tensor(self.rows))
        y = torch.tensor([class_label(test, whole.class_names[own], "poison.rows") for own in chosen.y.tolist()])
        if bool((y == label).any()):
            taken = [row for row, own in zip(self.rows, y.tolist(), strict=True) if own == label]
            raise RequestError(f"poison.rows {taken} are of the class {self.target!r} already; choose others")
        return Triggered(chosen.x, y, torch.full_like(y, label))

    def _gradient(self, weights: Weights, x: Tensor, y: Tensor, create_graph: bool = False) -> Sequence[Tensor]:
        """The gradient of the mean loss on `x` and `y` with respect to each weight."""
        loss = functional.cross_entropy(functional_call(self.surrogate, dict(weights), (x,)), y)
        return torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph)

    def _matched(
        self,
        weights: Weights,
        x: Tensor,
        y: Tensor,
        aim: Sequence[Tensor],
        eps: float,
        draws: Generator,
        ticks: Iterator[int],
    ) -> tuple[Tensor, float]:
        """`x` changed from a random start, and how far its gradient is from the aim: one minus the cosine."""
        start = torch.rand(x.shape, generator=draws).to(x).mul(2).sub(1).mul(eps)
        x_adv = (x + start).clamp_(0, 1).requires_grad_()
        optimizer = torch.optim.Adam([x_adv], lr=self.step_size)
        milestones = [self.steps * eighths // 8 for eighths in (3, 5, 7)]
        for step, _ in zip(range(self.steps), ticks, strict=False):
            loss = _distance(self._gradient(weights, x_adv, y, create_graph=True), aim)
            (gradient,) = torch.autograd.grad(loss, x_adv)
            x_adv.grad = gradient.sign_()
            optimizer.param_groups[0]["lr"] = self.step_size * 0.1 ** sum(step >= milestone for milestone in milestones)
            optimizer.step()
            with torch.no_grad():
                x_adv.copy_(torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp_(0, 1))
        return x_adv.detach(), float(_distance(self._gradient(weights, x_adv, y), aim))


def _distance(gradient: Sequence[Tensor], aim: Sequence[Tensor]) -> Tensor:
    """One minus the cosine of the angle between two gradients, all weights taken as one vector."""
    product = torch.stack([(own * other).sum() for own, other in zip(gradient, aim, strict=True)]).sum()
    lengths = [torch.stack([part.square().sum() for part in parts]).sum().sqrt() for parts in (gradient, aim)]
    return 1 - product / (lengths[0] * lengths[1]).clamp_min(1e-20)
