"""Fingerprints of what a picture looks like, for finding copies."""

from __future__ import annotations

import numpy as np
from PIL import Image

THUMB_SIDE = 8
THUMB_BYTES = THUMB_SIDE * THUMB_SIDE * 3

_HASHED_SIDE = 32  # what the perceptual hash is computed from
_MIN_CONTRAST = 4.0


def phash_hex(image: Image.Image) -> str:
    """The 64-bit perceptual hash (signs of low frequencies against their median) as 16 hex digits."""
    import imagehash

    return str(imagehash.phash(image, hash_size=8, highfreq_factor=4))


def thumb(image: Image.Image) -> bytes:
    """Mean colours of an 8 x 8 grid, row by row, red green blue: `THUMB_BYTES` bytes."""
    return bytes(image.convert("RGB").resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX).tobytes())


def is_blank(image: Image.Image) -> bool:
    """True if at the hash's resolution nearly nothing is there, so that the hash is only noise.

    The limit is on the standard deviation of brightness, in levels of 256.
    """
    small = image.convert("L").resize((_HASHED_SIDE, _HASHED_SIDE), Image.Resampling.BOX)
    return float(np.asarray(small, dtype=np.float64).std()) < _MIN_CONTRAST
