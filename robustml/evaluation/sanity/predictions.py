"""Flags that the clean predictions raise: figures that no model earns which was trained on these classes.

| flag | what it takes |
|---|---|
| below_chance | fewer images are right than a guess would get |
| permuted_labels | clearly more would be right if the classes were renamed |
| collapsed | (nearly) every image is taken for one class |
| unused_classes | predictions of classes that the data do not have |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robustml.evaluation.verdicts import Integers, Verdicts
from robustml.results import Flag

_COLLAPSED_SHARE = 0.95
_FOREIGN_SHARE = 0.05
_FEWEST = 10


def look_at_predictions(verdicts: Verdicts, classes: int, class_names: Sequence[str] | None = None) -> Iterator[Flag]:
    """The flags of the clean predictions.

    Args:
        verdicts: of the whole set.
        classes: how many logits the model gives.
        class_names: of the data; where they are not known, the labels that occur are its classes.
    """
    y, prediction = verdicts.y, verdicts.prediction
    if len(y) < _FEWEST:
        return
    known = len(class_names) if class_names else int(y.max()) + 1
    names = list(class_names) if class_names else [str(label) for label in range(known)]
    names += [str(label) for label in range(known, classes)]
    right = int(verdicts.correct.sum())
    present = len(np.unique(y))
    if renamed := _renaming(y, prediction, names):
        yield Flag(name="permuted_labels", message=renamed)
    if _below_chance(right, len(y), present):
        message = (
            f"{right} of {len(y)} images are classified correctly, fewer than a guess among {present} classes gets: do "
            "the labels mean the same to model and data (order of classes, counted from 0), and are the images "
            "prepared as in training?"
        )
        yield Flag(name="below_chance", message=message)
    said, counts = np.unique(prediction, return_counts=True)
    top = int(counts.argmax())
    share, truth = counts[top] / len(y), float((y == said[top]).mean())
    if present > 1 and (len(said) == 1 or (share >= _COLLAPSED_SHARE and truth < share / 2)):
        message = (
            f"{share:.1%} of the images are taken for class {names[int(said[top])]}, to which {truth:.1%} belong: the "
            "model has collapsed, or does not see the images as it was trained on them"
        )
        yield Flag(name="collapsed", message=message)
    foreign = float((prediction >= known).mean())
    if foreign > _FOREIGN_SHARE:
        message = (
            f"the model tells {classes} classes apart and the data have {known}: {foreign:.1%} of the predictions are "
            "of classes that no image has; map its outputs to the classes of the data"
        )
        yield Flag(name="unused_classes", message=message)


def _below_chance(right: int, count: int, classes: int) -> bool:
    """Whether so few of `count` are right that a guess among `classes` does worse once in a hundred times at most."""
    if right == 0:
        return True
    if classes < 2 or right >= count / classes:
        return False
    from scipy.stats import binom

    return float(binom.cdf(right, count, 1 / classes)) < 0.01


def _renaming(y: Integers, prediction: Integers, names: Sequence[str]) -> str | None:
    """What to say where other names for the model's classes make clearly more predictions right."""
    labels = np.unique(y)
    confusion = np.zeros((len(labels), len(names)), dtype=np.int64)
    np.add.at(confusion, (np.searchsorted(labels, y), prediction), 1)
    moved = _exchanged(labels, confusion) or _reassigned(labels, confusion)
    if not moved:
        return None
    right = int((y == prediction).sum())
    renamed = right + sum(int(((y == meant) & (prediction == said)).sum()) for said, meant in moved)
    renamed -= sum(int(((y == meant) & (prediction == meant)).sum()) for _, meant in moved)
    shown = ", ".join(f"{names[said]} for {names[meant]}" for said, meant in moved)
    shown = shown if len(shown) < 120 else shown[:117] + "..."
    return (
        f"{right / len(y):.1%} of the images are classified correctly, and {renamed / len(y):.1%} would be if the "
        f"classes were renamed (the model says {shown}): its classes are in another order than those of the data"
    )


def _exchanged(labels: Integers, confusion: Integers) -> list[tuple[int, int]]:
    """Classes of which most images are taken for one other, which nothing else is taken for: (said, meant)."""
    counts = confusion.sum(axis=1)
    sure = (confusion.max(axis=1) > counts / 2) & (counts >= _FEWEST)
    said, meant = confusion.argmax(axis=1)[sure].tolist(), labels[sure].tolist()
    pairs = [pair for pair in zip(said, meant, strict=True) if pair[0] != pair[1] and said.count(pair[0]) == 1]
    # A model that takes cats for dogs is weak; one that takes dogs for cats as well has them the other way round.
    free = {label for _, label in pairs} | (set(said) - set(labels.tolist()))
    return [pair for pair in pairs if pair[0] in free]


def _reassigned(labels: Integers, confusion: Integers) -> list[tuple[int, int]]:
    """The same for a model that is right less often: the assignment of classes that makes most predictions right."""
    from scipy.optimize import linear_sum_assignment

    count, total = len(labels), int(confusion.sum())
    # With fewer images an assignment can be found that fits mere noise.
    if count < 2 or total < 10 * count:
        return []
    right = int(confusion[np.arange(count), labels].sum())
    if confusion.max(axis=1).sum() <= 2 * right:
        return []
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    renamed = int(confusion[rows, columns].sum())
    enough = max(2 * right, min(0.6, 3 / count + 0.1) * total)
    if renamed <= enough or renamed - right <= 3 * np.sqrt(renamed + right):
        return []
    pairs = zip(columns.tolist(), labels[rows].tolist(), strict=True)
    return [(said, meant) for said, meant in pairs if said != meant]
