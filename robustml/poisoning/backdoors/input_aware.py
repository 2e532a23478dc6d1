"""Input-aware: a generator makes another trigger for every picture, and one picture's trigger does nothing on another.

Nguyen and Tran 2020, "Input-Aware Dynamic Backdoor Attack" (NeurIPS, arXiv:2010.08138): one network draws a sparse
mask, another a pattern; both are trained to differ between pictures, the pattern together with a classifier that must
read a picture with its own trigger as the target class and one with another picture's trigger as what it is.

Deviations: in the paper the attacker hands over that classifier, and triggers are renewed in every batch. Here he only
touches data: he trains a copy of a surrogate with the generator, throws it away, and poisons a share of the rows once;
the victim's model has never met the generator. So its success is lower than in the paper. The networks are small
convolutions without batch norm, so that a picture's trigger does not depend on the batch it came in.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.data import Records, Source, cached
from robustml.poisoning.backdoors.shown import shown
from robustml.poisoning.checks import check_number, check_rate, check_whole
from robustml.poisoning.choose import choose, class_to_aim_at, rows_for, rows_of_others, seeded
from robustml.poisoning.pixels import in_unit_range, require_images, stamped
from robustml.poisoning.plan import PoisonPlan, Triggered
from robustml.poisoning.planned import planned
from robustml.poisoning.surrogate import borrowed, one_thread

__all__ = ["InputAware"]


class _Generator(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] to (N, `channels_out`, H, W) in [0, 1]; `sharpness` pushes towards 0 and 1."""

    def __init__(self, channels_in: int, channels_out: int, width: int, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.down = nn.Sequential(
            nn.Conv2d(channels_in, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
        )
        self.up = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, channels_out, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.interpolate(self.down(x), size=x.shape[2:], mode="nearest")
        return torch.tanh(self.sharpness * self.up(wide)) / 2 + 0.5


class _Triggers(NamedTuple):
    """The trained pair of networks."""

    pattern: nn.Module
    mask: nn.Module

    def on(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """Pictures with their own trigger, or with that of other ones `of`, one each."""
        of = x if of is None else of
        return x.lerp(self.pattern(of), self.mask(of))


@dataclass(frozen=True, eq=False)
class InputAware:
    """The input-aware backdoor.

    Args:
        surrogate: images (N, C, H, W) in [0, 1] to logits; a copy of it is trained on, itself it is not touched.
        source: whose training part the generator is trained on; it is the same for training and test, whatever the
            seed of the run.
        rate: the share of the whole training set that gets its trigger and the target's label.
        cross_rate: the share that gets another picture's trigger and keeps its label. They are the cover: figures
            count them apart from `rate`.
        target: the class (number or name) that pictures with their trigger get.
        density: the share of the picture that a mask may cover without a penalty.
        width: channels of the generator's first layer.
        mask_steps: training steps of the mask.
        steps: training steps of the pattern and the copy of the surrogate.
        batch_size: pictures a step.
        learning_rate: of both, with Adam.
        generator_seed: of the generator's weights and batches.

    Raises:
        RequestError: a value out of range; when called: no pictures, no such class, or too few rows.
    """

    surrogate: nn.Module
    source: Source
    rate: float = 0.1
    cross_rate: float = 0.1
    target: int | str = 0
    density: float = 0.032
    width: int = 16
    mask_steps: int = 200
    steps: int = 600
    batch_size: int = 128
    learning_rate: float = 0.003
    generator_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no generator could be trained with."""
        check_rate(self.rate)
        check_rate(self.cross_rate, "poison.cross_rate")
        check_number(self.density, "poison.density", "is the share of the picture under the mask, in [0, 1]", 0, 1)
        for name in ("width", "mask_steps", "steps"):
            check_whole(getattr(self, name), f"poison.{name}", "must be a whole number of at least 1", 1)
        check_whole(self.batch_size, "poison.batch_size", "must be at least 4, for three kinds of rows", 4)
        check_number(self.learning_rate, "poison.learning_rate", "must be above 0", 0, above=True)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows triggered and relabelled, and ``round(cross_rate * N)`` wrongly so."""
        require_images(records, "poison=input_aware")
        target = class_to_aim_at(records, self.target)
        others = rows_of_others(records, target)
        rows = choose(others, rows_for(self.rate, records), seed, "input_aware", "rows of other classes")
        is_left = torch.ones(len(records), dtype=torch.bool)
        is_left[rows] = False
        left, count = is_left.nonzero().squeeze(1), rows_for(self.cross_rate, records, "poison.cross_rate")
        crossed = choose(left, count, seed, "input_aware cross", "rows beside the relabelled")
        offset = torch.randint(1, max(len(records), 2), (count,), generator=seeded(seed, "input_aware partner"))
        partners = in_unit_range(records.x[(crossed + offset) % len(records)])
        wrong = stamped(records.x[crossed], lambda x: self._drawn(x, partners))
        x = torch.cat([stamped(records.x[rows], self._own), wrong])
        y = torch.cat([torch.full_like(rows, target), records.y[crossed]])
        poisoned = records.changed(torch.cat([rows, crossed]), x, y)
        return planned(self, records, poisoned, cover=records.ids[crossed], requested_cover=self.cross_rate)

    def triggered(self, test: Records) -> Triggered:
        """Every picture of another class than the target, with its own trigger."""
        return shown(test, self.target, self._own)

    def _own(self, x: Tensor) -> Tensor:
        return self._drawn(x, x)

    @torch.no_grad()
    def _drawn(self, x: Tensor, of: Tensor) -> Tensor:
        """`x` (N, C, H, W) with the triggers of `of`, in parts, so that the networks' inner layers fit in memory."""
        with one_thread():
            parts = zip(torch.split(x, 500), torch.split(of, 500), strict=True)
            drawn = [self._trained.on(part, other) for part, other in parts]
        return torch.cat(drawn) if drawn else x

    @cached_property
    def _trained(self) -> _Triggers:
        """The generator: a pure function of this poison's arguments, so that training and test see the same one."""
        records = cached(self.source, "train")
        channels = require_images(records, "poison=input_aware")[0]
        target = class_to_aim_at(records, self.target)
        draws = seeded(self.generator_seed, "input_aware batches")
        with borrowed(self.surrogate) as device, torch.random.fork_rng(), torch.enable_grad():
            # one number from the stream seeds the weights, and whatever dropout the surrogate has
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=draws)))
            classifier = copy.deepcopy(self.surrogate).requires_grad_()
            mask = _Generator(channels, 1, self.width, sharpness=10.0).to(device)
            pattern = _Generator(channels, channels, self.width, sharpness=1.0).to(device)
            self._train_mask(mask, records, draws, device)
            self._train_pattern(_Triggers(pattern, mask), classifier, records, target, draws, device)
        return _Triggers(pattern.cpu().eval().requires_grad_(False), mask.cpu().eval().requires_grad_(False))

    def _train_mask(self, mask: nn.Module, records: Records, draws: Generator, device: torch.device) -> None:
        optimizer = torch.optim.Adam(mask.parameters(), lr=self.learning_rate)
        for _ in range(self.mask_steps):
            x, _ = self._batch(records, draws, device)
            drawn = mask(x)
            loss = _sameness(x, drawn) + 100 * (drawn - self.density).relu().mean()  # the paper's weights
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        mask.requires_grad_(False)

    def _train_pattern(
        self,
        triggers: _Triggers,
        classifier: nn.Module,
        records: Records,
        target: int,
        draws: Generator,
        device: torch.device,
    ) -> None:
        classifier.train()
        optimizer = torch.optim.Adam([*triggers.pattern.parameters(), *classifier.parameters()], lr=self.learning_rate)
        # the paper's shares: a tenth with their own trigger, a tenth with another's, the others clean
        tenth = max(1, self.batch_size // 10)
        for _ in range(self.steps):
            x, y = self._batch(records, draws, device)
            own, crossed, clean = x[:tenth], x[tenth : 2 * tenth], x[2 * tenth :]
            mixed = torch.cat([triggers.on(own), triggers.on(crossed, x[-len(crossed) :]), clean])
            wanted = torch.cat([torch.full_like(y[:tenth], target), y[tenth:]])
            loss = functional.cross_entropy(classifier(mixed), wanted) + _sameness(x, triggers.pattern(x))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()

    def _batch(self, records: Records, draws: Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(records), (self.batch_size,), generator=draws)
        return in_unit_range(records.x[rows]).to(device), records.y[rows].to(device)


def _sameness(x: Tensor, drawn: Tensor) -> Tensor:
    """The paper's diversity loss: how far pairs of pictures are apart, over how far what was drawn for them is."""
    apart = _distance(x, x.roll(1, dims=0))
    return (apart / (_distance(drawn, drawn.roll(1, dims=0)) + 1e-3)).mean()


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().flatten(1).mean(dim=1).add(1e-12).sqrt()
