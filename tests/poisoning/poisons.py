"""Sets to poison, surrogates, and one table of all poisons: a new one is a new row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, PGD
from robustml.data import Records
from robustml.data.splits import Split
from robustml.poisoning import (
    SIG,
    Add,
    BadNets,
    Blended,
    Chain,
    Change,
    Delete,
    Flip,
    GradientMatching,
    InjectAdversarial,
    InputAware,
    LabelConsistent,
    Noise,
    Poison,
    Shortcut,
    SinglePixel,
    Square,
    WaNet,
)
from robustml.threats import LpBall

NAMES = ("ant", "bee", "cat", "dog")
COUNT, TARGET, RATE = 120, 2, 0.1


def pictures(count: int = COUNT, channels: int = 3, side: int = 8, seed: int = 0) -> Records:
    """Noise, a quarter of it of each class; no pixel is at the edge of the range, so that every change shows."""
    x = torch.randint(
        60, 196, (count, channels, side, side), generator=Generator().manual_seed(seed), dtype=torch.uint8
    )
    return Records(x, torch.arange(count) % len(NAMES), NAMES)


def floats() -> Records:
    """The same pictures as numbers in [0, 1]."""
    return Records(pictures().x.float() / 255, pictures().y, NAMES)


def vectors() -> Records:
    """Rows of a table, one column of which has few values."""
    x = torch.rand(COUNT, 12, generator=Generator().manual_seed(2))
    x[:, 1] = (x[:, 1] * 4).floor() / 4
    return Records(x, (torch.arange(COUNT) * 7) % 4, NAMES)


def signals() -> Records:
    """Waveforms of two channels."""
    return Records(torch.rand(COUNT, 2, 9, generator=Generator().manual_seed(3)), torch.arange(COUNT) % 4, NAMES)


SETS = {"pictures": pictures, "floats": floats, "vectors": vectors, "signals": signals}


@dataclass(frozen=True)
class Given:
    """A source of pictures of the test's own."""

    count: int = COUNT

    def load(self, split: Split) -> Records:
        """Other pictures in either part."""
        return pictures(self.count, seed=0 if split == "train" else 1)


@dataclass(frozen=True)
class Both:
    """The same set as both parts."""

    data: Records

    def load(self, split: Split) -> Records:
        """The set."""
        return self.data


def network(classes: int = 4) -> nn.Module:
    """Batch norm and dropout would show a surrogate that is left in another mode or moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        convolution = nn.Conv2d(3, 6, 3, padding=1)
        return nn.Sequential(
            convolution, nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(384, classes)
        )


class Linear(nn.Module):
    """Logits (N, 4) of anything with 12 values at least, through dropout that only eval mode switches off."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.sin(torch.arange(48.0)).view(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x.flatten(1)[:, :12]) @ self.weight


SURROGATE, LINEAR = network().train(), Linear()
BALL = LpBall("inf", 0.1)
PUSH, WANDER = FGSM(), PGD(steps=2)

BACKDOORS: dict[str, Any] = {
    "badnets": BadNets(Square(2), rate=RATE, target=TARGET),
    "badnets-next": BadNets(Square(2), rate=RATE, target="next"),
    "blended": Blended(rate=RATE, target=TARGET),
    "blended-square": Blended(Square(4), alpha=0.5, rate=RATE, target="cat"),
    "sig": SIG(rate=RATE, target=TARGET, frequency=3),
    "wanet": WaNet(rate=RATE, noise_rate=0.2, target=TARGET),
    "single_pixel": SinglePixel(target="cat", victim="ant", pixel=(1, 2)),
    "label_consistent": LabelConsistent(SURROGATE, WANDER, BALL, rate=RATE, target=TARGET, batch_size=5),
    "input_aware": InputAware(
        SURROGATE, Given(), RATE, 0.2, TARGET, density=0.2, width=4, mask_steps=3, steps=3, batch_size=16
    ),
    "gradient_matching": GradientMatching(SURROGATE, Given(), (0, 5), "cat", rate=RATE, steps=3, restarts=2),
    "shortcut": Shortcut(Square(2), correlation=0.9, target=TARGET),
}
# How many records differ afterwards, of 120, 30 of each class; the cover is counted.
CHANGED = dict.fromkeys(BACKDOORS, 12) | {"wanet": 36, "input_aware": 36, "single_pixel": 30, "shortcut": 36}
CLEAN_LABEL = ("sig", "single_pixel", "label_consistent", "gradient_matching", "shortcut")
RATED = [name for name in BACKDOORS if name not in ("single_pixel", "shortcut")]
ADDING: dict[str, Any] = {
    "add-mislabelled": Add(kind="mislabelled"),
    "add-mislabelled-label": Add(kind="mislabelled", label="dog"),
    "add-duplicated": Add(kind="duplicated"),
    "add-out_of_distribution": Add(kind="out_of_distribution"),
    "add-out_of_distribution-label": Add(kind="out_of_distribution", label=3),
    "inject-true": InjectAdversarial(PUSH, BALL, LINEAR),
    "inject-predicted": InjectAdversarial(PUSH, BALL, LINEAR, label="predicted"),
    "inject-class": InjectAdversarial(WANDER, BALL, LINEAR, label="cat", batch_size=5),
}
CHANGING: dict[str, Any] = {
    "change-set": Change(kind="set", value=0.25),
    "change-set-columns": Change(kind="set", value=1.0, columns=[1, 3]),
    "change-scale": Change(kind="scale", value=1.5, columns=[0, 5]),
    "change-permute": Change(kind="permute"),
    "change-permute-columns": Change(kind="permute", columns=[1, 2]),
    "noise-gaussian": Noise(kind="gaussian", sigma=0.1),
    "noise-salt_and_pepper": Noise(kind="salt_and_pepper", share=0.2),
    "flip-random": Flip(kind="random"),
    "flip-source_to_target": Flip(kind="source_to_target", source="ant", target=1),
    "flip-most_confusable": Flip(kind="most_confusable"),
    "inject-replace": InjectAdversarial(WANDER, BALL, LINEAR, replace=True),
    "inject-replace-class": InjectAdversarial(PUSH, BALL, LINEAR, label=0, replace=True),
}
DELETING: dict[str, Any] = {
    "delete": Delete(),
    "delete-classes": Delete(classes=["ant", 2]),
    "delete-group": Delete(column=4, between=(0.2, 0.9)),
    "delete-both": Delete(classes=[0, 1], column=2, between=(0.0, 0.9)),
}
ON_PICTURES: dict[str, Any] = {
    "change-pixels": Change(kind="set", value=1.0, pixels=[[0, 0], [3, 4]]),
    "change-pixels-permute": Change(kind="permute", pixels=[[1, 0]]),
}
CHAINS: dict[str, Any] = {
    "chain": Chain(
        {
            "mark": BadNets(Square(2), rate=0.1, target=TARGET),
            "delete": Delete(0.1),
            "copies": Add(0.2, "duplicated"),
            "flip": Flip(0.2),
            "warp": WaNet(rate=0.1, noise_rate=0.2, target=1),
            "false": Add(0.1),
        }
    ),
    "chain-cover": Chain({"warp": WaNet(rate=0.1, noise_rate=0.4, target=1), "mark": BadNets(Square(2), rate=0.3)}),
}
MANIPULATIONS = ADDING | CHANGING | DELETING
ALL: dict[str, Any] = BACKDOORS | ON_PICTURES | CHAINS | MANIPULATIONS
CASES = [(name, kind) for name in ALL for kind in (SETS if name in MANIPULATIONS else ("pictures", "floats"))]


def poisoned(poison: Poison, data: Records, seed: int = 0) -> Records:
    """The set with the poison in it."""
    return poison.plan(data, seed=seed).apply(data)
