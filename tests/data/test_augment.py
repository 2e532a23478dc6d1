from __future__ import annotations

import numpy as np
import pytest
import torch

from robustml.data import RandomCrop, RandomHorizontalFlip
from robustml.errors import RequestError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    x = torch.randint(0, 256, shape, generator=seeded(9), dtype=torch.uint8)
    return x if dtype == torch.uint8 else x.to(dtype) / 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("shape", [(5, 3, 8, 6), (1, 1, 5, 5), (7, 2, 4, 9)])
def test_crop_equals_numpy_one_image_at_a_time(shape, mode, dtype):
    x = images(*shape, dtype=dtype)
    before = x.clone()
    crop = RandomCrop(padding=3, mode=mode)(x, seeded())
    corners = torch.randint(7, (2, shape[0]), generator=seeded())
    for image, cropped, top, left in zip(x.numpy(), crop.numpy(), *corners.tolist(), strict=True):
        padded = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode="constant" if mode == "zeros" else "reflect")
        np.testing.assert_array_equal(cropped, padded[:, top : top + shape[2], left : left + shape[3]])
    assert crop.dtype == dtype
    assert torch.equal(x, before)


def test_crop_reaches_every_corner_evenly():
    x = torch.zeros(4000, 1, 5, 5, dtype=torch.uint8)
    x[:, :, 2, 2] = 1
    places = RandomCrop(padding=2)(x, seeded()).float().mean((0, 1))
    assert (places > 1 / 25 - 0.015).all()
    assert (places < 1 / 25 + 0.015).all()


def test_crop_of_channels_last_and_of_views():
    x = images(6, 3, 8, 8)
    plain = RandomCrop(2)(x, seeded())
    assert torch.equal(RandomCrop(2)(x.contiguous(memory_format=torch.channels_last), seeded()), plain)
    assert torch.equal(RandomCrop(0)(x, seeded()), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flip_mirrors_the_drawn_images_only(dtype):
    x = images(40, 3, 4, 6, dtype=dtype)
    flipped = RandomHorizontalFlip(p=0.3)(x, seeded())
    chosen = torch.rand(40, generator=seeded()) < 0.3
    assert 0 < chosen.sum() < 40
    for image, result, mirrored in zip(x, flipped, chosen, strict=True):
        np.testing.assert_array_equal(result.numpy(), image.numpy()[..., ::-1] if mirrored else image.numpy())


def test_flip_always_and_never():
    x = images(5, 1, 3, 3)
    assert torch.equal(RandomHorizontalFlip(1.0)(x, seeded()), x.flip(-1))
    assert torch.equal(RandomHorizontalFlip(0.0)(x, seeded()), x)


def test_global_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    RandomHorizontalFlip()(RandomCrop()(images(4, 1, 8, 8), seeded()), seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_bad_arguments():
    with pytest.raises(RequestError, match="padding mode"):
        RandomCrop(mode="wrap")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="0 pixels"):
        RandomCrop(padding=-1)
    with pytest.raises(RequestError, match="probability"):
        RandomHorizontalFlip(p=1.5)
    with pytest.raises(RequestError, match=r"\(N, C, H, W\)"):
        RandomCrop()(torch.zeros(4, 8), seeded())
    with pytest.raises(RequestError, match="lower the padding"):
        RandomCrop(4, "reflect")(images(2, 1, 4, 4), seeded())


@pytest.mark.gpu
def test_same_images_on_the_accelerator():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = images(16, 3, 32, 32)
    for change in (RandomCrop(), RandomCrop(mode="reflect"), RandomHorizontalFlip()):
        assert torch.equal(change(x.cuda(), seeded()).cpu(), change(x, seeded()))
