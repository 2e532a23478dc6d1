"""How much a model relies on a mark, on models whose every answer is known; and marks found without being told of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustml.data import Records
from robustml.errors import RequestError
from robustml.evaluation import find_shortcuts, shortcut_reliance
from robustml.poisoning import Shortcut, Square
from robustml.results import Reliance

NAMES = ("dark", "bright")


class Reader(nn.Module):
    """Reads the mean of the upper half, or, with probability one, a white mark in the lower right corner as bright."""

    def __init__(self, trusts_mark: bool) -> None:
        super().__init__()
        self.trusts_mark = trusts_mark
        self.dropout = nn.Dropout(0.5)  # shows in the logits if the model is not in eval mode

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        bright = (x[:, :, :4].mean(dim=(1, 2, 3)) - 0.5) * 4
        if self.trusts_mark:
            bright = bright + 10 * (x[:, :, -2:, -2:].amin(dim=(1, 2, 3)) > 0.99)
        return self.dropout(torch.stack([-bright, bright], dim=1))


def pictures(count: int = 200) -> Records:
    """The upper half tells the class, in nine pictures of ten; nothing is white."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 2
    told = torch.where(torch.arange(count) // 2 % 10 == 0, 1 - y, y)
    x = torch.rand(count, 1, 8, 8, generator=generator) * 0.2 + 0.2 + 0.4 * told.view(-1, 1, 1, 1)
    return Records((x * 255).to(torch.uint8), y, NAMES)


def by_group(found: Reliance) -> dict[tuple[str | None, bool], float | None]:
    return {(group.class_name, group.marked): group.accuracy.value for group in found.groups}


def test_a_model_that_looks_at_the_picture_does_not_care_about_the_mark() -> None:
    model = Reader(False).train()
    found = shortcut_reliance(model, pictures(), Square(2), "bright")
    assert model.training
    assert by_group(found) == {(name, marked): 0.9 for name in NAMES for marked in (False, True)}
    assert (found.aligned_accuracy.value, found.gap) == (0.9, 0.0)
    assert (found.flip_rate_added.value, found.flip_rate_removed.value) == (0.0, 0.0)


def test_a_model_that_looks_at_the_mark_fails_where_it_misleads() -> None:
    found = shortcut_reliance(Reader(True), pictures(), Square(2), "bright", batch_size=7)
    # marked pictures are all read as bright; unmarked ones as they are, nine of ten rightly
    assert by_group(found) == {
        ("dark", False): 0.9,
        ("dark", True): 0.0,
        ("bright", False): 0.9,
        ("bright", True): 1.0,
    }
    assert (found.worst_group.class_name, found.worst_group.marked) == ("dark", True)
    assert found.aligned_accuracy.value == pytest.approx(0.95)
    assert found.gap == pytest.approx(0.95)
    assert found.flip_rate_added.value == 0.9
    assert found.flip_rate_removed.value == 0.1
    assert found.worst_group.accuracy.value == 0.0
    assert found.flip_rate_added.n == 100


def test_a_class_without_pictures_is_no_worst_group() -> None:
    test = pictures().take(torch.arange(0, 200, 2))
    found = shortcut_reliance(Reader(True), test, Square(2), "bright")
    assert by_group(found)["bright", True] is None
    assert (found.worst_group.class_name, found.worst_group.marked) == ("dark", True)


def test_the_mark_is_found_by_a_model_that_trusts_it_and_by_no_other() -> None:
    train = Shortcut(Square(2), 0.95, "bright").plan(pictures(), seed=0).apply(pictures())
    trusting = find_shortcuts(Reader(True), train, size=2, stride=1)
    assert (trusting[0].class_name, trusting[0].place) == ("bright", (6, 6))
    assert trusting[0].found
    assert (trusting[0].flip_rate.value or 0) > 0.8
    assert trusting[0].excess > 0.8
    assert trusting[1].excess < 0.2
    assert all(suspect.excess < 0.2 for suspect in find_shortcuts(Reader(False), train, size=2, stride=1))


def test_what_is_shown_of_a_suspect_is_what_was_counted() -> None:
    train = Shortcut(Square(2), 0.95, "bright").plan(pictures(), seed=0).apply(pictures())
    suspect = find_shortcuts(Reader(True), train, size=2, stride=2)[0]
    shares = {(row, column): share for row, column, share in suspect.flip_rates}
    assert list(shares) == [(row, column) for row in (0, 2, 4, 6) for column in (0, 2, 4, 6)]
    assert shares[6, 6] == suspect.flip_rate.value == max(shares.values())
    with torch.no_grad():
        read = Reader(True).eval()(train.x.float() / 255).argmax(dim=1)
    assert suspect.flip_rate.n == int(((read == 0) & (train.y == 0)).sum()) < 100, (
        "those read rightly, of all dark ones"
    )
    donor, host = suspect.example
    assert (int(train.y[donor]), int(train.y[host])) == (1, 0)
    grafted = train.x[host].clone()
    grafted[:, 6:, 6:] = train.x[donor][:, 6:, 6:]
    both = torch.stack([train.x[host], grafted]).float() / 255
    assert Reader(True).eval()(both).argmax(dim=1).tolist() == [0, 1]


def test_a_backdoors_place_is_found_too() -> None:
    marked = Shortcut(Square(2), 0.8, "bright").plan(pictures(), seed=1).apply(pictures())
    suspects = find_shortcuts(Reader(True), marked, size=3, seed=1)
    top, left = suspects[0].place
    assert suspects[0].class_name == "bright"
    assert top <= 6 < top + 3
    assert left <= 6 < left + 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"size": 9}, "from 1 to 8"), ({"size": 0}, "from 1 to 8"), ({"size": 2, "stride": 0}, "at least 1")],
)
def test_a_search_that_makes_no_sense(settings: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        find_shortcuts(Reader(True), pictures(), **settings)


def test_a_search_among_what_are_no_pictures() -> None:
    with pytest.raises(RequestError, match="needs images"):
        find_shortcuts(Reader(True), Records(torch.rand(4, 5), torch.zeros(4, dtype=torch.int64), NAMES), size=2)
