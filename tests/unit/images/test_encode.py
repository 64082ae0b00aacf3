from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sgv_data.images.encode import encode


def gradient() -> Image.Image:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    channels = [np.tile(ramp, (48, 1)), np.tile(ramp[::-1], (48, 1)), np.full((48, 64), 90, np.uint8)]
    return Image.fromarray(np.stack(channels, axis=-1))


@pytest.mark.parametrize(("kind", "pillow"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_the_file_opens_as_what_was_asked_for(kind: str, pillow: str) -> None:
    with Image.open(io.BytesIO(encode(gradient(), kind))) as image:  # type: ignore[arg-type]
        assert (image.format, image.size, image.mode) == (pillow, (64, 48), "RGB")
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(gradient()).astype(int))
    assert difference.mean() < 4


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_same_pixels_same_bytes_whatever_came_with_them(kind: str) -> None:
    image, other = gradient(), gradient()
    other.info.update(icc_profile=b"profile", exif=b"Exif\0\0", dpi=(300, 300), comment=b"hello")
    assert encode(image, kind) == encode(other, kind)  # type: ignore[arg-type]


def test_lower_quality_is_smaller() -> None:
    assert len(encode(gradient(), "jpeg", quality=20)) < len(encode(gradient(), "jpeg", quality=95))


def test_png_is_lossless() -> None:
    with Image.open(io.BytesIO(encode(gradient(), "png"))) as image:
        assert image.tobytes() == gradient().tobytes()
