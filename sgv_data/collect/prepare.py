"""A picture on its way to the teacher: read, checked, brought to the size that is sent. Runs in worker processes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image

from sgv_data.api.keys import SentImage
from sgv_data.errors import InputError
from sgv_data.images.decode import BadPicture, decode
from sgv_data.images.encode import encode
from sgv_data.manifest import Manifest, TeacherImage
from sgv_data.records import FailureClass, ImageRow
from sgv_data.sources.reader import PictureReader

_RECIPE_VERSION = 1
_SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PLAIN_MODES = ("RGB", "L")
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture ready to be sent."""

    image: SentImage
    data: bytes


@dataclass(frozen=True, slots=True)
class Unusable:
    """A picture that cannot be sent, and why."""

    failure: FailureClass
    detail: str


def recipe_name(image: TeacherImage) -> str:
    """All that decides which bytes a picture becomes. Raise the version when this module makes other bytes."""
    return f"side{image.max_side_px}-jpeg{image.jpeg_quality}-v{_RECIPE_VERSION}"


def prepare_batch(manifest_json: str, rows: Sequence[ImageRow]) -> list[Prepared | Unusable]:
    """One result per row, in order. Takes the manifest as JSON so that a worker process parses it once."""
    manifest, reader = _opened(manifest_json)
    return [prepare(row, reader, manifest) for row in rows]


def prepare(row: ImageRow, reader: PictureReader, manifest: Manifest) -> Prepared | Unusable:
    """The bytes to send for one indexed picture."""
    try:
        data = reader.read_row(row)
    except InputError as exc:
        return Unusable(FailureClass.IMAGE_CHANGED, str(exc))
    try:
        return fit(data, manifest)
    except BadPicture as exc:
        return Unusable(FailureClass.BAD_IMAGE, str(exc))


def fit(data: bytes, manifest: Manifest) -> Prepared:
    """The picture's own bytes if a model can take them as they are, else an upright RGB JPEG of the right size.

    Raises:
        BadPicture: if it must be decoded and cannot be.
    """
    spec = manifest.teacher.image
    header = _if_plain(data, spec.max_side_px)
    if header is not None:
        media_type, width_px, height_px = header
        return Prepared(_described(data, media_type, width_px, height_px), data)
    _, image = decode(data, manifest.pictures, spec.max_side_px)
    sent = encode(image, "jpeg", spec.jpeg_quality)
    return Prepared(_described(sent, "image/jpeg", image.width, image.height), sent)


def _described(data: bytes, media_type: str, width_px: int, height_px: int) -> SentImage:
    return SentImage(hashlib.sha256(data).hexdigest(), media_type, width_px, height_px, len(data))


def _if_plain(data: bytes, max_side_px: int) -> tuple[str, int, int] | None:
    """Media type and size of a file that may be sent untouched, read from its header; None for any other.

    That its pixels can be decoded was seen when it was indexed, and the bytes are the same.
    """
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_SENT_AS_THEY_ARE)) as image:
            plain = (
                image.mode in _PLAIN_MODES
                and "transparency" not in image.info
                and max(image.size) <= max_side_px
                and not getattr(image, "is_animated", False)
                and image.getexif().get(_ORIENTATION, 1) == 1
            )
            return (_SENT_AS_THEY_ARE[str(image.format)], image.width, image.height) if plain else None
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, Image.DecompressionBombError):
        return None


@cache
def _opened(manifest_json: str) -> tuple[Manifest, PictureReader]:
    manifest = Manifest.model_validate_json(manifest_json)
    return manifest, PictureReader(manifest)
