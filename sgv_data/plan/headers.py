"""The size of every picture of a source, read from headers only, in worker processes.

A picture costs one open, one read of a few kilobytes and no decoding. Of a tar only member headers and the first bytes
of picture members are read.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgv_data.api.text_tokens import text_tokens
from sgv_data.errors import InputError
from sgv_data.images.header import HeaderGoesOn, header_size
from sgv_data.manifest import AnySource
from sgv_data.offer import clean, offer_block
from sgv_data.processes import in_order
from sgv_data.quotas import Role, draw
from sgv_data.sources.open import open_source
from sgv_data.sources.source import Entry, FilePart, PictureSource
from sgv_data.sources.webdataset import WebDataset

_CHUNK = 256
_FEW = 1_024
"""Up to so many pictures, starting processes would take longer than the work."""
_HEAD_BYTES = 4_096
_MOST_HEAD_BYTES = 1 << 20

Ints = NDArray[np.int64]
Draws = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Looked:
    """One value per picture. Width and height 0: the header cannot be read. `text_tokens`: of words to be offered."""

    width_px: Ints
    height_px: Ints
    num_bytes: Ints
    text_tokens: Ints
    teacher_draw: Draws
    expand_draw: Draws

    def __len__(self) -> int:
        return len(self.width_px)


@dataclass(frozen=True, slots=True)
class Looking:
    """How a source is looked at; travels to the worker processes."""

    spec: AnySource
    seed: int

    def entries(self, tar: str | None, entries: Sequence[Entry] = ()) -> Looked:
        """What a tar holds, or what some entries are."""
        source = open_source(self.spec, self.seed)
        if tar is not None:
            assert isinstance(source, WebDataset)
            entries = list(source.samples(tar))
        return joined([_row(entry, self, source) for entry in entries])


def look(spec: AnySource, seed: int, num_workers: int, advance: Callable[[int], None]) -> Looked:
    """Looks at every picture of a source; `advance` is told how many more are done.

    Raises:
        InputError: if the source is not there, holds no pictures or is damaged.
    """
    source, looking = open_source(spec, seed), Looking(spec, seed)
    if isinstance(source, WebDataset):
        tars = source.tars()
        parts = in_order(looking.entries, tars, min(num_workers, len(tars)))
    else:
        stream = source.entries()
        first = list(islice(stream, _FEW + 1))
        chunks = _chunked(chain(first, stream))
        parts = in_order(partial(looking.entries, None), chunks, 1 if len(first) <= _FEW else num_workers)
    found = []
    for part in parts:
        found.append(part)
        advance(len(part))
    looked = stacked(found)
    if not len(looked):
        raise InputError(f"{spec.name}: no pictures")
    return looked


def sampled(spec: AnySource, seed: int, sample: int, advance: Callable[[int], None]) -> tuple[Looked, int]:
    """Looks at only `sample` pictures, chosen by hash, and says how many there are; of tars about how many.

    Raises:
        InputError: if the source is not there, holds no pictures or is damaged.
    """
    source, looking = open_source(spec, seed), Looking(spec, seed)
    if isinstance(source, WebDataset):
        entries, num_found = _of_some_tars(source, seed, sample)
    else:
        entries = list(source.entries())
        num_found = len(entries)
    entries.sort(key=lambda entry: _lot(seed, entry.key))
    looked = looking.entries(None, entries[:sample])
    advance(len(looked))
    return looked, num_found


def _of_some_tars(source: WebDataset, seed: int, sample: int) -> tuple[list[Entry], int]:
    """The entries of as many tars, chosen by hash, as hold enough; how many all tars hold, by their size."""
    tars = sorted(source.tars(), key=lambda tar: _lot(seed, tar))
    entries: list[Entry] = []
    opened_bytes = 0
    for tar in tars:
        entries += source.samples(tar)
        opened_bytes += source.num_bytes(tar)
        if len(entries) >= sample:
            break
    return entries, round(len(entries) * sum(map(source.num_bytes, tars)) / max(1, opened_bytes))


def _lot(seed: int, name: str) -> int:
    return draw(seed, Role.TEACHER, f"sample {name}")


Row = tuple[int, int, int, int, int, int]


def joined(rows: list[Row]) -> Looked:
    """Rows as columns."""
    width_px, height_px, num_bytes, text, teacher, expand = zip(*rows, strict=True) if rows else ((),) * 6
    return Looked(
        np.array(width_px, np.int64), np.array(height_px, np.int64), np.array(num_bytes, np.int64),
        np.array(text, np.int64), np.array(teacher, np.uint64), np.array(expand, np.uint64),
    )  # fmt: skip


def stacked(parts: Sequence[Looked]) -> Looked:
    """Several as one."""
    if not parts:
        return joined([])
    return Looked(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Looked)))


def _chunked(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    stream = iter(entries)
    while chunk := list(islice(stream, _CHUNK)):
        yield chunk


def _row(entry: Entry, looking: Looking, source: PictureSource) -> Row:
    spec = looking.spec
    width_px, height_px, num_bytes = _measured(entry, source)
    words = clean(entry.text) if spec.offer_text else None
    image_id = f"{spec.name}/{entry.key}"
    return (
        width_px, height_px, num_bytes, text_tokens(offer_block(words)) if words else 0,
        draw(looking.seed, Role.TEACHER, image_id), draw(looking.seed, Role.EXPAND, image_id),
    )  # fmt: skip


def _measured(entry: Entry, source: PictureSource) -> tuple[int, int, int]:
    """Width, height and size in bytes; width and height 0 where the header cannot be read."""
    part = source.part(entry.location)
    if part is None:
        return (*source.size_px, 0) if source.size_px else _in_memory(source, entry)
    try:
        file = os.open(part.path, os.O_RDONLY)
    except OSError:
        return 0, 0, 0
    try:
        num_bytes = os.fstat(file).st_size if part.num_bytes is None else part.num_bytes
        width_px, height_px = _size(file, part, num_bytes) or (0, 0)
        return width_px, height_px, num_bytes
    except OSError:
        return 0, 0, 0
    finally:
        os.close(file)


def _in_memory(source: PictureSource, entry: Entry) -> tuple[int, int, int]:
    """The same of a picture that lies in no file."""
    try:
        data = source.read(entry.location)
    except OSError:
        return 0, 0, 0
    width_px, height_px = _by_pillow(data) or (0, 0)
    return width_px, height_px, len(data)


def _size(file: int, part: FilePart, num_bytes: int) -> tuple[int, int] | None:
    wanted = _HEAD_BYTES
    while True:
        head = os.pread(file, min(wanted, num_bytes), part.offset_bytes)
        try:
            return header_size(head) or _by_pillow(os.pread(file, num_bytes, part.offset_bytes))
        except HeaderGoesOn as more:
            if wanted >= num_bytes or more.num_bytes > num_bytes:
                return None
            if wanted > _MOST_HEAD_BYTES:
                return _by_pillow(os.pread(file, num_bytes, part.offset_bytes))
            wanted = max(8 * wanted, more.num_bytes)


def _by_pillow(data: bytes) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(image.width), int(image.height)
    except (
        OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, struct.error,
        Image.DecompressionBombError,
    ):  # fmt: skip
        return None
