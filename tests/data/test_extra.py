"""Extra images: how many, which, with which labels, and read from files that others write."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from robustml.data import DataModule, ExtraImages, NpzImages, Records, TensorLoader
from robustml.data.extra import Mixture
from robustml.errors import RequestError
from robustml.results import ExtraData

from .test_loader import values
from .test_module import Given


def bright(count: int = 60, side: int = 4, names: tuple[str, ...] = ("even", "odd")) -> Records:
    """Extra images: filled with 100, 101, ..., where the toy set holds 0 to 49."""
    x = torch.arange(100, 100 + count).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, side, side).contiguous()
    return Records(x, torch.arange(count) % 2, names)


def loader(arrays: Records, ratio: float, batch_size: int = 10, count: int = 60, **options: object) -> TensorLoader:
    return TensorLoader(arrays, batch_size, shuffle=True, extra=Mixture(bright(count), ratio), **options)


@pytest.mark.parametrize(("ratio", "sizes"), [(0.7, [14, 14, 7]), (0.25, [5, 5, 2]), (1.0, [20, 20, 10])])
def test_each_batch_holds_the_share_and_an_epoch_has_the_batches_of_the_original_set(toy, ratio, sizes):
    seen = [values(batch) for batch in loader(toy(), ratio, 20)]
    assert [len(rows) for rows in seen] == [20, 20, 10]
    assert [sum(row >= 100 for row in rows) for rows in seen] == [round(ratio * len(rows)) for rows in seen] == sizes


def test_labels_follow_and_rows_are_repeated_only_once_all_were_shown(toy):
    counts = Counter()
    for x, y in loader(toy(), 0.8, count=13):
        rows = values((x, y))
        assert [row % 2 for row in rows] == y.tolist()
        counts.update(rows)
    own = {row: number for row, number in counts.items() if row < 100}
    extra = {row: number for row, number in counts.items() if row >= 100}
    assert len(own) == sum(own.values()) == 10
    assert len(extra) == 13
    assert sum(extra.values()) == 40
    assert max(extra.values()) - min(extra.values()) <= 1


def test_both_are_drawn_anew_each_epoch_and_by_the_seed_alone(toy):
    def draw(epoch: int, seed: int = 0) -> list[list[int]]:
        made = loader(toy(), 0.5, seed=seed)
        made.set_epoch(epoch)
        return [values(batch) for batch in made]

    assert draw(1) == draw(1)
    for kind in (lambda row: row < 100, lambda row: row >= 100):
        first, second, third = ({row for rows in drawn for row in rows if kind(row)} for drawn in map(draw, (1, 2, 3)))
        assert len({frozenset(first), frozenset(second), frozenset(third)}) == 3
    assert draw(1) != draw(1, seed=1)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_batches_and_extra_images_evenly(toy, world_size):
    whole = [values(batch) for batch in loader(toy(), 0.7, 12)]
    shares = [
        [values(batch) for batch in loader(toy(), 0.7, 12, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    whole = whole[: len(shares[0])]
    for rows, *parts in zip(whole, *shares, strict=True):
        assert rows == [row for part in parts for row in part]
        extra = [sum(row >= 100 for row in part) for part in parts]
        assert max(extra) - min(extra) <= 1


def test_a_pass_is_resumed_with_the_same_extra_images(toy):
    whole = [values(batch) for batch in loader(toy(), 0.7)]
    resumed = loader(toy(), 0.7)
    resumed.load_state_dict({"epoch": 0, "batches": 2})
    assert [values(batch) for batch in resumed] == whole[2:]


def module(extra: ExtraImages | None, toy, **options: object) -> DataModule:
    data = DataModule(Given(toy(), toy(10)), name="toy", batch_size=10, val_size=10, extra=extra, **options)
    data.setup()
    return data


def test_the_data_module_knows_and_shows_them_in_training_alone(toy):
    without, data = module(None, toy), module(ExtraImages(Given(bright(), bright(2)), 0.5), toy)
    assert data.summary().extra == ExtraData(train=60, ratio=0.5)
    assert without.summary().extra is None
    assert data.summary().train == 40
    assert data.fingerprint != without.fingerprint
    fewer = module(ExtraImages(Given(bright(59), bright(2)), 0.5), toy)
    assert len({data.fingerprint, without.fingerprint, fewer.fingerprint}) == 3
    assert len(data.train_dataloader()) == 4
    assert sum(row >= 100 for batch in data.train_dataloader() for row in values(batch)) == 20
    for part in (data.val_dataloader(), data.test_dataloader(), data.loader("train")):
        assert all(row < 100 for batch in part for row in values(batch))


class Broken:
    def load(self, split: str) -> Records:
        raise AssertionError("read too early")


def test_they_are_read_only_when_they_are_asked_for(toy):
    data = module(ExtraImages(Broken()), toy)
    data.test_dataloader()
    with pytest.raises(AssertionError, match="too early"):
        data.train_dataloader()


def test_classes_are_matched_by_name_and_integers_by_number(toy):
    def labels(names: tuple[str, ...]) -> list[int]:
        return ExtraImages(Given(bright(4, names=names), bright(2))).load(("even", "odd", "none")).records.y.tolist()

    assert labels(("even", "odd")) == labels(("0", "1")) == [0, 1, 0, 1]
    assert labels(("none", "even")) == [2, 0, 2, 0]
    assert labels(("0", "2")) == [0, 2, 0, 2], "a number is a place among the classes, whatever numbers are missing"
    years = ExtraImages(Given(bright(4, names=("2023", "2021")), bright(2))).load(("2021", "2022", "2023"))
    assert years.records.y.tolist() == [2, 0, 2, 0], "unless it is a name"
    with pytest.raises(RequestError, match=r"the label 'odds'.*did you mean 'odd'\?.*labeller"):
        labels(("even", "odds"))


class Brightest(nn.Module):
    """Says class 1 where the first pixel lies above a threshold; counts the images."""

    def __init__(self, threshold: float, classes: int = 2) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.classes = classes
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert 0 <= x.min() <= x.max() <= 1
        self.seen += len(x)
        above = x.flatten(1)[:, 0] > self.threshold
        return torch.nn.functional.one_hot(above.long(), self.classes).float()


def test_a_model_labels_the_images_once(toy):
    source = Given(Records(bright().x, torch.zeros(60, dtype=torch.int64), ("unlabelled",)), bright())
    model = Brightest(129.5 / 255)
    for _ in range(2):
        model.train()
        mixture = ExtraImages(source, labeller=lambda: model).load(("even", "odd"))
        assert mixture.records.y.tolist() == [0] * 30 + [1] * 30
        assert mixture.records.class_names == ("even", "odd")
        assert model.training
    assert model.seen == 60
    other = Brightest(109.5 / 255)
    assert ExtraImages(source, labeller=lambda: other).load(("even", "odd")).records.y.sum() == 50
    fewer = Given(Records(bright(20).x, torch.zeros(20, dtype=torch.int64), ("unlabelled",)), bright())
    assert len(ExtraImages(fewer, labeller=lambda: model).load(("even", "odd")).records) == 20
    assert model.seen == 80
    with pytest.raises(RequestError, match="tells 3 classes apart, the data has 2"):
        ExtraImages(source, labeller=lambda: Brightest(0.5, 3)).load(("even", "odd"))
    with pytest.raises(RequestError, match="labeller"):
        ExtraImages(source).load(("even", "odd"))


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_files_as_they_are_published(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, channels), dtype=np.uint8)
    np.savez(tmp_path / "made.npz", image=images, label=np.array([2, 0, 1, 1, 0]))
    arrays = NpzImages(str(tmp_path / "made.npz")).load("train")
    assert arrays.y.tolist() == [2, 0, 1, 1, 0]
    assert arrays.class_names == ("0", "1", "2")
    assert arrays.x.shape == (5, channels, 4, 6)
    assert all(arrays.x[3, c, 1, 5] == images[3, 1, 5, c] for c in range(channels))


def test_npz_files_without_labels_and_without_channels(tmp_path):
    np.savez_compressed(tmp_path / "grey.npz", picture=np.full((3, 4, 4), 7, np.uint8))
    arrays = NpzImages(str(tmp_path / "grey.npz"), image="picture").load("train")
    assert arrays.x.shape == (3, 1, 4, 4)
    assert arrays.class_names == ("unlabelled",)


def test_npz_files_that_are_refused(tmp_path):
    def refused(match: str, split: str = "train", **held: object) -> None:
        np.savez(tmp_path / "bad.npz", **held)
        with pytest.raises(RequestError, match=match):
            NpzImages(str(tmp_path / "bad.npz")).load(split)

    images = np.zeros((2, 4, 4, 3), np.uint8)
    refused("no array 'image'; did you mean 'images'", images=images)
    refused(r"uint8 images \(N, H, W, C\).*float64", image=images / 255)
    refused(r"uint8 images \(N, H, W, C\).*\(2, 3, 4, 4\)", image=images.transpose(0, 3, 1, 2))
    refused(r"2 integer labels", image=images, label=np.zeros(3, np.int64))
    refused(r"2 integer labels", image=images, label=np.zeros(2))
    refused(r"row 0: the label -1 beside 0", image=images, label=np.array([-1, 0]))
    refused("holds objects", image=np.array([{}, {}], object))
    refused("training images only", split="test", image=images)
    (tmp_path / "bad.npz").write_bytes(b"PK no zip at all")
    with pytest.raises(RequestError, match="cannot be read as arrays"):
        NpzImages(str(tmp_path / "bad.npz")).load("train")
    np.save(tmp_path / "bare.npy", images)
    with pytest.raises(RequestError, match="cannot be read as arrays"):
        NpzImages(str(tmp_path / "bare.npy")).load("train")
    with pytest.raises(RequestError, match="no file"):
        NpzImages(str(tmp_path / "none.npz")).load("train")


def test_bad_requests(toy):
    with pytest.raises(RequestError, match=r"data\.extra\.ratio"):
        ExtraImages(Given(toy(), toy()), ratio=70)
    with pytest.raises(RequestError, match="no image at all"):
        loader(toy(), 0.01)
    with pytest.raises(RequestError, match="does not shuffle"):
        TensorLoader(toy(), 10, extra=Mixture(bright(), 0.5))
    with pytest.raises(RequestError, match=r"\(1, 5, 5\).*\(1, 4, 4\)"):
        TensorLoader(toy(), 10, shuffle=True, extra=Mixture(bright(side=5), 0.5))
    with pytest.raises(RequestError, match="original classes"):
        TensorLoader(toy(), 10, shuffle=True, extra=Mixture(bright(names=("a", "b")), 0.5))
    with pytest.raises(RequestError, match="holds no image"):
        ExtraImages(Given(toy().sample(0), toy())).load(("even", "odd"))
