"""Find a shortcut that nobody told of: a patch of the training pictures which by itself decides what a model reads.

Ours, after no paper; in the spirit of occlusion maps (Zeiler and Fergus 2014, arXiv:1311.2901). A patch of a picture of
one class is transplanted to the same place of pictures of other classes. A mark that a model relies on turns nearly all
of them, and at one place only; so for each class the places are compared with one another, and one that stands far
above the class's own median place is suspect. True features count too: in CIFAR-10 a dog's nose in the middle of a cat
turns up to half of them, where a mark on 98 of 100 pictures turns nine of ten. The same holds of a backdoor's trigger,
but only where its pictures are common among those of its class.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.data import Records
from robustml.evaluation.batches import device_of
from robustml.modes import evaluating
from robustml.poisoning.checks import check_whole
from robustml.poisoning.pixels import in_unit_range, require_images
from robustml.progress import track
from robustml.results import ShortcutSuspect, share


@torch.no_grad()
def find_shortcuts(
    model: nn.Module,
    train: Records,
    *,
    size: int,
    stride: int | None = None,
    pictures: int = 200,
    threshold: float = 0.6,
    seed: int = 0,
    batch_size: int = 500,
) -> list[ShortcutSuspect]:
    """The most suspect place of each class, the worst first.

    Args:
        model: images (N, C, H, W) in [0, 1] to logits (N, classes); run in eval mode, handed back as found.
        train: the pictures that it was trained on, marks included.
        size: the side of the patch in pixels; a mark should fit into it.
        stride: pixels from one place to the next; None is half of `size`. The last places touch the far borders.
        pictures: how many pictures of a class give their patches, each to one picture of another class.
        threshold: the excess, a share of pictures, from which on a place is called found.
        seed: which ones.
        batch_size: pictures a batch.

    Raises:
        RequestError: no pictures, or a patch that is larger than they are.
    """
    _, height, width = require_images(train, "a search for shortcuts")
    least = min(height, width)
    check_whole(size, "size", f"is the patch's side, from 1 to {least} pixels here", 1, least)
    step = max(1, size // 2) if stride is None else stride
    check_whole(step, "stride", "of the search must be a whole number of pixels of at least 1", 1)
    check_whole(pictures, "pictures", "must be a whole number of at least 1", 1)
    places = [(top, left) for top in _starts(height, size, step) for left in _starts(width, size, step)]
    generator = Generator().manual_seed(seed)
    found = []
    with evaluating(model):
        for label, name in enumerate(track(train.class_names, "marks of classes")):
            donors = _some(train, train.y == label, pictures, generator)
            hosts = _some(train, train.y != label, len(donors), generator)
            donors = donors[: len(hosts)]
            patches, x = in_unit_range(train.x[donors]), in_unit_range(train.x[hosts])
            right = _read(model, x, batch_size) == train.y[hosts]
            if not right.any():  # also a class without pictures
                continue
            patches, x = patches[right], x[right]
            turned = torch.stack(
                [_read(model, _grafted(x, patches, place, size), batch_size) == label for place in places]
            )
            flips = turned.double().mean(dim=1)
            best = int(flips.argmax())
            shown = int(turned[best].int().argmax())
            excess = float(flips[best] - flips.median())
            found.append(
                ShortcutSuspect.model_validate(
                    {
                        "class": name,
                        "found": excess >= threshold,
                        "place": places[best],
                        "size": size,
                        "flip_rate": share(turned[best]),
                        "excess": excess,
                        "flip_rates": [(*place, flip) for place, flip in zip(places, flips.tolist(), strict=True)],
                        "example": (int(donors[right][shown]), int(hosts[right][shown])),
                    }
                )
            )
    return sorted(found, key=lambda suspect: suspect.excess, reverse=True)


def _starts(length: int, size: int, step: int) -> list[int]:
    """Where patches begin along a side; the last one ends at the border."""
    return sorted({*range(0, length - size, step), length - size})


def _grafted(x: Tensor, patches: Tensor, place: tuple[int, int], size: int) -> Tensor:
    """Images (N, C, H, W), each with the patch at `place` of the picture in the same row of `patches` (N, C, H, W)."""
    rows, columns = (slice(start, start + size) for start in place)
    grafted = x.clone()
    grafted[:, :, rows, columns] = patches[:, :, rows, columns]
    return grafted


def _some(train: Records, which: Tensor, count: int, generator: Generator) -> Tensor:
    """The rows (K,) of at most `count` of those."""
    rows = which.nonzero().squeeze(1)
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def _read(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """What the model reads in images (N, C, H, W) in [0, 1]: (N,), on the CPU."""
    device = device_of(model)
    return torch.cat([logits_of(model, part.to(device)).argmax(dim=1).cpu() for part in torch.split(x, batch_size)])
