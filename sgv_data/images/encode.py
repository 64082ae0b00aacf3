"""Pixels to bytes, the same bytes for the same pixels."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

EncodedFormat = Literal["jpeg", "png", "webp"]


def encode(image: Image.Image, format: EncodedFormat, quality: int = 90) -> bytes:  # noqa: A002
    """The picture as a file without metadata. `quality` (1 to 100) counts for jpeg and webp; png is lossless."""
    plain = image if image.mode in ("RGB", "L") else image.convert("RGB")
    bare = Image.frombytes(plain.mode, plain.size, plain.tobytes()) if plain.info else plain
    buffer = io.BytesIO()
    if format == "png":
        bare.save(buffer, format="PNG", compress_level=6)
    elif format == "jpeg":
        bare.save(buffer, format="JPEG", quality=quality, subsampling="4:2:0", optimize=True)
    else:
        bare.save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()
