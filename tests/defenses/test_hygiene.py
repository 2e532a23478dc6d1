"""Detectors of what should not be among the records: planted, with figures worked out by hand, and on digits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, nn

from defenses.planted import SEEDS, planted, trained
from robustml.data import Records
from robustml.defenses.detect import LabelQuality, NearDuplicates, Outliers, RecordOrder
from robustml.errors import RequestError
from robustml.poisoning import Add, Flip


def points(*rows: list[float]) -> Records:
    x = torch.tensor(rows)
    return Records(x, torch.arange(len(rows)) % 2, ("a", "b"))


def on_digits(kind: str, seed: int) -> Records:
    clean = planted("badnets", seed).clean_train
    return Add(kind=kind, rate=0.1).plan(clean, seed=seed).apply(clean)  # type: ignore[arg-type]


def test_near_duplicates_are_measured_by_the_usual_distance() -> None:
    """Nearest others at .04, .04, .4, .3 and .3: the usual one is .3."""
    found = NearDuplicates()(nn.Identity(), points([0.0, 0], [0.04, 0], [0.0, 0.4], [1.0, 1], [1.0, 0.7]))
    by_hand = 1 - torch.tensor([0.04, 0.04, 0.4, 0.3, 0.3], dtype=torch.float64) / 0.3
    torch.testing.assert_close(found.scores, by_hand, rtol=1e-5, atol=1e-6)
    assert found.flagged.tolist() == [False] * 5
    assert NearDuplicates(threshold=0.85)(
        nn.Identity(), points([0.0, 0], [0.04, 0], [0.0, 0.4], [1.0, 1], [1.0, 0.7])
    ).flagged.tolist() == [True, True, False, False, False]


def test_outliers_are_so_many_deviations_from_the_rest() -> None:
    """On a line at 0, .1, .3, .5 and 1 the nearest others are at .1, .1, .2, .2 and .5.

    The median is .2, and .1 the median of how far they are from it: .1, .1, 0, 0, .3.
    """
    line = points([0.0], [0.1], [0.3], [0.5], [1.0])
    found = Outliers(neighbours=1, threshold=1.5)(nn.Identity(), line)
    by_hand = [-1 / 1.4826, -1 / 1.4826, 0, 0, 3 / 1.4826]
    torch.testing.assert_close(found.scores, torch.tensor(by_hand, dtype=torch.float64), rtol=1e-5, atol=1e-6)
    assert found.flagged.tolist() == [False, False, False, False, True]


def test_order_is_cohens_w_of_labels() -> None:
    """Sorted into two halves of one label each: w is 1, less what chance makes of 50 records."""
    y = torch.tensor([0, 1]).repeat_interleave(50)
    sorted_ = Records(torch.full((100, 3), 0.5), y, ("a", "b"))
    found = RecordOrder(stretches=2)(nn.Identity(), sorted_)
    torch.testing.assert_close(found.scores, torch.full((100,), math.sqrt(1 - 1 / 50), dtype=torch.float64))
    assert found.says_so
    mixed = sorted_.take(torch.arange(100).view(2, 50).T.flatten())
    assert RecordOrder(stretches=2)(nn.Identity(), mixed).scores.max() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_noise_and_order_are_found_in_digits(seed: int) -> None:
    given = planted("badnets", seed)
    clean, model = given.clean_train, given.twin
    for detector, kind in (
        (NearDuplicates(), "duplicated"),
        (Outliers(), "out_of_distribution"),
        (RecordOrder(), "out_of_distribution"),
    ):
        data = on_digits(kind, seed)
        added = ~torch.isin(data.ids, clean.ids)
        found, none = detector(model, data), detector(model, clean)
        rate = float(found.flagged[added].double().mean())
        print(f"{type(detector).__name__}, seed {seed}: {rate:.2f} of the added, {none.flagged.sum()} of the clean")
        assert found.says_so
        assert rate == 1
        assert not none.says_so
    assert RecordOrder()(model, clean.take(clean.y.argsort(stable=True))).says_so


@pytest.mark.parametrize("seed", SEEDS)
def test_false_labels_rank_first(seed: int) -> None:
    """The bar of the project: at 10% of flips, of as many first ranks 85 in 100 are flips."""
    given = planted("badnets", seed)
    clean = given.clean_train
    data = Flip(rate=0.1).plan(clean, seed=seed).apply(clean)
    false = data.y != clean.y
    found = LabelQuality()(trained(data, seed), data, generator=Generator().manual_seed(0))
    none = LabelQuality()(given.twin, clean, generator=Generator().manual_seed(0))
    first = found.scores.argsort(descending=True)[: int(false.sum())]
    precision = float(false[first].double().mean())
    print(f"label_quality, seed {seed}: precision {precision:.3f}, surely {found.facts['surely']:.3f}")
    assert precision >= 0.85
    assert found.says_so
    assert not none.says_so


def test_a_class_of_few_records_is_refused() -> None:
    data = points([0.0, 0], [0.1, 0], [0.0, 0.4], [1.0, 1], [1.0, 0.7])
    with pytest.raises(RequestError, match="label_quality needs"):
        LabelQuality(view="inputs")(nn.Identity(), data)
