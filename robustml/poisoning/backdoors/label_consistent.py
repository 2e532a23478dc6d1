"""Label-consistent: make pictures of one class hard to read, put the trigger on them, and leave their labels alone.

Turner, Tsipras and Madry 2019, "Label-Consistent Backdoor Attacks" (arXiv:1912.02771), the variant that perturbs by an
attack on another model: what is hard to recognise makes the model rely on the trigger. In training the trigger may be
fainter than at test time, and in all four corners, so that flips and crops keep it.

Deviation: the surrogate is whatever model is given; the paper's are adversarially trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from robustml.calling import refuse_misfit
from robustml.data import Records
from robustml.poisoning.backdoors.aiming import own_rows, shown
from robustml.poisoning.checks import check_rate, check_stamp, check_whole
from robustml.poisoning.choose import seeded
from robustml.poisoning.pixels import in_unit_range, require_images, stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned
from robustml.poisoning.surrogate import attacked, borrowed, budget_of
from robustml.poisoning.triggers import FourCorners, Trigger
from robustml.progress import track
from robustml.types import Attack, Threat


@dataclass(frozen=True, eq=False)
class LabelConsistent:
    """The label-consistent backdoor.

    Args:
        surrogate: images (N, C, H, W) in [0, 1] to logits; lent in eval mode, handed back as found.
        attack: makes the pictures hard to read for the surrogate.
        threat: what the attack may do.
        trigger: stamped on the perturbed pictures.
        shown_trigger: stamped at test time; None is `trigger`. The paper plants it fainter than it shows it.
        rate: the share of the whole training set that is changed, all of it of the target class.
        target: the class (number or name) whose pictures are changed, and that the trigger then means.
        batch_size: pictures to attack at once.

    Raises:
        RequestError: a rate outside [0, 1]; when called: no pictures, no such class, too few pictures of it, or a
            trigger that does not fit.
    """

    surrogate: nn.Module
    attack: Attack
    threat: Threat
    trigger: Trigger = field(default_factory=FourCorners)
    shown_trigger: Trigger | None = None
    rate: float = 0.05
    target: int | str = 0
    batch_size: int = 250

    def __post_init__(self) -> None:
        refuse_misfit(self.attack, self.threat)
        check_rate(self.rate)
        check_stamp(self.trigger)
        if self.shown_trigger is not None:
            check_stamp(self.shown_trigger, "poison.shown_trigger")
        check_whole(self.batch_size, "poison.batch_size", "must be a whole number of at least 1", 1)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows of the target class perturbed and stamped; all labels are kept."""
        require_images(records, "poison=label_consistent")
        rows = own_rows(records, self.target, self.rate, seed, "label_consistent")
        generator = seeded(seed, "label_consistent attack")
        for trigger in (self.trigger, self.shown_trigger):  # what does not fit is refused before the attack
            if trigger is not None:
                trigger(in_unit_range(records.x[:1]))
        changed, pairs = records.x[rows], []
        with borrowed(self.surrogate) as device:
            for part in track(torch.split(torch.arange(len(rows)), self.batch_size), "crafting poison"):
                x = changed[part]
                x_adv = attacked(self.attack, self.threat, self.surrogate, x, records.y[rows[part]], generator, device)
                pairs.append((x_adv, x))
                changed[part] = stamped(x_adv, self.trigger)
        return planned(self, records, records.changed(rows, changed), budget=budget_of(self.threat, pairs))

    def triggered(self, test: Records) -> Triggered:
        """Every picture of another class than the target, stamped."""
        return shown(test, self.target, self.trigger if self.shown_trigger is None else self.shown_trigger)
