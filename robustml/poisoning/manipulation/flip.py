"""Flip labels: at random, from one class to another, or where classes are most easily taken for each other.

Random flips are the uniform label noise of Natarajan et al. 2013, "Learning with Noisy Labels"; flips from one class to
another are the adversarial label noise of Biggio, Nelson and Laskov 2011, "Support Vector Machines Under Adversarial
Label Noise". The most confusable flips have no paper: they go to the rows that a logistic regression, fitted on the
other folds, is least sure about, and each gets the class that it is most nearly taken for, as an honest mistake would.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Generator, Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_kind, check_rate, check_whole
from robustml.poisoning.choose import choose, class_label, class_to_aim_at, classes_with_rows, rows_for, rows_of, seeded
from robustml.poisoning.pixels import in_unit_range
from robustml.poisoning.plan import PoisonPlan, planned

_Kind = Literal["random", "source_to_target", "most_confusable"]


@dataclass(frozen=True)
class Flip:
    """Other labels on some rows; every flipped row changes its label, no input does.

    A label is only ever changed to that of a class that has rows: one that is merely named would be given away.

    Args:
        rate: the share of the whole training set that is flipped, in [0, 1].
        kind: ``"random"``: any rows, any other class, all equally likely; ``"source_to_target"``: rows of one class get
            another; ``"most_confusable"``: the rows with the highest out-of-fold odds of another class get that class.
        source: the class (number or name) that loses rows; for source_to_target alone.
        target: the class that gets them; for source_to_target alone.
        folds: of the logistic regression, at least 2; for most_confusable alone.

    Raises:
        RequestError: a rate outside [0, 1], an unknown kind, or classes that do not go with it; when called: no such
            class, fewer rows of it than the rate asks for, or fewer than two classes.
    """

    rate: float = 0.1
    kind: _Kind = "random"
    source: int | str | None = None
    target: int | str | None = None
    folds: int = 5

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_kind(self.kind, get_args(_Kind))
        named = (self.source is not None, self.target is not None)
        if self.kind == "source_to_target" and not all(named):
            raise RequestError("poison.kind=source_to_target needs poison.source and poison.target, two classes")
        if self.kind != "source_to_target" and any(named):
            raise RequestError(f"poison.source and poison.target go with kind=source_to_target, not {self.kind}")
        check_whole(self.folds, "poison.folds", "must be a whole number, folds must be >= 2", 2)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows relabelled."""
        count, names = rows_for(self.rate, records), records.class_names
        if self.kind == "most_confusable":
            rows, labels = self._most_confusable(records, count, seed)
        elif self.source is not None and self.target is not None:
            source = class_label(records, self.source, "poison.source")
            target = class_to_aim_at(records, self.target)
            if source == target:
                raise RequestError(f"poison.source and poison.target are both {names[source]!r}: name two")
            rows = choose(rows_of(records, source), count, seed, "flip", f"rows of class {names[source]}")
            labels = torch.full_like(rows, target)
        else:
            rows = choose(torch.arange(len(records)), count, seed, "flip")
            labels = other_labels(records.y[rows], classes_with_rows(records), seeded(seed, "flip/labels"))
        return planned(self, records, records.changed(rows, y=labels), notes=left_out(records))

    def _most_confusable(self, records: Records, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """The rows (count,) that are most easily taken for another class, ascending, and those classes."""
        if count == 0:
            return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        odds = _out_of_fold_log_odds(records, self.folds, seed)
        likelihood, label = odds.max(dim=1)
        rows = likelihood.argsort(descending=True, stable=True)[:count].sort().values
        return rows, label[rows]


def other_labels(y: Tensor, labels: Tensor, generator: Generator) -> Tensor:
    """For each label (N,) another one, all equally likely.

    Args:
        y: (N,) int64, each of them one of `labels`.
        labels: (K,) int64, ascending, to choose from.
        generator: to draw from.

    Raises:
        RequestError: there is no other class.
    """
    if not len(y):
        return y
    if len(labels) < 2:
        raise RequestError("a label can only be made false where there are at least two classes with rows")
    places = torch.searchsorted(labels, y) + torch.randint(1, len(labels), y.shape, generator=generator)
    return labels[places % len(labels)]


def left_out(records: Records) -> tuple[str, ...]:
    """What to say of the classes that no label was changed to, since they have no rows; nothing where all have some."""
    names = records.without_rows()
    if not names:
        return ()
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (f"{len(names):,} classes have no row, and got none: {listed}",)


def _out_of_fold_log_odds(records: Records, folds: int, seed: int) -> Tensor:
    """How much likelier (N, C) than its own label each class is to a model that has not seen the row; own: -inf."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # takes a second, and only this kind needs it

    # in float64, so that no machine's order of summation changes the ranking
    x, y = in_unit_range(records.x).flatten(1).double().numpy(), records.y.numpy()
    fold = _stratified_folds(records.y, folds, seeded(seed, "flip/folds")).numpy()
    logs = np.full((len(y), len(records.class_names)), -np.inf)
    for number in np.unique(fold):
        held_out = fold == number
        if len(np.unique(y[~held_out])) < 2:
            raise RequestError("poison.kind=most_confusable needs two rows or more of at least two classes")
        with warnings.catch_warnings():
            # a fit that is not quite finished ranks the rows as well
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(max_iter=50).fit(x[~held_out], y[~held_out])
        logs[np.ix_(held_out, model.classes_)] = model.predict_log_proba(x[held_out])
    rows = np.arange(len(y))
    own = np.maximum(logs[rows, y], np.finfo(np.float64).min)  # a class that was not among the other folds
    logs[rows, y] = -np.inf
    return torch.from_numpy(logs - own[:, None])


def _stratified_folds(y: Tensor, folds: int, generator: Generator) -> Tensor:
    """The fold (N,) of each row: class by class, the rows are dealt out one after the other, in random order."""
    order = torch.randperm(len(y), generator=generator)
    by_class = order[y[order].argsort(stable=True)]
    fold = torch.empty_like(y)
    fold[by_class] = torch.arange(len(y)) % folds
    return fold
