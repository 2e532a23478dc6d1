"""Extra training images, found or generated, with labels or with those that a model gives them.

Carmon et al., "Unlabeled data improves adversarial robustness", NeurIPS 2019, arXiv:1905.13736 (pseudo-labels); Gowal
et al., "Uncovering the limits of adversarial training against norm-bounded adversarial examples", 2020,
arXiv:2010.03593; Rebuffi et al. 2021, arXiv:2103.01946, and Wang et al. 2023, arXiv:2302.04638 (generated images). As
in their code, each batch holds a fixed share of extra images, and an epoch has as many batches as the original set
alone would fill. Deviation: extra images come in random permutations of their set, and are not drawn with replacement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from robustml.data.cache import Source, cached
from robustml.data.labels import are_numbers
from robustml.data.records import Records
from robustml.data.splits import Split
from robustml.errors import RequestError
from robustml.modes import evaluating

_AT_ONCE = 500


@dataclass(frozen=True)
class Mixture:
    """Extra images, and the share of each batch that they take.

    Args:
        records: the images, with the labels and the names of the original classes.
        ratio: see `ExtraImages`.
    """

    records: Records
    ratio: float

    def count(self, size: int) -> int:
        """How many of a batch of `size` are extra."""
        return round(self.ratio * size)

    def beside(self, original: Records) -> Mixture:
        """The same on the device of `original`.

        Raises:
            RequestError: the images have another shape, dtype or other classes than `original`.
        """
        found, expected = self.records, original
        if found.x.shape[1:] != expected.x.shape[1:] or found.x.dtype != expected.x.dtype:
            raise RequestError(
                f"extra images are {tuple(found.x.shape[1:])} {found.x.dtype}, the original ones "
                f"{tuple(expected.x.shape[1:])} {expected.x.dtype}: convert them, or set data.extra.source.size or "
                "data.extra.source.channels"
            )
        if found.class_names != expected.class_names:
            raise RequestError("expected extra images of the original classes, got others: relabel them")
        return Mixture(found.to(expected.x.device), self.ratio)

    def join(self, original: Records, own: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """One batch of the rows `own` (K,) of `original` and the rows `extra` (L,) of the extra images.

        The extra ones are spread evenly, so that each process gets the same share of them.
        """
        x = torch.cat([original.x.index_select(0, own), self.records.x.index_select(0, extra)])
        y = torch.cat([original.y.index_select(0, own), self.records.y.index_select(0, extra)])
        size, count = len(x), len(extra)
        before = torch.arange(size + 1, device=x.device) * count // size  # extra ones before each place
        is_extra = before[1:] > before[:-1]
        places = torch.where(is_extra, len(own) + before[:-1], torch.arange(size, device=x.device) - before[:-1])
        return x.index_select(0, places), y.index_select(0, places)


@dataclass(frozen=True)
class ExtraImages:
    """Where extra training images come from, and how much of each batch they are.

    Args:
        source: where they come from; its training part is taken whole. An integer label is that of the original class
            of this number, other classes are matched by name.
        ratio: the share of each batch that is extra, above 0 and up to 1: 0.7 (Rebuffi 2021, Wang 2023; "unsup
            fraction" in their code) leaves 3 of 10 images to the original set.
        labeller: makes the model whose predictions replace the source's labels, for images (N, ...) in [0, 1]; None
            keeps these. Predictions are cached, by digests of the images and of the model.

    Raises:
        RequestError: a ratio outside (0, 1].
    """

    source: Source
    ratio: float = 0.7
    labeller: Callable[[], nn.Module] | None = None

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0 < self.ratio <= 1:
            raise RequestError(f"data.extra.ratio is a share of each batch, expected above 0 and up to 1: {self.ratio}")

    def load(self, class_names: Sequence[str]) -> Mixture:
        """Read the images and label them with `class_names`, the original classes.

        Raises:
            RequestError: they cannot be read, or their labels are no original classes.
        """
        records = cached(self.source, "train").part("extra")
        if len(records) == 0:
            raise RequestError("data.extra holds no image; check its source")
        names = tuple(class_names)
        labeller = self.labeller
        y = _translated(records, names) if labeller is None else _predicted(records, labeller(), len(names))
        return Mixture(replace(records, y=y, class_names=names), self.ratio)


@dataclass(frozen=True, eq=False)
class _Predictions:
    """A model's labels for images, as a source that `cached` keeps: its content depends on the two digests alone."""

    images: str
    weights: str
    x: Tensor = field(repr=False)
    model: nn.Module = field(repr=False)

    def files(self, split: Split) -> tuple[Path, ...]:
        return ()

    def load(self, split: Split) -> Records:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(device)
        labels = []
        with torch.no_grad(), evaluating(self.model):
            for start in range(0, len(self.x), _AT_ONCE):
                x = self.x[start : start + _AT_ONCE].to(device)
                logits = self.model(x.float().div_(255) if x.dtype == torch.uint8 else x)
                labels.append(logits.argmax(1).cpu())
        # the images themselves are not kept a second time
        return Records(torch.empty(len(self.x), 0), torch.cat(labels), tuple(map(str, range(logits.shape[1]))))


def _predicted(records: Records, model: nn.Module, classes: int) -> Tensor:
    predictions = cached(_Predictions(records.fingerprint(), _digest(model), records.x, model), "train")
    if len(predictions.class_names) != classes:
        raise RequestError(
            f"data.extra.labeller tells {len(predictions.class_names)} classes apart, the data has {classes}: choose a "
            "model that was trained on it"
        )
    return predictions.y


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _translated(records: Records, names: tuple[str, ...]) -> Tensor:
    """The labels of `records` (N,) as numbers of the classes `names`."""
    own = records.class_names
    if are_numbers(own) and not set(own) <= set(names) and all(int(name) < len(names) for name in own):
        own = tuple(names[int(name)] for name in own)  # as generated sets are published: 0 is the first class
    try:
        return Records(records.x, records.y, own).renamed(names).y
    except RequestError as error:
        raise RequestError(
            f"data.extra: {error} (to images without labels: data/extra/labeller=run data.extra.labeller.run_dir=<run>)"
        ) from error
