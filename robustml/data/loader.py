"""Batches cut, augmented and scaled on the device where the whole set lives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from robustml.data.augment import Augmentation
from robustml.data.extra import Mixture
from robustml.data.mixing import Mix
from robustml.data.records import Records
from robustml.errors import RequestError


class Place(NamedTuple):
    """Which of the processes that share the batches asks for its own, and where it wants them."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    world_size: int = 1


ALONE = Place()


class TensorLoader:
    """Iterate over batches `(x, y)`: x (B, ...) float32 in [0, 1] and y (B,) int64, both on `device`.

    Where batches are mixed (`mix`), y is (B, C) float32: how much of each class is in each image.

    Order and augmentation depend on `seed`, the epoch and the batch's number alone: a resumed run sees what the
    uninterrupted one would have, and so do all ranks, on whatever device.

    With `shuffle` (training) each rank gets its contiguous share of every batch, of nearly equal sizes, and a last
    batch of fewer samples than ranks is dropped. Without (evaluation) whole batches go round-robin to the ranks, each
    sample to exactly one of them.

    Args:
        records: the set; moved to `device` whole, and shared with other loaders where it is there already.
        batch_size: samples a batch, over all ranks together.
        shuffle: draw a new order each epoch.
        augment: applied in order to each batch over all ranks, before it is cut.
        replay: hand out each batch so many times in a row, augmented and mixed in the same way (Shafahi et al. 2019,
            arXiv:1904.12843, "Free"). An epoch is then as many passes over the set: divide the epochs by it.
        extra: takes the place of a share of each batch. As without it, an epoch is as many batches as the set fills:
            of the set itself it then shows a part, drawn anew each time.
        mix: blends the images of a batch, once they are augmented.
        epochs: how many the run has, for a `mix` that follows a schedule; None where nobody knows.
        seed: of the order, the augmentation, the extra images and the mixing.
        device: where the set lives and the batches come out.
        rank: which of the `world_size` processes this is.
        world_size: how many processes share the set.
        drop_last: leave out a last batch of fewer than `batch_size` samples.
        channels_last: lay images out in memory channels last.

    Raises:
        RequestError: on an empty set, a batch size below 1 (training: below `world_size`), an augmentation that
            cannot be called, a `replay` below 1, or `extra` images that do not fit the set or the
            batch size, or come without `shuffle`; when iterated: on a `mix` without `epochs`.
    """

    def __init__(
        self,
        records: Records,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: Sequence[Augmentation] = (),
        replay: int = 1,
        extra: Mixture | None = None,
        mix: Mix | None = None,
        epochs: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        channels_last: bool = False,
    ) -> None:
        if len(records) == 0:
            raise RequestError("expected at least one sample to load, got an empty set")
        least = world_size if shuffle else 1
        if batch_size < least:
            raise RequestError(f"expected a batch size of at least {least} ({world_size} processes), got {batch_size}")
        for change in augment:
            if not callable(change):
                raise RequestError(f"expected augmentations that can be called, got {change!r}; give it a _target_")
        if replay < 1:
            raise RequestError(f"expected each batch once or more often, got data.replay={replay}")
        if extra is not None and not shuffle:
            raise RequestError("extra images are for training: a loader that does not shuffle shows the set itself")
        if extra is not None and extra.count(batch_size) == 0:
            raise RequestError(
                f"data.extra.ratio={extra.ratio} of a batch of {batch_size} is no image at all; raise one"
            )
        self.records = records.to(device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.augment = tuple(augment)
        self.replay = replay
        self.extra = None if extra is None else extra.beside(self.records)
        self.mix = mix
        self.epochs = epochs
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.channels_last = channels_last
        self.epoch = 0
        self._handed_out = 0
        self._resume: tuple[int, int] | None = None  # the epoch to resume in, and its batches already seen

        whole, last = divmod(len(records), batch_size)
        total = whole + int(last >= least and not drop_last)
        self.batch_indices = range(total) if shuffle else range(rank, total, world_size)
        """Which of the set's batches this rank yields (its shares of), by number, in order."""

    @property
    def ids(self) -> Tensor:
        """The ids (N,) of the set's records, in the order in which an evaluation sees them."""
        return self.records.ids

    def __len__(self) -> int:
        """How many batches this rank yields an epoch, replays included."""
        return len(self.batch_indices) * self.replay

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's batches of the current epoch, in its order."""
        # a generator, so that nothing is drawn before the first batch: Lightning makes the iterator and only then
        # announces the epoch
        done = self._batches_done()
        order = self._order(len(self.records), "order")
        extra_order = None if self.extra is None else self._extra_order(self.extra)
        for position in range(done, len(self)):
            index = self.batch_indices[position // self.replay]
            self._handed_out = position + 1
            yield self._batch(index, order, extra_order)

    def _batch(self, index: int, order: Tensor, extra_order: Tensor | None) -> tuple[Tensor, Tensor]:
        x, y = self._rows(index, order, extra_order)
        if self.augment:
            generator = self._generator(index)
            for change in self.augment:
                x = change(x, generator)
        if self.mix is not None:
            classes = len(self.records.class_names)
            x, y = self.mix(x, y, classes, self._progress(), self._generator(f"mix/{index}"))
        if self.shuffle and self.world_size > 1:
            start, stop = (len(x) * rank // self.world_size for rank in (self.rank, self.rank + 1))
            x, y = x[start:stop], y[start:stop]
        if x.dtype == torch.uint8:
            x = x.float().div_(255)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, y

    def _rows(self, index: int, order: Tensor, extra_order: Tensor | None) -> tuple[Tensor, Tensor]:
        """The images and labels of one batch over all ranks, as they are in the set."""
        start, stop = index * self.batch_size, min((index + 1) * self.batch_size, len(self.records))
        if self.extra is None or extra_order is None:
            chosen = order[start:stop]
            return self.records.x.index_select(0, chosen), self.records.y.index_select(0, chosen)
        # batches before this one are whole, and took as many of each
        count = self.extra.count(self.batch_size)
        own_start, extra_start = index * (self.batch_size - count), index * count
        count = self.extra.count(stop - start)
        own = order[own_start : own_start + stop - start - count]
        return self.extra.join(self.records, own, extra_order[extra_start : extra_start + count])

    def _order(self, count: int, purpose: str) -> Tensor:
        order = torch.randperm(count, generator=self._generator(purpose)) if self.shuffle else torch.arange(count)
        return order.to(self.records.y.device)

    def _extra_order(self, extra: Mixture) -> Tensor:
        """The extra images of an epoch: each as often as any other, give or take one."""
        rounds = -(-len(self.records) // len(extra.records))
        return torch.cat([self._order(len(extra.records), f"extra/{number}") for number in range(rounds)])

    def _progress(self) -> float:
        """0 in the first epoch of the run, 1 in its last."""
        if self.epochs is None:
            raise RequestError("mixing follows the epochs of the run, but nobody said how many: set trainer.max_epochs")
        return min(self.epoch / (self.epochs - 1), 1.0) if self.epochs > 1 else 1.0

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
        """Choose the epoch whose order, augmentation and mixing the next pass draws."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Where the current pass stands: its epoch, and how many batches it handed out."""
        return {"epoch": self.epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next pass, if it is over the same epoch, go on after the batches (replays) handed out before."""
        self.set_epoch(state["epoch"])
        self._resume = state["epoch"], state["batches"]

    def _batches_done(self) -> int:
        resume, self._resume = self._resume, None
        self._handed_out = 0
        # a pass that had ended is not resumed
        return resume[1] if resume is not None and resume[0] == self.epoch and resume[1] < len(self) else 0
