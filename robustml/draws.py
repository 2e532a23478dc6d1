"""Random numbers that belong to an example, not to its place in a batch.

What draws one tensor for a whole batch gives an image another start in another batch. Here every example has
a generator of its own, seeded by the caller's generator and the example's content, so that one batch of N, N batches of
1, and the same images spread over several processes all see the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


class Draws:
    """One stream of random numbers for each of N examples.

    Args:
        generators: one an example, on the CPU.
        device: where the numbers are wanted.
    """

    def __init__(self, generators: Sequence[Generator], device: torch.device) -> None:
        """Take the streams as they are."""
        self._generators = generators
        self._device = device

    @staticmethod
    def of(x: Tensor, generator: Generator | None = None) -> Draws:
        """Streams for the examples `x` (N, ...): one number is drawn from `generator`, the rest is the content's."""
        device = None if generator is None else generator.device
        salt = int(torch.randint(0, 2**62, (1,), generator=generator, device=device)).to_bytes(8, "little")
        # As bytes, since NumPy knows no bfloat16.
        rows = x.detach().cpu().contiguous().flatten(1) if x.ndim > 1 else x.detach().cpu().unsqueeze(1)
        return Draws([_seeded(example.tobytes(), salt) for example in rows.view(torch.uint8).numpy()], x.device)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._generators)

    def take(self, index: Tensor) -> Draws:
        """The streams of the examples at `index`, to go on with."""
        return Draws([self._generators[i] for i in index.tolist()], self._device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers (N, *shape), uniform in [0, 1)."""
        return self._stack([torch.rand(shape, generator=generator) for generator in self._generators], shape)

    def exponential(self, *shape: int) -> Tensor:
        """Numbers (N, *shape), exponential with mean 1."""
        return self._stack([torch.empty(shape).exponential_(generator=own) for own in self._generators], shape)

    def normal(self, *shape: int) -> Tensor:
        """Numbers (N, *shape), standard normal."""
        return self._stack([torch.randn(shape, generator=generator) for generator in self._generators], shape)

    def poisson(self, expected: Tensor) -> Tensor:
        """Poisson numbers of the means `expected` (N, ...), on its device."""
        rows = zip(expected.cpu(), self._generators, strict=True)
        return torch.stack([torch.poisson(row, generator=own) for row, own in rows]).to(expected.device)

    def _stack(self, rows: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        stacked = torch.stack(rows) if rows else torch.empty(0, *shape)
        return stacked.to(self._device)


def _seeded(content: bytes, salt: bytes) -> Generator:
    digest = hashlib.blake2b(content, digest_size=8, key=salt).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little"))
