"""Square: random search that repaints one square of the image at a time, and needs no gradient.

Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via random search"
(arXiv:1912.00049), Algorithms 2 (L-infinity) and 3 (L2); for L1 the version of Croce & Hein 2021 (arXiv:2103.01208,
section 4.3). The margin is what is minimised, and the schedule of square sizes is that of AutoAttack (not rescaled to
the number of queries).

Deviations: each example draws its own squares, as in the paper's code (AutoAttack's draws one for the whole batch);
squares may touch the right and lower border; where a picture is lower or narrower than the square, the square becomes a
rectangle of the same area, so that vectors (pictures of one row) can be attacked; a proposal that changes nothing is
counted as a query but not shown to the model, whose answer is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.attacks.engine.losses import Goal, adversarial_lead
from robustml.attacks.engine.setup import require_counts, required
from robustml.deadline import keeping
from robustml.draws import Draws
from robustml.errors import RequestError
from robustml.threats import LpBall
from robustml.types import Threat

# Up to this many queries the squares cover p / 2, p / 4, ... of the picture.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square:
    """The Square attack under an Lp threat.

    Args:
        queries: most proposals an example, after the random start.
        share: the share of the picture that the first squares cover.
        batch_size: most examples in one forward pass.

    Raises:
        RequestError: fewer than 1 query, or a share outside (0, 1].
    """

    queries: int = 5000
    share: float = 0.8
    batch_size: int = 250

    black_box: ClassVar[bool] = True
    gives_up: ClassVar[bool] = True
    """What it does not turn comes back as it was."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of an evaluation."""
        require_counts(self, "queries", "batch_size")
        if not 0 < self.share <= 1:
            raise RequestError(f"Square needs a share in (0, 1], got {self.share}")

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an Lp ball."""
        return required(LpBall, threat, "Square needs an Lp threat (inf, 2 or 1)")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) in [0, 1] with labels `y` (N,); `x` where none was found."""
        ball = self.check_threat(threat)
        with crafting(model, x, y) as (x, y):
            draws = Draws.of(x, generator)
            chunks = torch.split(torch.arange(len(x), device=x.device), self.batch_size)
            result = x.clone()
            for chunk in chunks:
                with keeping(lambda: result, chunk):
                    result[chunk] = self._search(model, x[chunk], y[chunk], ball, draws.take(chunk))
            return result

    def _search(self, model: nn.Module, x: Tensor, y: Tensor, ball: LpBall, draws: Draws) -> Tensor:
        result, shape = x.clone(), x.shape[1:]
        pictures = x if x.ndim == 4 else x.reshape(len(x), 1, 1, -1)
        picture = (pictures.shape[1], pictures.shape[2], pictures.shape[3])

        def lead_of(images: Tensor, labels: Tensor) -> Tensor:
            return adversarial_lead(logits_of(model, images.view(-1, *shape)), Goal(labels))

        painter: _Painter = (_Signs if ball.p == math.inf else _Bumps)(ball, pictures)
        best = painter.start(draws)
        lead = lead_of(best, y)
        # All the numbers that a search needs: where each square lies, and what is painted in each channel.
        numbers = draws.uniform(self.queries, painter.numbers)
        row = torch.arange(len(x), device=x.device)
        for query in range(self.queries + 1):
            fooled = lead > 0
            if fooled.any():
                result[row[fooled]] = best[fooled].reshape(-1, *shape)
                kept = (~fooled).nonzero().squeeze(1)
                row, best, y, lead, numbers = row[kept], best[kept], y[kept], lead[kept], numbers[kept]
                painter = painter.take(kept)
            if not len(row) or query == self.queries:
                break
            asked, candidate = painter.paint(
                best, self._window(query, picture, 1 if ball.p == math.inf else 3), numbers[:, query]
            )
            if not len(asked):
                continue
            with keeping(lambda: result):
                new_lead = lead_of(candidate, y[asked])
            better = (new_lead > lead[asked]).nonzero().squeeze(1)
            best[asked[better]], lead[asked[better]] = candidate[better], new_lead[better]
        return result

    def _window(self, query: int, picture: tuple[int, int, int], smallest: int) -> tuple[int, int]:
        """Height and width of the square of this query, `smallest` at least."""
        _, height, width = picture
        area = self.share / 2 ** sum(query > limit for limit in _HALVINGS) * height * width
        side = max(round(math.sqrt(area)), smallest)
        if smallest > 1:
            side += 1 - side % 2  # the paper's L2 pattern has two halves and a middle line
        if side <= min(height, width):
            return side, side
        if height <= width:
            return height, max(1, min(width, round(area / height)))
        return max(1, min(height, round(area / width))), width


class _Painter(Protocol):
    """How a norm fills squares of the pictures (N, C, H, W) that it holds."""

    @property
    def numbers(self) -> int:
        """How many uniform numbers one proposal of one example uses."""
        ...

    def start(self, draws: Draws) -> Tensor:
        """The first image of each example, inside the threat."""
        ...

    def paint(self, best: Tensor, window: tuple[int, int], numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Repaint one window of that height and width in each of `best`.

        Returns:
            Which examples this changes (M,), and their new images (M, C, H, W).
        """
        ...

    def take(self, index: Tensor) -> _Painter:
        """The painter of the examples at `index`."""
        ...


class _Signs:
    """L-infinity: a square takes the whole of eps in each channel, up or down."""

    def __init__(self, threat: LpBall, x: Tensor) -> None:
        self.threat, self.x = threat, x
        self.up = (x + threat.eps).clamp_(*threat.bounds)
        self.down = (x - threat.eps).clamp_(*threat.bounds)
        self.numbers = 2 + x.shape[1]

    def start(self, draws: Draws) -> Tensor:
        """Vertical stripes of random sign."""
        signs = draws.uniform(self.x.shape[1], 1, self.x.shape[3])
        return torch.where(signs < 0.5, self.down, self.up)

    def paint(self, best: Tensor, window: tuple[int, int], numbers: Tensor) -> tuple[Tensor, Tensor]:
        """One sign a channel, in one square. Only its pixels are touched: the squares are soon small."""
        place = _pixels(window, numbers[:, :2], best)
        old, low, high = (picture.flatten(2).gather(2, place) for picture in (best, self.down, self.up))
        new = torch.lerp(low, high, (numbers[:, 2:] >= 0.5).to(best).unsqueeze(2))
        asked = (new - old).abs().flatten(1).amax(dim=1).nonzero().squeeze(1)
        candidate = best[asked]
        candidate.flatten(2).scatter_(2, place[asked], new[asked])
        return asked, candidate

    def take(self, index: Tensor) -> _Signs:
        """The same for some of the examples."""
        return _Signs(self.threat, self.x[index])


class _Bumps:
    """L2 and L1: a square takes two bumps of opposite sign, and the budget of another square that is wiped out."""

    def __init__(self, threat: LpBall, x: Tensor) -> None:
        self.threat, self.x = threat, x
        self.numbers = 5 + x.shape[1]

    def start(self, draws: Draws) -> Tensor:
        """The picture tiled with bumps of random sign, on the sphere."""
        _, channels, height, width = self.x.shape
        side = max(1, min(height, width) // 5)
        down, across = height // side, width // side
        numbers = draws.uniform(down, across, channels + 1)
        delta = torch.zeros_like(self.x)
        for i in range(down):
            top = (height - down * side) // 2 + i * side
            for j in range(across):
                left = (width - across * side) // 2 + j * side
                delta[:, :, top : top + side, left : left + side] = self._bumps((side, side), numbers[:, i, j])
        return self._within(delta)

    def paint(self, best: Tensor, window: tuple[int, int], numbers: Tensor) -> tuple[Tensor, Tensor]:
        """New bumps in one window, of the size that it and a second, wiped window had."""
        delta = best - self.x
        channels = delta.shape[1]
        place = _pixels(window, numbers[:, :2], best)
        here, wiped = _inside(window, numbers[:, :2], best), _inside(window, numbers[:, 2:4], best)
        held = self._size(delta * torch.maximum(here, wiped))
        old = delta.flatten(2).gather(2, place).view(len(delta), channels, *window)
        new = self._bumps(window, numbers[:, 4:]) + old / (self._size(old) + 1e-12)
        whole = torch.linalg.vector_norm(delta.flatten(1), ord=self.threat.p, dim=1).view(-1, 1, 1, 1)
        if self.threat.p == 2:
            size = ((self.threat.eps**2 - whole**2).clamp_min(0) / channels + held**2).sqrt()
        else:
            size = ((self.threat.eps - whole).clamp_min(0) / channels + held) * channels
        delta = delta * (1 - wiped)
        delta.flatten(2).scatter_(2, place, (new / (self._size(new) + 1e-12) * size).flatten(2))
        candidate = self._within(delta)
        asked = (candidate - best).flatten(1).abs().amax(dim=1).nonzero().squeeze(1)
        return asked, candidate[asked]

    def take(self, index: Tensor) -> _Bumps:
        """The same for some of the examples."""
        return _Bumps(self.threat, self.x[index])

    def _bumps(self, window: tuple[int, int], numbers: Tensor) -> Tensor:
        """Two bumps (N, C, h, w), beside or above each other, with a random sign a channel."""
        above, beside = (pattern.to(self.x) for pattern in _two_bumps(*window, self.threat.p))
        shape = torch.where(numbers[:, 0].view(-1, 1, 1, 1) < 0.5, above, beside)
        return torch.mul(shape, torch.where(numbers[:, 1:] < 0.5, -1.0, 1.0).view(len(numbers), -1, 1, 1))

    def _size(self, delta: Tensor) -> Tensor:
        """The norm of each channel: (N, C, 1, 1)."""
        size: Tensor = torch.linalg.vector_norm(delta, ord=self.threat.p, dim=(2, 3), keepdim=True)
        return size

    def _within(self, delta: Tensor) -> Tensor:
        if self.threat.p == 1:
            return self.threat.project(self.x + delta, self.x)
        size = torch.linalg.vector_norm(delta.flatten(1), dim=1).view(-1, 1, 1, 1)
        return torch.addcmul(self.x, delta, self.threat.eps / (size + 1e-12)).clamp_(*self.threat.bounds)


def _corner(window: tuple[int, int], numbers: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The upper left corner (N,), (N,) of each example's window, anywhere that it fits into the picture."""
    places = [like.shape[2] - window[0] + 1, like.shape[3] - window[1] + 1]
    rows, columns = (numbers * torch.tensor(places, device=like.device)).long().unbind(dim=1)
    return rows, columns


def _pixels(window: tuple[int, int], numbers: Tensor, like: Tensor) -> Tensor:
    """Where the h * w pixels of each example's window lie in its flattened channels: (N, C, h * w)."""
    rows, columns = _corner(window, numbers, like)
    width = like.shape[3]
    down = torch.arange(window[0], device=like.device).view(-1, 1) * width
    across = torch.arange(window[1], device=like.device)
    pixels = (rows * width + columns).unsqueeze(1) + (down + across).flatten()
    return pixels.unsqueeze(1).expand(-1, like.shape[1], -1)


def _inside(window: tuple[int, int], numbers: Tensor, like: Tensor) -> Tensor:
    """1 in each example's window and 0 around it: (N, 1, H, W). Numbers, since masks of bools are slow on a CPU."""
    rows, columns = (corner.view(-1, 1) for corner in _corner(window, numbers, like))
    down, across = (torch.arange(side, device=like.device) for side in like.shape[2:])
    in_rows = ((down >= rows) & (down < rows + window[0])).to(like)
    in_columns = ((across >= columns) & (across < columns + window[1])).to(like)
    return in_rows.view(len(like), 1, -1, 1) * in_columns.view(len(like), 1, 1, -1)


@lru_cache(maxsize=256)
def _two_bumps(height: int, width: int, p: float) -> tuple[Tensor, Tensor]:
    """A bump and its negative, (h, w) of Lp norm 1: one above the other, and one beside the other."""

    def stacked(rows: int, columns: int) -> Tensor:
        halves = torch.cat([_bump(rows // 2, columns, p), -_bump(rows - rows // 2, columns, p)])
        return torch.div(halves, torch.linalg.vector_norm(halves.flatten(), ord=p))

    return stacked(height, width), stacked(width, height).T


def _bump(height: int, width: int, p: float) -> Tensor:
    """(h, w), highest in the middle and falling with the (maximum) distance from it: the paper's eta."""
    reach = max(height, width) // 2 + 1
    rings = 1 / torch.arange(1, reach + 1) ** (2.0 if p == 2 else 4.0)
    falling = rings.flip(0).cumsum(0).flip(0)
    rows = (torch.arange(height) - height // 2).abs().view(-1, 1)
    columns = (torch.arange(width) - width // 2).abs().view(1, -1)
    return falling[torch.maximum(rows, columns)]
