"""Opening pictures that nobody has vetted.

`decode` turns bytes into plain RGB pixels or raises `BadPicture` with the reason; nothing else comes out of it,
whatever the bytes are. It reads the size from the header first and decodes only pictures within the limits.

Importing this module changes three process-wide things, once: Pillow's own pixel limit is lifted far above any sensible
`pictures.max_pixels` (it would otherwise refuse or warn below ours), and its warnings and log lines about odd files
are silenced, since every such file is reported by its row.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import cache

from PIL import Image

from sgv_data.images.formats import HEAD_BYTES, NAMES, sniff
from sgv_data.images.pixels import oriented, to_rgb
from sgv_data.manifest import Pictures
from sgv_data.records import ImageReject

Image.MAX_IMAGE_PIXELS = 1 << 30
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# What Pillow's readers have been seen to raise on damaged files.
_FOREIGN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError,
    EOFError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError, MemoryError,
)  # fmt: skip
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323


class BadPicture(Exception):
    """Bytes that are no usable picture: `reject` says why, `detail` in a few words what was found."""

    def __init__(self, reject: ImageReject, detail: str) -> None:
        super().__init__(reject, detail)
        self.reject = reject
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reject}: {self.detail}"


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a picture's file is: `format` as in `formats.NAMES`, size in pixels as it is meant to be looked at."""

    format: str
    width_px: int
    height_px: int


def decode(
    data: bytes, limits: Pictures, max_side_px: int | None = None, draft_room: float = 2.0
) -> tuple[PictureFacts, Image.Image]:
    """The facts and the RGB pixels of a picture file: turned upright, transparency on white, first frame only.

    With `max_side_px` a larger picture comes back scaled down to that longer side; the facts stay those of the file.
    A JPEG is then decoded at a half, quarter or eighth of its size where that still is `draft_room` times the side.

    Raises:
        BadPicture: if the bytes are no picture, a damaged one, or one outside `limits`.
    """
    if not data:
        raise BadPicture(ImageReject.EMPTY_FILE, "0 bytes")
    try:
        with _open(data) as image:
            _check_size(image, limits)
            return _load(image, max_side_px, draft_room)
    except _FOREIGN as exc:
        raise _named(exc) from exc


@cache
def _known_formats() -> tuple[str, ...]:
    """Those of our formats that this Pillow can read."""
    Image.init()
    return tuple(name for name in NAMES if name in Image.OPEN)


def _open(data: bytes) -> Image.Image:
    """The picture with its header read."""
    announced = sniff(data[:HEAD_BYTES])
    try:
        return Image.open(io.BytesIO(data), formats=_known_formats())
    except (Image.DecompressionBombError, MemoryError):
        raise
    except _FOREIGN as exc:
        if announced is None:
            raise BadPicture(ImageReject.NOT_AN_IMAGE, "no known picture format") from exc
        detail = f"the header of this {announced} is cut off, damaged or of a rare kind"
        raise BadPicture(ImageReject.TRUNCATED_IMAGE, detail) from exc


def _check_size(image: Image.Image, limits: Pictures) -> None:
    width_px, height_px = image.size
    num_pixels = max(width_px * height_px, _tile_pixels(image))
    if num_pixels > limits.max_pixels:
        raise BadPicture(
            ImageReject.TOO_MANY_PIXELS, f"{width_px} x {height_px} px, more than {limits.max_pixels} pixels"
        )
    shorter, longer = sorted(image.size)
    if shorter < limits.min_side_px:
        raise BadPicture(
            ImageReject.TOO_SMALL, f"{width_px} x {height_px} px, a side is under {limits.min_side_px} px"
        )
    if longer > limits.max_aspect * shorter:
        raise BadPicture(
            ImageReject.ABSURD_ASPECT, f"{width_px} x {height_px} px, sides differ more than {limits.max_aspect:g} to 1"
        )


def _tile_pixels(image: Image.Image) -> int:
    """Size of one tile of a TIFF, which its header may claim to be far larger than the picture."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 0
    return int(tags.get(_TIFF_TILE_WIDTH, 0)) * int(tags.get(_TIFF_TILE_LENGTH, 0))


def _load(image: Image.Image, max_side_px: int | None, draft_room: float) -> tuple[PictureFacts, Image.Image]:
    size_px = image.size
    drafted = max_side_px is not None and _draft(image, max_side_px, draft_room)
    image.load()
    if not drafted:
        size_px = image.size  # TIFF turns itself upright while loading
    orientation = _orientation(image)
    width_px, height_px = reversed(size_px) if orientation >= 5 else size_px
    pixels = oriented(to_rgb(image, max_side_px), orientation)
    return PictureFacts(NAMES[str(image.format)], width_px, height_px), pixels


def _draft(image: Image.Image, max_side_px: int, room: float) -> bool:
    """Asks the JPEG reader for a smaller picture of at least `room` times the side wanted; True if it obliges."""
    if image.format not in ("JPEG", "MPO") or max(image.size) <= max_side_px:
        return False
    share = room * max_side_px / max(image.size)
    before = image.size
    image.draft(None, (max(1, round(image.width * share)), max(1, round(image.height * share))))
    return bool(image.size != before)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 also where there is none or the EXIF data is damaged."""
    try:
        value = image.getexif().get(0x0112, 1)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    except _FOREIGN:
        return 1


def _named(exc: BaseException) -> BadPicture:
    """The reason a foreign error during decoding stands for."""
    if isinstance(exc, MemoryError | Image.DecompressionBombError):
        return BadPicture(ImageReject.TOO_MANY_PIXELS, "its size does not fit into memory")
    # Addresses of objects differ from run to run; rows must not.
    detail = re.sub(r"<[^>]*>| at 0x[0-9a-f]+", "", str(exc)).strip()[:200]
    return BadPicture(ImageReject.TRUNCATED_IMAGE, detail or type(exc).__name__)
