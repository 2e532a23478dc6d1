from __future__ import annotations

import pytest
import torch

from extraction.victims import SHAPE, seeded
from robustml.data import DataModule, Records
from robustml.data.splits import Split
from robustml.errors import RequestError
from robustml.extraction import AnotherSet, InDomain, NaturalImages, Noise, PoolSource


class Made:
    """A set of inputs of some shape."""

    def __init__(self, *shape: int, dtype: torch.dtype = torch.uint8) -> None:
        self.shape, self.dtype = shape, dtype

    def load(self, split: Split) -> Records:
        x = torch.rand(30, *self.shape, generator=seeded(1))
        x = (x * 255).to(torch.uint8) if self.dtype == torch.uint8 else x
        return Records(x, torch.arange(30) % 3, ("a", "b", "c"))


def made(*shape: int, dtype: torch.dtype = torch.uint8) -> DataModule:
    data = DataModule(Made(*shape, dtype=dtype), name="made", val_size=0)
    data.setup()
    return data


@pytest.mark.parametrize(
    "source", [Noise(), InDomain(), NaturalImages(), AnotherSet(made(3, 10, 12))], ids=lambda s: type(s).__name__
)
def test_queries_have_the_victims_shape_and_range(source: PoolSource, digits: DataModule) -> None:
    pool = source(digits, 20, generator=seeded(1))
    assert pool.x.shape == (20, *SHAPE)
    assert pool.x.dtype == torch.float32
    assert 0 <= float(pool.x.min()) < float(pool.x.max()) <= 1
    assert torch.equal(pool.x, source(digits, 20, generator=seeded(1)).x)
    assert not torch.equal(pool.x, source(digits, 20, generator=seeded(2)).x)


def test_in_domain_is_the_training_part_without_labels_each_once(digits: DataModule) -> None:
    pool = InDomain()(digits, 10_000, generator=seeded(1))
    assert pool.labels is None
    rows = sorted(map(tuple, (pool.x * 255).round().flatten(1).int().tolist()))
    assert rows == sorted(map(tuple, digits.train.x.flatten(1).int().tolist()))


def test_another_set_keeps_its_own_labels() -> None:
    grey, colour = made(1, 8, 8), made(3, 8, 8)
    pool = AnotherSet(grey)(colour, 30, generator=seeded(1))
    assert pool.labels is not None
    order = torch.randperm(30, generator=seeded(1))
    assert torch.equal(pool.labels, grey.train.y[order])
    assert torch.allclose(pool.x, (grey.train.x[order] / 255).expand(-1, 3, -1, -1))
    back = AnotherSet(colour)(grey, 30, generator=seeded(1))
    assert torch.allclose(back.x, (colour.train.x[order] / 255).mean(dim=1, keepdim=True))


def test_scaling_keeps_an_even_image_even(digits: DataModule) -> None:
    class Even(Made):
        def load(self, split: Split) -> Records:
            return Records(torch.full((4, 1, 20, 30), 51, dtype=torch.uint8), torch.arange(4) % 2, ("a", "b"))

    pool = AnotherSet(DataModule(Even(), name="even", val_size=0))(digits, 4)
    assert torch.allclose(pool.x, torch.full((4, *SHAPE), 0.2))


def test_rows_are_no_images(digits: DataModule) -> None:
    rows = made(7, dtype=torch.float32)
    assert Noise()(rows, 5, generator=seeded(1)).x.shape == (5, 7)
    with pytest.raises(RequestError, match="choose another pool"):
        AnotherSet(digits)(rows, 5)
    with pytest.raises(RequestError, match="choose another pool"):
        NaturalImages()(rows, 5)


def test_natural_images_are_smooth(digits: DataModule) -> None:
    """Neighbouring pixels of a photograph are alike, those of noise are not."""

    def roughness(x: torch.Tensor) -> float:
        return float((x[..., 1:] - x[..., :-1]).abs().mean() / x.std())

    photos, noise = (source(digits, 100, generator=seeded(1)) for source in (NaturalImages(), Noise()))
    assert roughness(photos.x) < 0.5 * roughness(noise.x)
    assert photos.labels is not None
    assert set(photos.labels.tolist()) == {0, 1}
