"""From a row of the index to the picture the model's own processor is given. Used alike for training and expanding.

Imports no torch: worker processes use it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgv_data.images.decode import decode
from sgv_data.manifest import Manifest, Pictures
from sgv_data.records import ImageRow
from sgv_data.sources.reader import PictureReader

if TYPE_CHECKING:
    from PIL.Image import Image

_ROOM = 3
"""A picture is shrunk before the processor only to this many times what the model can see, so that the processor's own
filter still decides what the model gets. Shrinking while decoding makes everything after it cheaper."""

_PIXEL_COUNT = 8_192
"""Sizes above this are areas: Qwen-like processors bound the number of pixels, not a side."""

Pixels = npt.NDArray[np.uint8]
"""Height, width, 3 channels (RGB)."""


def visible_side_px(image_processor: Any) -> int | None:
    """The longest side a model can make use of, by its image processor; None if that says nothing."""
    found: list[int] = []
    for name in ("size", "crop_size", "max_image_size"):
        size: Any = getattr(image_processor, name, None) or {}
        found += [int(value) for value in dict(size).values() if isinstance(value, int | float)]
    pinpoints = getattr(image_processor, "image_grid_pinpoints", None) or ()
    found += [int(side) for pinpoint in pinpoints for side in pinpoint]
    if not found:
        return None
    largest = max(found)
    return math.isqrt(largest) if largest > _PIXEL_COUNT else largest


def visible_side_of(model: Path) -> int | None:
    """`visible_side_px` of the processor in a model folder, without loading it."""
    for name, part in (("processor_config.json", "image_processor"), ("preprocessor_config.json", None)):
        if (model / name).is_file():
            config = json.loads((model / name).read_text(encoding="utf-8"))
            found: Any = config.get(part) if part else config
            if isinstance(found, dict):
                return visible_side_px(SimpleNamespace(**found))
    return None


@dataclass(frozen=True, slots=True)
class PictureOpener:
    """Opens pictures for a captioner; cheap to send to a worker process. `side_px` is `visible_side_px`."""

    reader: PictureReader
    limits: Pictures
    side_px: int | None

    def bound_px(self, row: ImageRow) -> int | None:
        """The longer side to which this picture is scaled down while it is decoded; None: not at all."""
        if self.side_px is None:
            return None
        shorter, longer = sorted((row.width_px, row.height_px))
        wanted = _ROOM * self.side_px
        return math.ceil(wanted * longer / max(shorter, 1)) if shorter > wanted else None

    def open(self, row: ImageRow) -> Image:
        """The picture as RGB, upright.

        Raises:
            BadPicture: it cannot be decoded.
            PictureChanged: its bytes are not those that were indexed.
            InputError: its source is gone.
        """
        return self.decode(row, self.read(row))

    def read(self, row: ImageRow) -> bytes:
        """The picture's bytes.

        Raises:
            PictureChanged: they are not those that were indexed.
            InputError: its source is gone.
        """
        return self.reader.read_row(row)

    def decode(self, row: ImageRow, data: bytes) -> Image:
        """The picture in its bytes, as RGB, upright.

        Raises:
            BadPicture: it cannot be decoded.
        """
        return decode(data, self.limits, self.bound_px(row), draft_room=1)[1]


def picture_opener(manifest: Manifest, image_processor: Any) -> PictureOpener:
    """The opener for a run's pictures and the model with this image processor."""
    return PictureOpener(PictureReader(manifest), manifest.pictures, visible_side_px(image_processor))


def pixels_sha256(pixels: Pixels) -> str:
    """sha256 of a picture's size and RGB values: what the model's processor was given."""
    height, width, _ = pixels.shape
    return hashlib.sha256(f"{width}x{height}:".encode() + pixels.tobytes()).hexdigest()
