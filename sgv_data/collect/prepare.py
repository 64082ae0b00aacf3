"""A picture on its way to the teacher: read, checked, brought to the size that is sent. Runs in worker processes."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image

from sgv_data.api.keys import SentImage
from sgv_data.api.tokens import rejected_patches, sent_size, sizing_name
from sgv_data.errors import InputError
from sgv_data.images.decode import BadPicture, decode
from sgv_data.images.encode import encode
from sgv_data.manifest import Manifest, Teacher
from sgv_data.records import FailureClass, ImageReject, ImageRow
from sgv_data.sources.reader import PictureReader
from sgv_data.sources.source import FilePart

_RECIPE_VERSION = 2
_SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PLAIN_MODES = ("RGB", "L")
_ORIENTATION = 0x0112

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture ready to be sent."""

    image: SentImage
    data: bytes


@dataclass(frozen=True, slots=True)
class Untouched:
    """A picture that is sent as it lies on disk: its bytes need not travel between processes.

    `stamp` is what the file's inode, size and time were when its bytes were hashed.
    """

    image: SentImage
    part: FilePart
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Unusable:
    """A picture that cannot be sent, and why."""

    failure: FailureClass
    detail: str


def recipe_name(teacher: Teacher) -> str:
    """All that decides which bytes a picture becomes. Raise the version when this module makes other bytes."""
    return f"{sizing_name(teacher)}-jpeg{teacher.image.jpeg_quality}-v{_RECIPE_VERSION}"


def get_ready(manifest_json: str) -> None:
    """Reads the manifest, so that a worker process has all it needs when the first pictures come."""
    _opened(manifest_json)


def prepare_batch(manifest_json: str, rows: Sequence[ImageRow]) -> list[Prepared | Untouched | Unusable]:
    """One result per row, in order. Takes the manifest as JSON so that a worker process parses it once."""
    manifest, reader = _opened(manifest_json)
    return [_without_bytes(row, reader, manifest) for row in rows]


def prepare(row: ImageRow, reader: PictureReader, manifest: Manifest) -> Prepared | Unusable:
    """The bytes to send for one indexed picture."""
    try:
        data = reader.read_row(row)
    except InputError as exc:
        return Unusable(FailureClass.IMAGE_CHANGED, str(exc))
    try:
        return fit(data, manifest, row.sha256)
    except BadPicture as exc:
        return Unusable(FailureClass.BAD_IMAGE, str(exc))


def filled(picture: Prepared | Untouched | Unusable) -> Prepared | Unusable:
    """The same with its bytes, read from where they were hashed a moment ago."""
    if not isinstance(picture, Untouched):
        return picture
    try:
        data, stamp = picture.part.read(), _stamp(picture.part)
    except OSError as exc:
        return Unusable(FailureClass.IMAGE_CHANGED, f"cannot be read any more ({exc.strerror or exc})")
    if stamp != picture.stamp or len(data) != picture.image.num_bytes:
        return Unusable(FailureClass.IMAGE_CHANGED, "was changed while it was being prepared")
    return Prepared(picture.image, data)


def _without_bytes(row: ImageRow, reader: PictureReader, manifest: Manifest) -> Prepared | Untouched | Unusable:
    part, stamp = None, (0, 0, 0)
    try:
        part = reader.part(row.source, row.location)
        if part is not None:
            stamp = _stamp(part)
    except (OSError, InputError):
        pass  # reading it says what is wrong
    picture = prepare(row, reader, manifest)
    if part is None or isinstance(picture, Unusable) or picture.image.sha256 != row.sha256:
        return picture
    return Untouched(picture.image, part, stamp)


def _stamp(part: FilePart) -> Stamp:
    facts = os.stat(part.path)
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def fit(data: bytes, manifest: Manifest, sha256: str | None = None) -> Prepared:
    """The picture's own bytes if a model can take them as they are, else an upright RGB JPEG of the size that is sent.

    `sha256` is that of `data` where it is known.

    Raises:
        BadPicture: if it must be decoded and cannot be, or if the provider would turn it down for its size.
    """
    teacher = manifest.teacher
    media_type, size_px = _header(data)
    target_px = sent_size(teacher, *size_px)
    _check_patches(teacher, target_px)
    if media_type is not None and target_px == size_px:
        return Prepared(_described(sha256 or _sha256(data), media_type, size_px, data), data)
    facts, image = decode(data, manifest.pictures, max(target_px))
    target_px = sent_size(teacher, facts.width_px, facts.height_px)
    if image.size != target_px:  # by a pixel, where the two ways of rounding differ
        image = image.resize(target_px, Image.Resampling.LANCZOS)
    sent = encode(image, "jpeg", teacher.image.jpeg_quality)
    return Prepared(_described(_sha256(sent), "image/jpeg", target_px, sent), sent)


def _described(sha256: str, media_type: str, size_px: tuple[int, int], data: bytes) -> SentImage:
    return SentImage(sha256, media_type, size_px[0], size_px[1], len(data))


def _check_patches(teacher: Teacher, size_px: tuple[int, int]) -> None:
    patches = rejected_patches(teacher.model, *size_px, teacher.image.detail)
    if patches is not None:
        raise BadPicture(
            ImageReject.TOO_MANY_PIXELS,
            f"{size_px[0]} x {size_px[1]} px are {patches:,} patches, more than {teacher.model} takes; use "
            "teacher.image.detail: high, or a number for teacher.image.max_side_px",
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _header(data: bytes) -> tuple[str | None, tuple[int, int]]:
    """Media type of a file that may be sent untouched, None for any other, and the size in its header.

    That its pixels can be decoded was seen when it was indexed, and the bytes are the same.

    Raises:
        BadPicture: if there is no header that can be read.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            plain = (
                image.format in _SENT_AS_THEY_ARE
                and image.mode in _PLAIN_MODES
                and "transparency" not in image.info
                and not getattr(image, "is_animated", False)
                and _is_upright(image)
            )
            return (_SENT_AS_THEY_ARE[str(image.format)] if plain else None), image.size
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, Image.DecompressionBombError) as exc:
        raise BadPicture(ImageReject.NOT_AN_IMAGE, str(exc)[:200]) from exc


def _is_upright(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(_ORIENTATION, 1) == 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return False  # decoding knows what to make of damaged EXIF data


@cache
def _opened(manifest_json: str) -> tuple[Manifest, PictureReader]:
    manifest = Manifest.model_validate_json(manifest_json)
    return manifest, PictureReader(manifest)
