"""BadNets and its triggers: which pixels, which labels, how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning import Backdoor, BadNets, Logo, Pattern, Square, backdoor_of


@pytest.fixture
def data() -> Records:
    x = torch.randint(0, 200, (60, 3, 8, 7), dtype=torch.uint8, generator=Generator().manual_seed(0))
    return Records(x, torch.arange(60) % 5, ("cat", "dog", "ship", "frog", "car"))


def test_exactly_the_rate_is_stamped_and_relabelled(data: Records) -> None:
    before = data.fingerprint()
    plan = BadNets(Square(2), rate=0.25, target="ship").plan(data, seed=1)
    assert data.fingerprint() == before
    assert len(plan) == plan.summary.changed == 15
    changed = plan.after
    assert (changed.y == 2).all()
    assert (plan.before.y != 2).all()
    expected = plan.before.x.clone()
    expected[:, :, 6:, 5:] = 255
    assert torch.equal(changed.x, expected)
    again = BadNets(Square(2), rate=0.25, target=2).plan(data, seed=1)
    assert again.poisoned_sha256 == plan.poisoned_sha256
    assert BadNets(Square(2), rate=0.25, target=2).plan(data, seed=2).apply(data).fingerprint() != plan.poisoned_sha256


def test_the_next_class_is_another_for_each(data: Records) -> None:
    poison = BadNets(Square(1), rate=0.5, target="next")
    plan = poison.plan(data, seed=0)
    assert torch.equal(plan.after.y, (plan.before.y + 1) % 5)
    presented = poison.triggered(data)
    assert len(presented.y) == 60
    assert torch.equal(presented.target, (data.y + 1) % 5)


def test_no_picture_of_the_target_class_is_presented(data: Records) -> None:
    poison = BadNets(Square(2, value=0.5, place="upper_left", margin=1), target="dog")
    presented = poison.triggered(data)
    assert isinstance(poison, Backdoor)
    assert backdoor_of(poison) is poison
    assert len(presented.y) == 48
    assert (presented.y != 1).all()
    assert (presented.target == 1).all()
    assert (presented.x[:, :, 1:3, 1:3] == 128).all()
    rest = presented.x.clone()
    rest[:, :, 1:3, 1:3] = data.x[data.y != 1][:, :, 1:3, 1:3]
    assert torch.equal(rest, data.x[data.y != 1])


@pytest.mark.parametrize(
    ("place", "top", "left"),
    [("upper_left", 0, 0), ("lower_left", 6, 0), ("upper_right", 0, 5), ("centre", 3, 2), ([2, 4], 2, 4)],
)
def test_triggers_lie_where_they_are_put(place: Any, top: int, left: int) -> None:
    marked = Square(2, place=place)(torch.zeros(1, 1, 8, 7))
    assert marked.nonzero()[:, 2:].tolist() == [[top + i, left + j] for i in range(2) for j in range(2)]


def test_patterns_leave_their_gaps(data: Records) -> None:
    x = torch.full((2, 3, 5, 5), 0.25)
    marked = Pattern([[1.0, None], [0.0, 0.5]], place="upper_left")(x)
    assert marked[0, 0, :2, :2].tolist() == [[1.0, 0.25], [0.0, 0.5]]
    assert (marked[:, :, 2:] == 0.25).all()


def test_logos_are_scaled_and_transparent(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 4), dtype=np.uint8)
    picture[:, :2] = (255, 0, 0, 255)  # the right half is transparent
    Image.fromarray(picture, "RGBA").save(tmp_path / "logo.png")
    x = torch.full((1, 3, 6, 6), 0.5)
    marked = Logo(str(tmp_path / "logo.png"), size=[4, 4], place="upper_left")(x)
    assert torch.equal(marked[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(marked[:, :, :, 3:], x[:, :, :, 3:])
    grey = Logo(str(tmp_path / "logo.png"), size=[4, 4], place="upper_left")(x[:, :1])
    assert grey[0, 0, 0, 0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: BadNets(Square(), rate=1.5), "in \\[0, 1\\]"),
        (lambda data: BadNets(Square(), rate="many"), "in \\[0, 1\\]"),
        (lambda data: BadNets(Square(), target=7).plan(data, seed=0), "no class 7"),
        (lambda data: BadNets(Square(), target="cow").plan(data, seed=0), "no class 'cow'"),
        (lambda data: BadNets(Square(9)).plan(data, seed=0), "9 x 9 pixels at lower_right does not fit into 8 x 7"),
        (lambda data: BadNets(Square(), rate=1.0).plan(data, seed=0), "60 rows of other classes are to be changed"),
        (lambda data: BadNets(Square(2, value=[1.0, 0.0])).plan(data, seed=0), "one a channel"),
        (lambda data: Square(0), "size >= 1"),
        (lambda data: Square(place="middle"), "name a corner"),
        (lambda data: Pattern([[1.0], [1.0, 0.0]]), "one length"),
        (lambda data: Logo("nowhere.png"), "cannot be read"),
        (
            lambda data: BadNets(Square()).plan(Records(torch.rand(9, 4), torch.arange(9) % 2, ("a", "b")), seed=0),
            "pictures",
        ),
    ],
)
def test_requests_that_make_no_sense(make: Any, message: str, data: Records) -> None:
    with pytest.raises(RequestError, match=message):
        make(data)
