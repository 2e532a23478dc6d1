"""Some classes of a set, and groups that count alike."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from robustml.data import Digits, Records, Subset, group_weights, groups_of, resampled
from robustml.data.splits import Split
from robustml.errors import RequestError


def test_the_chosen_classes_are_numbered_as_they_are_named() -> None:
    for split in ("train", "test"):
        whole, chosen = Digits().load(split), Subset(Digits(), ["7", "3"]).load(split)
        assert chosen.class_names == ("7", "3")
        kept = (whole.y == 3) | (whole.y == 7)
        assert torch.equal(chosen.x, whole.x[kept])
        assert [("7", "3")[label] for label in chosen.y.tolist()] == [str(label) for label in whole.y[kept].tolist()]


def test_the_source_below_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    @dataclass(frozen=True)
    class Pinned:
        def files(self, split: Split) -> tuple[()]:
            return ()

        def load(self, split: Split) -> Records:
            calls.append(split)
            return Records(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, 1]), ("a", "b", "c"))

    source = Subset(Pinned(), ("b", "c"))
    assert [source.load("train").y.tolist() for _ in range(2)] == [[0, 1, 0]] * 2
    assert calls == ["train"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["3"], "two or more distinct"), (["3", "3"], "two or more distinct"), (["3", "three"], "no class 'three'")],
)
def test_classes_that_cannot_be_chosen(classes: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Subset(Digits(), classes).load("train")


# three groups: (0, unmarked) 4 times, (0, marked) twice, (1, marked) once
Y, MARKED = torch.tensor([0, 0, 0, 0, 0, 0, 1]), torch.tensor([0, 0, 1, 0, 0, 1, 1]).bool()


def test_every_group_weighs_alike() -> None:
    groups = groups_of(Y, MARKED)
    weights = group_weights(groups)
    # 7 rows in 3 groups: 7 / 3 a group
    torch.testing.assert_close(weights, torch.tensor([7 / 12, 7 / 12, 7 / 6, 7 / 12, 7 / 12, 7 / 6, 7 / 3]))
    with pytest.raises(RequestError, match="one attribute a label"):
        groups_of(Y, MARKED[:3])


def test_every_group_is_drawn_as_often_as_the_largest() -> None:
    x = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1)
    data = Records(x, Y, ("a", "b"))
    drawn = resampled(data, groups_of(Y, MARKED), seed=0, size="largest")
    counts = drawn.x.flatten().bincount(minlength=7).tolist()
    assert counts == [1, 1, 2, 1, 1, 2, 4]
    fewest = resampled(data, groups_of(Y, MARKED), seed=0).x.flatten().tolist()
    assert len(fewest) == 3
    assert [len({*fewest} & {*rows}) for rows in ((0, 1, 3, 4), (2, 5), (6,))] == [1, 1, 1]
    with pytest.raises(RequestError, match="size='middle' is unknown"):
        resampled(data, Y, seed=0, size="middle")
    assert torch.equal(drawn.y, Y[drawn.x.flatten().long()])
    # 4 of a group of 3: one of them twice, and the seed says which
    uneven = Records(x, torch.tensor([0, 0, 0, 0, 1, 1, 1]), ("a", "b"))
    seeds = [
        resampled(uneven, uneven.y, seed=seed, size="largest").x.flatten().tolist() for seed in (0, 0, 1, 2, 3, 4, 5)
    ]
    assert all(sorted(set(rows)) == list(range(7)) and len(rows) == 8 for rows in seeds)
    assert seeds[0] == seeds[1]
    assert len({tuple(rows) for rows in seeds}) > 1
