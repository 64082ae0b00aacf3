"""Any of Pillow's pixel modes as plain 8-bit RGB."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageCms

WHITE = (255, 255, 255)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_rgb(image: Image.Image, max_side_px: int | None = None) -> Image.Image:
    """A loaded picture as RGB on white, scaled down (never up) to `max_side_px` where that is given."""
    plain = _scaled(_plain(image), max_side_px)
    if plain.mode == "RGBA":
        flat = Image.new("RGB", plain.size, WHITE)
        flat.paste(plain, mask=plain.getchannel("A"))
        return flat
    return plain if plain.mode == "RGB" else plain.convert("RGB")


def oriented(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as EXIF `orientation` (1 to 8) says it is to be looked at."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image) -> Image.Image:
    """The picture in mode L, RGB or RGBA: those in which scaling and pasting are right."""
    if image.mode.startswith(("I", "F")):
        return _from_deep(image)
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data or image.mode in ("PA", "LA", "RGBa"):
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """One channel of 16 bits, 32 bits or floats as 8 bits.

    Sixteen bits fill their range. Of the others the range is not recorded: up to 1 (floats), 255 or 65535 is taken as
    meant where all values fit, else they are stretched from the least to the largest.
    """
    values_HW = np.nan_to_num(np.asarray(image).astype(np.float64))
    low, high = float(values_HW.min()), float(values_HW.max())
    tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0) if image.mode == "I" else (65535.0,)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        values_HW, top = values_HW - low, (high - low) or 1.0
    return Image.fromarray(np.rint(values_HW * (255.0 / top)).clip(0, 255).astype(np.uint8))


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # only with inPlace does it return nothing
    return converted


def _scaled(image: Image.Image, max_side_px: int | None) -> Image.Image:
    longer_px = max(image.size)
    if max_side_px is None or longer_px <= max_side_px:
        return image
    share = max_side_px / longer_px
    size_px = (max(1, math.floor(image.width * share + 0.5)), max(1, math.floor(image.height * share + 0.5)))
    return image.resize(size_px, Image.Resampling.LANCZOS, reducing_gap=3.0)
