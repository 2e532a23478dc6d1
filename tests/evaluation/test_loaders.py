"""What a loader may give, and that every pass over it must show the same: verdicts of other images are not combined."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from robustml.attacks import FGSM, PGD
from robustml.errors import RequestError
from robustml.evaluation import accuracy_curve, corruption_accuracy, evaluate
from robustml.evaluation.batches import Batches, identities
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.1)
CPU = torch.device("cpu")


class Rows(Dataset[Any]):
    """Single examples, as a data set of images has them."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.x[row], int(self.y[row])


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "three": lambda x, y: (x, y, torch.arange(len(y))),
    "a list": lambda x, y: [x, y],
    "int32": lambda x, y: (x, y.int()),
    "uint8 labels": lambda x, y: (x, y.byte()),
    "a column of labels": lambda x, y: (x, y[:, None]),
    "labels as a list": lambda x, y: (x, y.tolist()),
    "NumPy": lambda x, y: (x.numpy(), y.numpy().astype(np.int32)),
    "NumPy, float64": lambda x, y: (x.double().numpy(), y.numpy()),
    "a list of images": lambda x, y: (list(x), list(y)),
    "image, label": lambda x, y: {"image": x, "label": y},
    "pixel_values, labels": lambda x, y: UserDict(pixel_values=x, labels=y, idx=torch.arange(len(y))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_batch_gives_the_same_figures(form: str, digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y = x[:101], y[:101]  # the last batch is of one
    pairs = list(zip(x.split(50), y.split(50), strict=True))
    attacks = {"pgd": PGD(steps=3)}
    wanted = evaluate(model, pairs, attacks, THREAT)
    found = evaluate(model, [FORMS[form](*pair) for pair in pairs], attacks, THREAT)
    assert found.clean_accuracy == wanted.clean_accuracy
    # A random start is made of the bytes of the image: in float64 it is another one.
    spare = 0.03 if form == "NumPy, float64" else 0.0
    assert abs(found.worst_case.robust_accuracy.value - wanted.worst_case.robust_accuracy.value) <= spare  # type: ignore[operator]


@pytest.mark.parametrize(
    "data",
    [
        Rows,
        TensorDataset,
        lambda x, y: [(image, int(label)) for image, label in zip(x, y, strict=True)],
        lambda x, y: [{"image": image, "label": int(label)} for image, label in zip(x, y, strict=True)],
    ],
)
def test_a_set_of_single_examples_is_put_in_batches(data: Callable[[Tensor, Tensor], Any], digits_net: Any) -> None:
    model, (x, y) = digits_net
    wanted = evaluate(model, [(x, y)], {"fgsm": FGSM()}, THREAT)
    found = evaluate(model, data(x, y), {"fgsm": FGSM()}, THREAT)
    assert found.worst_case.robust_accuracy == wanted.worst_case.robust_accuracy


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (lambda x, y: ((part, label) for part, label in zip(x.split(9), y.split(9), strict=True)), "only once"),
        (lambda x, y: zip(x.split(9), y.split(9), strict=True), "only once"),
        (lambda x, y: 7, "expected a loader of batches"),
        (lambda x, y: [((x * 255).byte(), y)], r"float\(\) / 255"),
        (lambda x, y: [x], "expected batches"),
        (lambda x, y: [(torch.arange(len(y)), x, y)], "floats"),
        (lambda x, y: [(x, torch.eye(10)[y].long())], "argmax"),
        (lambda x, y: [(x, y.float())], "labels must be integers"),
        (lambda x, y: [(x, y[:-1])], "labels must be integers of shape"),
        (lambda x, y: [(x, [str(label) for label in y.tolist()])], "no tensor of labels"),
        (lambda x, y: [{"image": x, "fine_label": y, "coarse_label": y}], "fine_label, coarse_label"),
        (lambda x, y: [(object(), 3), (object(), 4)], "fails on batch 0: default_collate"),
        (lambda x, y: (y, x), "images must be floats"),
        (lambda x, y: [{"image": x, "img": x, "label": y}], "images is not clear|images"),
    ],
)
def test_what_is_no_loader_is_refused_in_a_line(
    loader: Callable[[Tensor, Tensor], Any], message: str, digits_net: Any
) -> None:
    model, (x, y) = digits_net
    with pytest.raises(RequestError, match=message) as refusal:
        evaluate(model, loader(x[:20], y[:20]), {"fgsm": FGSM()}, THREAT)
    assert "\n" not in str(refusal.value)


class Anew:
    """Shows in every pass what `change` makes of the batches."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]], change: Callable[..., Any]) -> None:
        self.batches, self.change, self.passes = batches, change, 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return iter(self.change(list(self.batches), self.passes))


CHANGES: dict[str, tuple[Callable[..., Any], str]] = {
    "batches in another order": (lambda batches, turn: batches[turn % 2 :] + batches[: turn % 2], "shuffle=False"),
    "images in another order": (
        lambda batches, turn: [(x.roll(turn, 0), y.roll(turn, 0)) for x, y in batches],
        "shuffle=False",
    ),
    "augmented": (lambda batches, turn: [(x.roll(turn, 3), y) for x, y in batches], "augmentation"),
    "noise": (lambda batches, turn: [((x + turn * 1e-6).clamp(0, 1), y) for x, y in batches], "augmentation"),
    "a column of the last batch": (
        lambda batches, turn: [
            *batches[:-1],
            *[(x.index_fill(3, torch.tensor(7), turn / 8), y) for x, y in batches[-1:]],
        ],
        "augmentation",
    ),
    "labels": (lambda batches, turn: [(x, (y + turn) % 10) for x, y in batches], "labels"),
    "fewer": (lambda batches, turn: batches[: len(batches) - turn + 1], "batches in the first pass"),
    "more": (lambda batches, turn: batches + batches[: turn - 1], "batches in the first pass"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_later_pass_that_shows_something_else_is_refused(case: str, digits_net: Any) -> None:
    model, (x, y) = digits_net
    change, remedy = CHANGES[case]
    batches = list(zip(x[:60].split(20), y[:60].split(20), strict=True))
    with pytest.raises(RequestError, match=remedy):
        evaluate(model, Anew(batches, change), {"fgsm": FGSM()}, THREAT)
    with pytest.raises(RequestError, match=remedy):
        accuracy_curve(model, Anew(batches, change), "fgsm", FGSM(), THREAT, [0.1])
    evaluate(model, Anew(batches, lambda batches, turn: batches), {"fgsm": FGSM()}, THREAT)


def test_a_shuffling_data_loader_is_refused_and_a_plain_one_is_not(digits_net: Any) -> None:
    model, test = digits_net
    loader: Any = DataLoader(TensorDataset(*test), batch_size=50, shuffle=True)
    with pytest.raises(RequestError, match="shuffle=False"):
        evaluate(model, loader, {"fgsm": FGSM()}, THREAT)
    plain = evaluate(model, DataLoader(TensorDataset(*test), batch_size=50), {"fgsm": FGSM()}, THREAT)
    assert (
        plain.worst_case.robust_accuracy == evaluate(model, [test], {"fgsm": FGSM()}, THREAT).worst_case.robust_accuracy
    )


def test_tensors_are_data_and_attacks_are_named_after_their_class(digits_net: Any) -> None:
    model, (x, y) = digits_net
    pair = (x[:101], y[:101])
    wanted = evaluate(model, [pair], {"fgsm": FGSM()}, THREAT).attacks["fgsm"].robust_accuracy
    for data in (pair, tuple(each.numpy() for each in pair)):
        assert evaluate(model, data, FGSM(), THREAT).attacks["fgsm"].robust_accuracy == wanted
    found = evaluate(model, (x[:9], y[:9]), [FGSM(), PGD(steps=1), PGD(steps=2), lambda model, x, y: x], THREAT)
    assert [*found.attacks] == ["fgsm", "pgd", "pgd_2", "lambda"]
    for nonsense, message in ((PGD, r"make one of it, such as PGD\(\)"), ("pgd", "got 'str': 'pgd'"), ([3], "3")):
        with pytest.raises(RequestError, match=message):
            evaluate(model, (x[:9], y[:9]), nonsense, THREAT)
    for nonsense in ("linf", 0.1, LpBall):
        with pytest.raises(RequestError, match="expected a threat such as LpBall"):
            evaluate(model, (x[:9], y[:9]), FGSM(), nonsense)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"labels must be integers of shape \(9,\)"):
        evaluate(model, (x[:9], y[:8]), {}, THREAT)


def test_identities_tell_images_apart_and_are_those_of_the_bytes() -> None:
    x = (torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    flipped = x.flip(3)
    moved = x.clone()
    moved[:, 0, 3, 4] = (moved[:, 0, 3, 4] + 1 / 255) % 1
    binary = x.round()
    every = np.concatenate([identities(each) for each in (x, flipped, moved, binary, binary.flip(2), x.double())])
    assert len(np.unique(every)) == 6 * 64
    again = x.to(memory_format=torch.channels_last)[::2].contiguous(memory_format=torch.channels_last)
    assert np.array_equal(identities(again), identities(x)[::2])
    assert np.array_equal(np.concatenate([identities(x[:1]), identities(x[1:])]), identities(x))


def test_processes_take_turns_and_count_from_the_same_beginning(digits_net: Any) -> None:
    x, y = digits_net.test
    batches = list(zip(x[:50].split(20), y[:50].split(20), strict=True))
    seen = [[(batch.number, batch.first, len(batch.y)) for batch in Batches(batches, CPU, rank, 2)] for rank in (0, 1)]
    assert seen == [[(0, 0, 20), (2, 40, 10)], [(1, 20, 20)]]


@pytest.mark.parametrize("names", [["gaussian_noise", "shot_noise", "impulse_noise"], ["snow", "fog", "glass_blur"]])
def test_corruption_figures_do_not_depend_on_the_batch_size(names: list[str], digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y = x[:50], y[:50]
    found = [
        corruption_accuracy(
            model, list(zip(x.split(size), y.split(size), strict=True)), corruptions=names, severities=[3, 5]
        ).accuracy
        for size in (1, 7, 50)
    ]
    assert found[0] == found[1] == found[2]
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert corruption_accuracy(model, [(x[order], y[order])], corruptions=names, severities=[3, 5]).accuracy == found[0]
