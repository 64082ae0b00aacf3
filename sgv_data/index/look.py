"""Looking at one input: read it, open it, hash it. Runs in worker processes; what goes wrong becomes a rejection."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from sgv_data.images.decode import BadPicture, decode
from sgv_data.images.hashes import is_blank, phash_hex, thumb
from sgv_data.manifest import Pictures
from sgv_data.records import ImageReject, ImageRow
from sgv_data.sources.reader import PictureReader
from sgv_data.sources.source import Entry

_LOOK_SIDE_PX = 256  # enough for a hash of 32 x 32 and lets JPEGs of any size be read quickly
_MAX_DETAIL_CHARS = 200


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """An entry with what its source adds to every row."""

    source: str
    license: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Found:
    """A row before duplicates and quotas are known. `thumb` is empty where looks cannot tell pictures apart."""

    row: ImageRow
    thumb: bytes


def look_at(inputs: list[SourceEntry], reader: PictureReader, limits: Pictures) -> list[Found]:
    """One `Found` per input, in the same order."""
    return [_look(each, reader, limits) for each in inputs]


def _look(each: SourceEntry, reader: PictureReader, limits: Pictures) -> Found:
    row = _blank_row(each)
    try:
        data = reader.read(each.source, each.entry.location)
    except OSError as exc:
        return _rejected(row, ImageReject.UNREADABLE_FILE, exc.strerror or str(exc))
    row = replace(row, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    try:
        facts, image = decode(data, limits, _LOOK_SIDE_PX)
        row = replace(row, format=facts.format, width_px=facts.width_px, height_px=facts.height_px)
        return Found(replace(row, phash=phash_hex(image)), b"" if is_blank(image) else thumb(image))
    except BadPicture as exc:
        return _rejected(row, exc.reject, exc.detail)
    except Exception as exc:  # noqa: BLE001  one odd file must not end the run
        return _rejected(row, ImageReject.UNREADABLE_FILE, f"{type(exc).__name__}: {exc}")


def _blank_row(each: SourceEntry) -> ImageRow:
    return ImageRow(
        image_id=f"{each.source}/{each.entry.key}",
        source=each.source,
        key=each.entry.key,
        location=each.entry.location,
        license=each.license,
        text=each.entry.text,
        num_bytes=0,
        sha256="",
        format="",
        width_px=0,
        height_px=0,
        phash="",
        reject=None,
        duplicate_of=None,
        detail=None,
        for_teacher=False,
        for_expand=False,
    )


def _rejected(row: ImageRow, reject: ImageReject, detail: str) -> Found:
    return Found(replace(row, reject=reject, detail=detail[:_MAX_DETAIL_CHARS]), b"")
