from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sgv_data.images.pixels import oriented, to_rgb


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La"])
def test_every_kind_of_alpha_is_mixed_with_white(mode: str) -> None:
    image = Image.new("RGBA", (20, 20), (100, 100, 100, 128))
    for step in {"La": ("LA", "La")}.get(mode, (mode,)):
        image = image.convert(step)
    pixel = to_rgb(image).getpixel((3, 3))
    assert all(abs(value - 177) <= 3 for value in pixel)


def test_a_palette_with_alpha_is_mixed_with_white() -> None:
    image = Image.new("RGB", (20, 20), (100, 100, 100)).convert("P")
    image.putalpha(128)
    assert image.mode == "PA"
    assert all(abs(value - 177) <= 3 for value in to_rgb(image).getpixel((3, 3)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_every_mode_keeps_black_and_white(mode: str) -> None:
    image = Image.new("RGB", (20, 20), (255, 255, 255))
    image.paste((0, 0, 0), (10, 0, 20, 20))
    result = to_rgb(image.convert(mode))
    assert result.mode == "RGB"
    assert result.getpixel((2, 2)) == (255, 255, 255)
    assert result.getpixel((18, 2)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_either_byte_order_of_16_bits(mode: str) -> None:
    ramp_HW = np.tile(np.linspace(0, 65535, 20), (20, 1)).astype("<u2" if mode == "I;16" else ">u2")
    image = Image.frombytes(mode, (20, 20), ramp_HW.tobytes())
    assert [to_rgb(image).getpixel((x, 0))[0] for x in (0, 10, 19)] == [0, 134, 255]


def test_floats_that_are_no_numbers_do_not_spread() -> None:
    values_HW = np.full((20, 20), 0.5, np.float32)
    values_HW[0, 0] = np.nan
    assert to_rgb(Image.fromarray(values_HW)).getpixel((5, 5)) == (128, 128, 128)


def test_transparent_pixels_do_not_bleed_when_scaled() -> None:
    image = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 40, 80))
    small = to_rgb(image, max_side_px=10)
    assert small.getpixel((1, 5)) == (255, 0, 0)
    assert small.getpixel((8, 5)) == (255, 255, 255)


def test_a_long_thin_picture_keeps_at_least_one_pixel() -> None:
    assert to_rgb(Image.new("RGB", (2000, 3)), max_side_px=100).size == (100, 1)


def test_orientation_1_changes_nothing() -> None:
    image = Image.new("RGB", (4, 2))
    assert oriented(image, 1) is image
    assert oriented(image, 6).size == (2, 4)
