"""The fifteen corruptions against closed forms, other libraries and figures worked out by hand."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from robustml.data.corruptions import CORRUPTIONS, SEVERITIES
from robustml.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, smooth, trail, zoom_blur
from robustml.data.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate
from robustml.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from robustml.data.corruptions.weather import brightness, fog, frost, snow
from robustml.errors import RequestError

STILL = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
SHAPES = {"colour": (3, 32, 32), "grey": (1, 28, 28), "tall": (3, 33, 20), "large": (3, 40, 64), "tiny": (1, 8, 8)}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def pictures(count: int, *shape: int) -> Tensor:
    """Smooth random images, as photographs are."""
    channels, height, width = shape
    coarse = torch.rand(count, channels, height // 4 + 1, width // 4 + 1, generator=seeded(1))
    return interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_range_seed_and_nothing_else_touched(name: str, severity: int) -> None:
    for shape in SHAPES.values():
        x = pictures(2, *shape)
        before, state = x.clone(), torch.random.get_rng_state()
        corrupted = CORRUPTIONS[name](x, severity, seeded())
        assert (corrupted.shape, corrupted.dtype) == (x.shape, x.dtype)
        assert corrupted.isfinite().all()
        assert corrupted.min() >= 0
        assert corrupted.max() <= 1
        assert torch.equal(corrupted, CORRUPTIONS[name](x, severity, seeded()))
        assert torch.equal(x, before)
        assert torch.equal(state, torch.random.get_rng_state())
        assert not torch.equal(corrupted, x)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_image_is_corrupted_by_itself(name: str) -> None:
    x = pictures(3, 3, 32, 24)
    if name in STILL:
        one_by_one = [CORRUPTIONS[name](image, 3, seeded()) for image in x.split(1)]
        torch.testing.assert_close(CORRUPTIONS[name](x, 3, seeded()), torch.cat(one_by_one), rtol=0, atol=1e-6)
        return
    first, second = CORRUPTIONS[name](x[:1].expand(2, -1, -1, -1), 3, seeded(2))
    assert not torch.equal(first, second), "two copies of an image must not share a draw"
    # what the neighbours in a batch hold changes nothing
    others = torch.cat([x[:1], 1 - x[1:]])
    torch.testing.assert_close(CORRUPTIONS[name](x, 3, seeded())[0], CORRUPTIONS[name](others, 3, seeded())[0])


# Not: elastic_transform, whose affine part shrinks as its field roughens, in the published tables.
RISING = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "motion_blur", "zoom_blur", "fog",
          "brightness", "contrast", "jpeg_compression")  # fmt: skip
STRONGER_AT_LAST = ("glass_blur", "snow", "frost", "pixelate")


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("name", [*RISING, *STRONGER_AT_LAST])
def test_a_higher_severity_is_further_from_the_original(name: str, side: int) -> None:
    x = pictures(6, 3, side, side)
    distance = [float((CORRUPTIONS[name](x, severity, seeded()) - x).abs().mean()) for severity in SEVERITIES]
    assert distance[0] > 0.002
    if name in RISING:
        assert all(after > before - 1e-3 for before, after in pairwise(distance)), distance
    assert distance[-1] > 1.01 * distance[0]


@pytest.mark.parametrize(("side", "deviations"), [(32, (0.04, 0.10)), (64, (0.08, 0.38))])
def test_gaussian_noise_has_the_tables_deviation(side: int, deviations: tuple[float, float]) -> None:
    x = torch.full((20, 3, side, side), 0.5)
    for severity, deviation in zip((1, 5), deviations, strict=True):
        noisy = gaussian_noise(x, severity, seeded())
        assert float(noisy.mean()) == pytest.approx(0.5, abs=0.003)
        if deviation < 0.2:  # beyond, the box cuts the tails off
            assert float(noisy.std()) == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize(("severity", "photons"), [(1, 500), (5, 50)])
def test_shot_noise_has_the_variance_of_a_poisson_count(severity: int, photons: int) -> None:
    for level in (0.2, 0.5):
        noisy = shot_noise(torch.full((20, 3, 32, 32), level), severity, seeded())
        assert float(noisy.mean()) == pytest.approx(level, rel=0.01)
        assert float(noisy.var()) == pytest.approx(level / photons, rel=0.03)
        assert torch.equal((noisy * photons).round() / photons, noisy)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.01), (5, 0.07)])
def test_impulse_noise_sets_the_tables_share_to_black_and_white(severity: int, share: float) -> None:
    noisy = impulse_noise(torch.full((60, 3, 32, 32), 0.5), severity, seeded())
    tolerance = 4 * (share / 2 / noisy.numel()) ** 0.5
    assert float((noisy == 0).float().mean()) == pytest.approx(share / 2, abs=tolerance)
    assert float((noisy == 1).float().mean()) == pytest.approx(share / 2, abs=tolerance)
    assert set(noisy.unique().tolist()) == {0.0, 0.5, 1.0}


def test_defocus_is_a_convolution_with_a_soft_disk() -> None:
    x = pictures(1, 3, 32, 32)
    cross = np.zeros((5, 5))
    cross[2, 1:4] = cross[1:4, 2] = 1  # all pixels within 1.0 of the middle
    kernel = ndimage.gaussian_filter(cross, 0.2, truncate=5.0, mode="constant")
    expected = np.stack([ndimage.convolve(channel, kernel / kernel.sum(), mode="mirror") for channel in x[0].numpy()])
    np.testing.assert_allclose(defocus_blur(x, 4)[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("sigma", "truncate"), [(0.4, 4.0), (2.0, 3.0), (40.0, 3.0)])
def test_smoothing_is_scipys(sigma: float, truncate: float) -> None:
    x = pictures(2, 1, 12, 17)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="mirror", truncate=truncate)
    np.testing.assert_allclose(smooth(x, sigma, truncate).numpy(), expected, atol=1e-5)


def test_glass_blur_replaces_pixels_by_neighbours() -> None:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    x = torch.stack([rows, columns, rows]).expand(20, 3, 32, 32) / 31
    # severity 1 smooths with a deviation of 0.05 pixels: not at all
    moved = (glass_blur(x, 1, seeded()) - x)[:, :2, 1:-1, 1:-1] * 31
    steps = moved.round()
    torch.testing.assert_close(moved, steps, rtol=0, atol=1e-4)
    assert set(steps.unique().tolist()) == {-1.0, 0.0}
    assert float((steps == 0).all(dim=1).float().mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(("degrees", "axis", "way"), [(0, 2, 1), (90, 1, 1), (-90, 1, -1), (180, 2, -1)])
def test_motion_is_half_a_gaussian_along_a_line(degrees: int, axis: int, way: int) -> None:
    x = pictures(1, 3, 20, 24)
    half = np.exp(-(np.arange(7) ** 2) / (2 * 1.5**2))
    weights = np.concatenate([np.zeros(6), half / half.sum()])[::way]
    expected = ndimage.correlate1d(x[0].numpy(), weights, axis=axis, mode="nearest")
    np.testing.assert_allclose(trail(x, 3, 1.5, torch.tensor([float(degrees)]))[0].numpy(), expected, atol=1e-6)


def test_motion_blur_stays_within_45_degrees_of_the_horizontal() -> None:
    x = torch.zeros(40, 1, 32, 32)
    x[:, :, 16, 16] = 1
    spread = [(motion_blur(x, 5, seeded()) > 0).any(dim=axis).sum(dim=2) for axis in (2, 3)]
    assert (spread[0] >= spread[1]).all()
    assert (spread[1] > 1).any()


def test_zoom_blur_is_the_mean_of_zoomed_copies() -> None:
    x = pictures(1, 1, 32, 20)
    middle = (np.array([32, 20]) - 1) / 2
    copies = [
        ndimage.affine_transform(x[0, 0].numpy(), np.eye(2) / z, middle - middle / z, order=1, mode="nearest")
        for z in np.arange(1, 1.11, 0.01)
    ]
    expected = np.mean([x[0, 0].numpy(), *copies], axis=0)
    np.testing.assert_allclose(zoom_blur(x, 2)[0, 0].numpy(), expected, atol=1e-5)


def test_snow_falls_on_black() -> None:
    snowed = snow(torch.zeros(20, 3, 32, 32), 2, seeded())
    ground = 0.1 * 0.5  # what a tenth of half white leaves where no flake fell
    assert float(snowed.min()) == pytest.approx(ground, abs=1e-6)
    bare = (snowed < ground + 1e-6).float().mean()
    assert 0.2 < bare < 0.95
    assert torch.equal(snowed[:, 0], snowed[:, 2])
    # each layer of flakes comes again upside down
    torch.testing.assert_close(snowed, snowed.flip(2, 3))


def test_frost_lays_the_same_pane_more_thickly() -> None:
    x = torch.zeros(4, 3, 32, 32)
    thin, thick = frost(x, 1, seeded()), frost(x, 2, seeded())
    torch.testing.assert_close(thick, 1.5 * thin)
    pane = thin / 0.2
    assert 0.3 < pane.mean() < 0.8
    assert pane.std() > 0.1
    assert (pane[:, 2] >= pane[:, 0]).all(), "ice is bluish"
    half = torch.full_like(x, 0.5)
    torch.testing.assert_close(frost(half, 5, seeded()), (0.75 * half + 0.45 * pane).clamp(0, 1))


@pytest.mark.parametrize(("severity", "amount"), [(1, 0.2), (5, 1.5)])
def test_fog_runs_from_none_to_full(severity: int, amount: float) -> None:
    fogged = fog(torch.full((5, 3, 32, 32), 0.5), severity, seeded())
    # a fractal from 0 to 1 fills the 32 x 32 image, and the brightest pixel stays as bright as it was
    torch.testing.assert_close(fogged.amax(dim=(1, 2, 3)), torch.full((5,), 0.5))
    torch.testing.assert_close(fogged.amin(dim=(1, 2, 3)), torch.full((5,), 0.25 / (0.5 + amount)))
    steps = fogged.diff(dim=3).abs().mean()
    assert steps < 0.3 * fogged.std(), "fog is smooth: neighbours differ by much less than the image"


def test_brightness_is_the_value_of_hsv() -> None:
    x = pictures(2, 3, 32, 20)
    x[:, :, :3] = 0
    for severity, raised in zip(SEVERITIES, (0.05, 0.1, 0.15, 0.2, 0.3), strict=True):
        hsv = rgb_to_hsv(x.permute(0, 2, 3, 1).double().numpy())
        hsv[..., 2] = np.clip(hsv[..., 2] + raised, 0, 1)
        np.testing.assert_allclose(brightness(x, severity).permute(0, 2, 3, 1).numpy(), hsv_to_rgb(hsv), atol=1e-6)
    grey = pictures(1, 1, 8, 8)
    torch.testing.assert_close(brightness(grey, 3), (grey + 0.15).clamp(max=1))


def test_contrast_by_hand() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., :4] = 0.8  # mean 0.4
    for severity, kept in ((1, 0.75), (5, 0.15)):
        grey = contrast(x, severity)
        assert float(grey[0, 0, 0, 0]) == pytest.approx(0.4 + kept * 0.4)
        assert float(grey[0, 0, 0, 7]) == pytest.approx(0.4 - kept * 0.4)


def test_elastic_of_the_first_severity_is_affine() -> None:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ramps = torch.stack([rows, columns, rows + columns])[None] / 62
    moved = elastic_transform(ramps.expand(4, -1, -1, -1), 1, seeded())[:, :, 8:-8, 8:-8]
    # an affine map of a ramp is a ramp: no curvature, but another slope and level
    for axis in (2, 3):
        assert moved.diff(n=2, dim=axis).abs().max() < 1e-5
    assert (moved - ramps[:, :, 8:-8, 8:-8]).abs().amax(dim=(1, 2, 3)).min() > 0.001
    # three corners move by 0.08 * 32 pixels at most, the middle no further than they
    middle = (moved - ramps[:, :, 8:-8, 8:-8])[:, :2, 8, 8].abs() * 62
    assert middle.max() <= 2 * 0.08 * 32
    rough = elastic_transform(ramps, 5, seeded())[:, :, 8:-8, 8:-8]
    assert rough.diff(n=2, dim=2).abs().max() > 1e-3


@pytest.mark.parametrize(("severity", "share"), [(1, 0.95), (3, 0.85), (5, 0.65)])
def test_pixelate_is_pillows_box(severity: int, share: float) -> None:
    x = pictures(1, 1, 32, 20)
    image = Image.fromarray(x[0, 0].numpy())
    small = image.resize((int(20 * share), int(32 * share)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((20, 32), Image.Resampling.BOX))
    np.testing.assert_allclose(pixelate(x, severity)[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("severity", "quality"), [(1, 80), (5, 40)])
def test_jpeg_is_pillows_round_trip(severity: int, quality: int) -> None:
    x = pictures(2, 3, 32, 20)
    compressed = jpeg_compression(x, severity)
    for image, found in zip(x, compressed, strict=True):
        stream = io.BytesIO()
        Image.fromarray(np.rint(image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)).save(
            stream, "JPEG", quality=quality
        )
        expected = np.asarray(Image.open(stream)).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_without_a_generator_the_global_one_is_drawn_from() -> None:
    x = pictures(1, 1, 8, 8)
    torch.manual_seed(5)
    first = gaussian_noise(x, 1)
    torch.manual_seed(5)
    assert torch.equal(first, gaussian_noise(x, 1))
    assert not torch.equal(first, gaussian_noise(x, 1))


@pytest.mark.parametrize(
    ("x", "severity", "said"),
    [
        (torch.rand(2, 3, 32, 32), 6, "severity"),
        (torch.rand(2, 3, 32, 32), 0, "severity"),
        (torch.rand(2, 12), 1, r"\(2, 12\)"),
        (torch.rand(2, 2, 32, 32), 1, "1 or 3"),
        (torch.rand(2, 3, 4, 32), 1, "8 x 8"),
        (torch.rand(2, 3, 32, 32) * 255, 1, "divide by 255"),
        (torch.full((1, 1, 8, 8), float("nan")), 1, "divide by 255"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 1, "uint8"),
    ],
)
@pytest.mark.parametrize("name", ["gaussian_noise", "snow", "jpeg_compression"])
def test_what_is_no_image_is_refused(name: str, x: Tensor, severity: int, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        CORRUPTIONS[name](x, severity, seeded())
