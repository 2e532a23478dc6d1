"""Batches cut, augmented and scaled on the device where the whole set lives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from robustml.data.arrays import Arrays
from robustml.data.augment import Augmentation
from robustml.errors import RequestError

__all__ = ["TensorLoader"]


class TensorLoader:
    """Iterate over batches `(x, y)`: x (B, ...) float32 in [0, 1] and y (B,) int64, both on `device`.

    Order and augmentation depend on `seed`, the epoch and the batch's number alone: a resumed run sees what the
    uninterrupted one would have, and so do all ranks, on whatever device.

    With `shuffle` (training) each rank gets its contiguous share of every batch, of nearly equal sizes, and a last
    batch of fewer samples than ranks is dropped. Without (evaluation) whole batches go round-robin to the ranks, each
    sample to exactly one of them.

    Args:
        arrays: the set; moved to `device` whole, and shared with other loaders where it is there already.
        batch_size: samples a batch, over all ranks together.
        shuffle: draw a new order each epoch.
        augment: applied in order to each batch over all ranks, before it is cut.
        seed: of the order and the augmentation.
        device: where the set lives and the batches come out.
        rank: which of the `world_size` processes this is.
        world_size: how many processes share the set.
        drop_last: leave out a last batch of fewer than `batch_size` samples.
        channels_last: lay images out in memory channels last.

    Raises:
        RequestError: on an empty set, a batch size below 1 (training: below `world_size`), or an augmentation that
            cannot be called.
    """

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: Sequence[Augmentation] = (),
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        channels_last: bool = False,
    ) -> None:
        if len(arrays) == 0:
            raise RequestError("expected at least one sample to load, got an empty set")
        least = world_size if shuffle else 1
        if batch_size < least:
            raise RequestError(f"expected a batch size of at least {least} ({world_size} processes), got {batch_size}")
        for change in augment:
            if not callable(change):
                raise RequestError(f"expected augmentations that can be called, got {change!r}; give it a _target_")
        self.arrays = arrays.to(device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.augment = tuple(augment)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.channels_last = channels_last
        self.epoch = 0
        self._handed_out = 0
        self._resume: tuple[int, int] | None = None  # the epoch to resume in, and its batches already seen

        whole, last = divmod(len(arrays), batch_size)
        total = whole + int(last >= least and not drop_last)
        self.batch_indices = range(total) if shuffle else range(rank, total, world_size)
        """Which of the set's batches this rank yields (its shares of), by number, in order."""

    def __len__(self) -> int:
        """How many batches this rank yields a pass."""
        return len(self.batch_indices)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over this rank's batches, in the order of the current epoch."""
        # a generator, so that nothing is drawn before the first batch: Lightning makes the iterator and only then
        # announces the epoch
        done = self._batches_done()
        order = self._order()
        for position, index in enumerate(self.batch_indices[done:], start=done + 1):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            self._handed_out = position
            yield self._batch(chosen, index)

    def _batch(self, chosen: Tensor, index: int) -> tuple[Tensor, Tensor]:
        x = self.arrays.x.index_select(0, chosen)
        y = self.arrays.y.index_select(0, chosen)
        if self.augment:
            generator = self._generator(index)
            for change in self.augment:
                x = change(x, generator)
        if self.shuffle and self.world_size > 1:
            start, stop = (len(chosen) * rank // self.world_size for rank in (self.rank, self.rank + 1))
            x, y = x[start:stop], y[start:stop]
        if x.dtype == torch.uint8:
            x = x.float().div_(255)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, y

    def _order(self) -> Tensor:
        count = len(self.arrays)
        order = torch.randperm(count, generator=self._generator("order")) if self.shuffle else torch.arange(count)
        return order.to(self.arrays.y.device)

    def _generator(self, purpose: int | str) -> Generator:
        """A generator on the CPU, whatever the device: the draws are then the same everywhere."""
        digest = hashlib.sha256(f"{self.seed}/{self.epoch}/{purpose}".encode()).digest()
        return Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))

    # What Lightning calls: `sampler.set_epoch` at the start of each epoch, and the state in every checkpoint.

    @property
    def sampler(self) -> TensorLoader:
        """The loader itself, where Lightning looks for `set_epoch`."""
        return self

    @property
    def batch_sampler(self) -> None:
        """None: Lightning looks here too wherever there is a `sampler`."""
        return None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and augmentation the next pass draws."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Where the current pass stands: its epoch, and how many batches it handed out."""
        return {"epoch": self.epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next pass, if it is over the same epoch, go on after the batches handed out before."""
        self.set_epoch(state["epoch"])
        self._resume = state["epoch"], state["batches"]

    def _batches_done(self) -> int:
        resume, self._resume = self._resume, None
        self._handed_out = 0
        # a pass that had ended is not resumed
        return resume[1] if resume is not None and resume[0] == self.epoch and resume[1] < len(self) else 0
