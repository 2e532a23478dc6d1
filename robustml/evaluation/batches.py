"""Whatever a loader gives, as images and labels; and the check that every pass over it gives the same.

A loader that shuffles, or augments at random, lets the verdicts of one pass speak of other images than those of the
next. So every image has an identity, a 64-bit hash of its bytes, which the first pass notes and all others must repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import length_hint
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset

from robustml.errors import RequestError

Loader = Iterable[Any] | Dataset[Any]

_IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "input", "inputs")
_LABEL_KEYS = ("label", "labels", "y", "target", "targets", "class")
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Rows are hashed so many values at a time: what fits into a CPU's cache is several times as fast.
_AT_A_TIME = 16384


@dataclass(frozen=True)
class Batch:
    """Images `x` (N, ...), labels `y` (N,), a hash of each image, and the id of its record where the loader tells."""

    number: int
    first: int
    x: Tensor
    y: Tensor
    images: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64] | None = None


class Batches:
    """The batches of a loader that process `rank` of `world_size` takes: numbers r, r + w, ... of each pass.

    Args:
        loader: gives batches `(x, y)`, tuples of more (of which the first two count) or mappings with one of the usual
            names for either: tensors, NumPy arrays or lists. Or a dataset of single examples, or a tuple (x, y) of all
            of them: it is put in batches.
        device: where the batches come out.
        rank: which of the processes this is.
        world_size: how many processes share the work.

    Raises:
        RequestError: the loader can be walked through only once, or is none. When walked: what it gives is no images
            and labels, or is not what it gave in the first pass.
    """

    def __init__(self, loader: Loader, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        self._loader = _in_batches(loader)
        ids = getattr(loader, "ids", None)  # of our own loaders, in the order of a pass
        self._ids = ids.cpu().numpy() if isinstance(ids, Tensor) else None
        self._device, self._rank, self._world_size = device, rank, world_size
        self._first: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None] = []
        self._complete = False

    def __length_hint__(self) -> int:
        """How many batches a pass has, as far as the loader says so; for those who wait."""
        return -(-length_hint(self._loader) // self._world_size)

    def __iter__(self) -> Iterator[Batch]:
        """Walk through all of them once; a pass that is broken off does not count as the first."""
        if not self._complete:
            self._first = []
        count = first = 0
        for index, given in enumerate(_walk(self._loader)):
            count += 1
            if self._complete and index >= len(self._first):
                break
            x, y = _images_and_labels(given)
            start, first = first, first + len(y)
            if index % self._world_size != self._rank:
                if not self._complete:
                    self._first.append(None)
                continue
            images, labels = identities(x), y.cpu().numpy()
            if self._complete:
                self._compare(index, images, labels)
            else:
                self._first.append((images, labels))
            if len(y):
                ids = None if self._ids is None else self._ids[start:first]
                yield Batch(index, start, x.to(self._device), y.to(self._device), images, ids)
        if self._complete and count != len(self._first):
            more = "more" if count > len(self._first) else f"{count}"
            raise RequestError(
                f"the loader gave {len(self._first)} batches in the first pass and {more} in a later one; every pass "
                "must show the same images in the same order"
            )
        self._complete = True

    def _compare(self, index: int, images: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> None:
        known, truth = self._first[index] or (images, labels)
        if np.array_equal(known, images) and np.array_equal(truth, labels):
            return
        if np.array_equal(known, images):
            what, remedy = "gives other labels", "labels must not be drawn at random"
        elif np.isin(images, np.concatenate([each[0] for each in self._first if each is not None])).mean() > 0.5:
            what, remedy = (
                "shows the images in another order",
                "build it with shuffle=False and without a random sampler",
            )
        else:
            what, remedy = "shows other images", "take random augmentation out of it, and build it with shuffle=False"
        raise RequestError(
            f"the loader {what} in each pass (first seen in batch {index}), so that the attacks would be counted on "
            f"images that they never saw: {remedy}"
        )


def identities(x: Tensor) -> npt.NDArray[np.int64]:
    """A 64-bit hash of each of `x` (N, ...), equal wherever the bytes are; computed where the images lie."""
    flat = x.detach().contiguous().flatten(1)
    words = flat.view(_BITS[flat.element_size()])
    weights = _weights(words.shape[1]).to(x.device)
    rows = max(1, _AT_A_TIME // max(1, words.shape[1])) if x.device.type == "cpu" else max(1, len(words))
    # A sum of 32-bit words with random 64-bit weights: two that differ agree once in 2^32 at the most.
    sums = [(part.long() * weights).sum(1) for part in torch.split(words, rows)]
    return torch.cat(sums).cpu().numpy()


@cache
def _weights(count: int) -> Tensor:
    return torch.randint(-(2**62), 2**62, (count,), generator=Generator().manual_seed(1)) * 2 + 1


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters and buffers of a model lie; the CPU where it has none."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def _in_batches(loader: Any) -> Iterable[Any]:
    """The loader itself, or one around a set of single examples.

    Raises:
        RequestError: it cannot be walked through, or only once.
    """
    if isinstance(loader, tuple) and len(loader) == 2 and all(isinstance(each, Tensor | np.ndarray) for each in loader):
        x = _images(loader[0])
        return [*zip(torch.split(x, 100), torch.split(_labels(loader[1], len(x)), 100), strict=True)]
    if isinstance(loader, Dataset) or _holds_examples(loader):
        return DataLoader(loader, batch_size=100)
    try:
        iterator = iter(loader)
    except TypeError as error:
        raise RequestError(
            f"expected a loader of batches (x, y), got a {type(loader).__name__}: give a DataLoader, a list of "
            "batches, or a DataModule's loader('test')"
        ) from error
    if iterator is loader:
        raise RequestError(
            f"a {type(loader).__name__} can be walked through only once, and an evaluation needs a pass for each "
            "attack: give a DataLoader, or list(...) of it"
        )
    return loader  # type: ignore[no-any-return]


def _walk(loader: Iterable[Any]) -> Iterator[Any]:
    """What the loader gives; where it fails, in one line: pictures that nobody turned into tensors, for example."""
    iterator, count = iter(loader), 0
    while True:
        try:
            given = next(iterator)
        except StopIteration:
            return
        except RequestError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise RequestError(f"the loader fails on batch {count}: {reason}") from error
        yield given
        count += 1


def _holds_examples(loader: Any) -> bool:
    """Whether this is a sequence of single examples with one label each."""
    if not (hasattr(loader, "__getitem__") and hasattr(loader, "__len__")) or isinstance(loader, Mapping | str):
        return False
    if not len(loader):
        return False
    given = loader[0]
    if isinstance(given, Mapping):
        labels = [given[key] for key in _LABEL_KEYS if key in given]
        return len(labels) == 1 and np.ndim(labels[0]) == 0
    return isinstance(given, Sequence) and len(given) >= 2 and not isinstance(given[1], str) and _ndim(given[1]) == 0


def _ndim(value: Any) -> int:
    return value.ndim if isinstance(value, Tensor) else int(np.ndim(value)) if not isinstance(value, Sequence) else 1


def _images_and_labels(given: Any) -> tuple[Tensor, Tensor]:
    """Images (N, ...) of a floating type and labels (N,) int64 out of what a loader gave."""
    if isinstance(given, Mapping):
        x, y = (_entry(given, keys, what) for keys, what in ((_IMAGE_KEYS, "images"), (_LABEL_KEYS, "labels")))
    elif isinstance(given, Sequence) and not isinstance(given, str) and len(given) >= 2:
        x, y = given[0], given[1]
    else:
        many = f" of {len(given)}" if isinstance(given, Sequence) else ""
        raise RequestError(f"the loader gives a {type(given).__name__}{many}; expected batches (x, y)")
    return _images(x), _labels(y, len(x))


def _entry(given: Mapping[str, Any], keys: Sequence[str], what: str) -> Any:
    found = [key for key in keys if key in given]
    if len(found) != 1:
        raise RequestError(
            f"the loader gives a {type(given).__name__} of {', '.join(map(str, given))}: which of them are the {what} "
            f"is not clear; expected one of {', '.join(keys)}, or batches (x, y)"
        )
    return given[found[0]]


def _images(x: Any) -> Tensor:
    try:
        if isinstance(x, Sequence) and x and isinstance(x[0], Tensor):
            x = torch.stack(list(x))
        x = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"the loader gives a {type(x).__name__} that is no tensor of images (N, ...): {str(error).splitlines()[0]}"
        ) from error
    if not x.is_floating_point():
        raise RequestError(
            f"images must be floats in [0, 1], got {x.dtype}: convert them in the loader, x.float() / 255 for bytes"
        )
    if x.ndim < 2:
        raise RequestError(
            f"expected images (N, ...), got shape {tuple(x.shape)}; is the loader's first entry another?"
        )
    # Half of the steps of an attack would be rounded away in 16 bits; a tensor of inference mode can join no graph.
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return cast(Tensor, x.clone() if x.is_inference() else x.detach())


def _labels(y: Any, count: int) -> Tensor:
    try:
        y = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"the loader gives a {type(y).__name__} that is no tensor of labels ({count},): "
            f"{str(error).splitlines()[0]}"
        ) from error
    if y.shape == (count, 1):
        y = y.squeeze(1)
    if y.shape != (count,) or y.is_floating_point() or y.is_complex():
        raise RequestError(
            f"labels must be integers of shape ({count},), got {y.dtype} of shape {tuple(y.shape)}; of one-hot rows "
            "take y.argmax(1)"
        )
    return cast(Tensor, y.long())
