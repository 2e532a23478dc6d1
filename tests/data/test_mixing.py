"""CutMix against its images taken apart pixel by pixel, and the schedule against a hand table."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from robustml.data import CutMix, DataModule, RandomCrop, TensorLoader
from robustml.errors import RequestError

from .test_module import Given

NAMED = 10


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def numbered(count: int, height: int = 8, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose every pixel tells which image it is from, each of a class of its own."""
    x = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, height, width).contiguous()
    return x, torch.arange(count)


@pytest.mark.parametrize("seed", range(30))
def test_a_mixed_image_is_its_own_but_for_one_box_and_labels_count_the_pixels(seed):
    x, y = numbered(NAMED)
    kept = x.clone()
    mixed, labels = CutMix(start=1.0)(x, y, NAMED, 0.0, seeded(seed))
    assert torch.equal(x, kept)
    assert mixed.dtype == x.dtype
    assert labels.dtype == torch.float32
    foreign = mixed != x
    boxes = foreign.flatten(1).any(1)
    masks = foreign[boxes]
    for row, image in enumerate(mixed):
        share = torch.bincount(image[0].flatten().long(), minlength=NAMED) / image[0].numel()
        assert torch.allclose(labels[row], share, atol=1e-6)
        assert len(image.unique()) <= 2
    if len(masks):
        assert (masks == masks[0]).all(), "one box for all"
        rows, columns = masks[0, 0].nonzero(as_tuple=True)
        assert masks[0, 0].sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        sources = mixed[:, 0, rows[0], columns[0]]
        assert len(sources.unique()) == NAMED, "each image gives its box to one other"


def test_the_box_has_the_published_size():
    """A share from Beta(1, 1), sides by its root, centre anywhere, cut at the border: the mean area by quadrature."""
    length, area, draws = 16, 0.0, 4000
    for share in range(200):
        half = int(length * ((share + 0.5) / 200) ** 0.5) // 2
        inside = sum(min(c + half, length) - max(c - half, 0) for c in range(length)) / length
        area += inside**2 / length**2 / 200
    x, y = torch.zeros(2, 1, length, length, dtype=torch.uint8), torch.tensor([0, 1])
    pasted = []
    for seed in range(draws):
        # where an image is its own partner nothing shows, so that the classes are told apart by the label alone
        _, labels = CutMix(start=1.0)(x, y, 2, 0.0, seeded(seed))
        pasted.append(float(labels[0, 1]))
    # the partner is the other image in half of the draws
    assert sum(pasted) / draws == pytest.approx(area / 2, abs=0.012)


def test_images_that_are_not_mixed_have_labels_of_the_same_kind():
    x, y = numbered(4)
    mixed, labels = CutMix(start=0.0, end=1.0)(x, y, 5, 0.0, seeded(0))
    assert mixed is x
    assert torch.equal(labels, torch.eye(4, 5))


@pytest.mark.parametrize(("progress", "probability"), [(0.0, 0.2), (0.5, 0.5), (1.0, 0.8)])
def test_the_probability_follows_a_straight_line(progress, probability):
    x, y = numbered(2)
    mixed = sum(CutMix(start=0.2, end=0.8)(x, y, 2, progress, seeded(seed))[0] is not x for seed in range(1000))
    assert mixed / 1000 == pytest.approx(probability, abs=0.05)


def test_the_first_epoch_is_at_the_start_and_the_last_at_the_end(toy):
    seen = []

    def note(x, y, classes, progress, generator):
        seen.append(progress)
        return x, y

    loader = TensorLoader(toy(20), 20, shuffle=True, mix=note, epochs=5)
    for epoch in range(6):
        loader.set_epoch(epoch)
        list(loader)
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert list(TensorLoader(toy(20), 20, shuffle=True, mix=note, epochs=1)) is not None
    assert seen[-1] == 1.0
    with pytest.raises(RequestError, match=r"trainer\.max_epochs"):
        list(TensorLoader(toy(20), 20, shuffle=True, mix=note))


@pytest.mark.parametrize("world_size", [2, 3])
def test_shares_of_a_mixed_batch_make_up_the_whole_and_follow_seed_and_epoch_alone(toy, world_size):
    def draw(epoch: int = 1, rank: int = 0, world_size: int = 1, seed: int = 0):
        loader = TensorLoader(
            toy(40, side=6),
            16,
            shuffle=True,
            augment=(RandomCrop(1),),
            mix=CutMix(start=1.0),
            epochs=4,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        loader.set_epoch(epoch)
        return list(loader)

    whole, shares = draw(), [draw(rank=rank, world_size=world_size) for rank in range(world_size)]
    for (x, y), *parts in zip(whole, *shares, strict=True):
        assert y.shape == (len(x), 2)
        assert torch.equal(x, torch.cat([part[0] for part in parts]))
        assert torch.equal(y, torch.cat([part[1] for part in parts]))
    for other in (draw(epoch=2), draw(seed=1)):
        assert not torch.equal(torch.cat([x for x, _ in whole]), torch.cat([x for x, _ in other]))


def test_the_data_module_mixes_training_alone(toy):
    data = DataModule(Given(toy(40), toy(10)), name="toy", batch_size=8, val_size=10, mix=CutMix(start=1.0))
    data.setup()
    assert {y.shape[1:] for _, y in data.train_dataloader(epochs=3)} == {(2,)}
    for loader in (data.val_dataloader(), data.test_dataloader(), data.loader("train")):
        assert {y.dtype for _, y in loader} == {torch.int64}


def test_bad_requests():
    with pytest.raises(RequestError, match="alpha"):
        CutMix(alpha=0)
    with pytest.raises(RequestError, match=r"\[0, 1\], got 0.0 and 1.5"):
        CutMix(end=1.5)
    with pytest.raises(RequestError, match=r"data/mix=null"):
        CutMix()(torch.rand(2, 5), torch.tensor([0, 1]), 2, 0.0, seeded(0))
