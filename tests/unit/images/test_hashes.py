from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image, ImageDraw

from sgv_data.images.hashes import THUMB_BYTES, is_blank, phash_hex, thumb


def picture() -> Image.Image:
    image = Image.new("RGB", (160, 120), (230, 230, 230))
    ImageDraw.Draw(image).ellipse((20, 30, 90, 100), fill=(200, 30, 30))
    ImageDraw.Draw(image).rectangle((100, 10, 150, 60), fill=(20, 40, 160))
    return image


def bits_apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_the_hash_is_that_of_imagehash_in_16_hex_digits() -> None:
    assert phash_hex(picture()) == str(imagehash.phash(picture()))
    assert len(phash_hex(picture())) == 16


def test_a_smaller_copy_has_nearly_the_same_hash() -> None:
    assert bits_apart(phash_hex(picture()), phash_hex(picture().resize((80, 60)))) <= 4


def test_another_picture_has_another_hash() -> None:
    assert bits_apart(phash_hex(picture()), phash_hex(picture().rotate(90, expand=True))) > 10


def test_the_thumb_holds_mean_colours_row_by_row() -> None:
    image = Image.new("RGB", (80, 80), (10, 20, 30))
    image.paste((250, 0, 0), (70, 0, 80, 10))
    data = thumb(image)
    assert len(data) == THUMB_BYTES
    assert tuple(data[:3]) == (10, 20, 30)
    assert tuple(data[21:24]) == (250, 0, 0)


def test_flat_and_nearly_flat_pictures_are_blank() -> None:
    assert is_blank(Image.new("RGB", (50, 50), (9, 9, 200)))
    faint = np.random.default_rng(0).integers(120, 126, (60, 60, 3), dtype=np.uint8)
    assert is_blank(Image.fromarray(faint))
    assert not is_blank(picture())
