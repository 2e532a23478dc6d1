"""Add noise: Gaussian, or salt and pepper.

Noisy records are the mildest manipulation, and the one that happens by itself: bad sensors, bad copies. The two kinds
are those of every textbook (Gonzalez and Woods, "Digital Image Processing"); inputs of any shape will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_kind, check_number, check_rate
from robustml.poisoning.choose import choose, rows_for, seeded
from robustml.poisoning.pixels import stamped
from robustml.poisoning.plan import PoisonPlan, planned
from robustml.progress import track

_Kind = Literal["gaussian", "salt_and_pepper"]
_DRAWS, _AT_ONCE = 100, 4096


@dataclass(frozen=True)
class Noise:
    """Noise on the inputs of some rows. A row that a draw leaves as it was (few values, little noise) draws again.

    Args:
        rate: the share of the whole training set that gets noise, in [0, 1].
        kind: ``"gaussian"`` on every value, clamped to [0, 1]; ``"salt_and_pepper"``: some values become 0 or 1, with
            equal chance.
        sigma: the standard deviation of Gaussian noise, > 0, where values are in [0, 1].
        share: the chance of each value to become salt or pepper, in (0, 1].

    Raises:
        RequestError: a rate, sigma or share out of range, or an unknown kind; when called: so little noise that some
            rows are left as they were by a hundred draws.
    """

    rate: float = 0.1
    kind: _Kind = "gaussian"
    sigma: float = 0.2
    share: float = 0.1

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_kind(self.kind, get_args(_Kind))
        check_number(self.sigma, "poison.sigma", "must be > 0", 0, above=True)
        check_number(self.share, "poison.share", "must be in (0, 1]", 0, 1, above=True)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with noise on ``round(rate * N)`` rows."""
        rows = choose(torch.arange(len(records)), rows_for(self.rate, records), seed, "noise")
        generator = seeded(seed, "noise/values")
        old = records.x[rows]
        new = old.clone()
        same = torch.arange(len(rows))
        for _ in range(_DRAWS):
            if not len(same):
                return planned(self, records, records.changed(rows, new))
            for part in track(_parts(same), "drawing noise"):
                new[part] = stamped(old[part], lambda x: self._noisy(x, generator))
            same = (new == old).flatten(1).all(dim=1).nonzero().squeeze(1)
        raise RequestError(
            f"noise: {len(same)} of {len(rows)} rows are the same after {_DRAWS} draws; raise poison.sigma or .share"
        )

    def _noisy(self, x: Tensor, generator: Generator) -> Tensor:
        if self.kind == "gaussian":
            return x + self.sigma * torch.randn(x.shape, generator=generator)
        draw = torch.rand(x.shape, generator=generator)
        return torch.where(draw < self.share, (draw < self.share / 2).to(x.dtype), x)


def _parts(rows: Tensor) -> list[Tensor]:
    """The rows in parts, so that memory holds few as numbers; torch draws normal numbers by 16, so it makes no odds."""
    parts = list(torch.split(rows, _AT_ONCE))
    return parts if len(parts[-1]) >= 16 else [*parts[:-2], torch.cat(parts[-2:])]
