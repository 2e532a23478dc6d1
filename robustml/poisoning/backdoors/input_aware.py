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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.data import Records, Source, cached
from robustml.errors import RequestError
from robustml.poisoning.backdoors.aiming import cover_rows, other_rows, shown
from robustml.poisoning.checks import check_number, check_rate, check_whole
from robustml.poisoning.choose import class_to_aim_at, seeded
from robustml.poisoning.pixels import in_unit_range, require_images, stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned
from robustml.poisoning.surrogate import borrowed, one_thread
from robustml.progress import track


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


class _Triggers(nn.Module):
    """The pair of networks."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.mask = _Generator(channels, 1, width, sharpness=10.0)
        self.pattern = _Generator(channels, channels, width, sharpness=1.0)

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
        rows, labels = other_rows(records, self.target, self.rate, seed, "input_aware")
        crossed = cover_rows(records, rows, self.cross_rate, "poison.cross_rate", seed, "input_aware cross")
        draws = seeded(seed, "input_aware partner")
        offset = torch.randint(1, max(len(records), 2), crossed.shape, generator=draws)
        partners = in_unit_range(records.x[(crossed + offset) % len(records)])
        wrong = stamped(records.x[crossed], lambda x: self._drawn(x, partners))
        x = torch.cat([stamped(records.x[rows], self._own), wrong])
        poisoned = records.changed(torch.cat([rows, crossed]), x, torch.cat([labels, records.y[crossed]]))
        cover, learned = records.ids[crossed], self._trained.state_dict()
        return planned(self, records, poisoned, cover=cover, requested_cover=self.cross_rate, learned=learned)

    def triggered(self, test: Records) -> Triggered:
        """Every picture of another class than the target, with its own trigger."""
        return shown(test, self.target, self._own)

    def recalling(self, learned: Mapping[str, Tensor]) -> InputAware:
        """This poison with the generator of a plan, weight by weight, instead of one that is trained.

        Raises:
            RequestError: the plan holds none, or one of another shape than these settings make.
        """
        try:
            with torch.random.fork_rng(devices=[]):  # the weights that it draws are overwritten
                triggers = _Triggers(len(learned["pattern.up.2.bias"]), self.width)
            triggers.load_state_dict(learned)
        except (KeyError, TypeError, RuntimeError) as error:
            raise RequestError("the plan's generator is not of the kind that poison.width makes") from error
        other = copy.copy(self)
        other.__dict__["_trained"] = triggers.eval().requires_grad_(False)
        return other

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
            triggers = _Triggers(channels, self.width).to(device)
            self._train_mask(triggers.mask, records, draws, device)
            self._train_pattern(triggers, classifier, records, target, draws, device)
        return triggers.cpu().eval().requires_grad_(False)

    def _train_mask(self, mask: nn.Module, records: Records, draws: Generator, device: torch.device) -> None:
        optimizer = torch.optim.Adam(mask.parameters(), lr=self.learning_rate)
        for _ in track(range(self.mask_steps), "training the mask"):
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
        for _ in track(range(self.steps), "training the pattern"):
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
