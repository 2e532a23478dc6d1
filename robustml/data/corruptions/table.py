"""The fifteen corruptions by name, in the order of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from robustml.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from robustml.data.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate
from robustml.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from robustml.data.corruptions.severity import Corruption
from robustml.data.corruptions.weather import brightness, fog, frost, snow

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": gaussian_noise,
        "shot_noise": shot_noise,
        "impulse_noise": impulse_noise,
        "defocus_blur": defocus_blur,
        "glass_blur": glass_blur,
        "motion_blur": motion_blur,
        "zoom_blur": zoom_blur,
        "snow": snow,
        "frost": frost,
        "fog": fog,
        "brightness": brightness,
        "contrast": contrast,
        "elastic_transform": elastic_transform,
        "pixelate": pixelate,
        "jpeg_compression": jpeg_compression,
    }
)
