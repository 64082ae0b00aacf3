"""What must be known of all usable pictures at once: a few hundred bytes each, mostly in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgv_data.images.hashes import THUMB_BYTES
from sgv_data.index.look import Found
from sgv_data.index.spill import Spill
from sgv_data.manifest import Manifest
from sgv_data.quotas import Role, draw


@dataclass(frozen=True, slots=True)
class Usable:
    """Columns over the usable pictures in hash order."""

    sha256: NDArray[np.bytes_]
    phash: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]
    comparable: NDArray[np.bool_]
    source: NDArray[np.int32]
    teacher_draw: NDArray[np.uint64]
    expand_draw: NDArray[np.uint64]


_EMPTY_THUMB = bytes(THUMB_BYTES)


def gather(spill: Spill, manifest: Manifest, folder: Path) -> Usable:
    """The columns, by way of two files in `folder`; that of the mean colours stays in use.

    Raises:
        InputError: if two pictures have the same id.
    """
    numbers = {source.name: number for number, source in enumerate(manifest.images)}
    thumbs_file, columns_file = folder / "thumbs", folder / "columns"
    with thumbs_file.open("wb") as thumbs_out, columns_file.open("wb") as columns_out:
        for batch in spill.batches():
            usable = [found for found in batch if found.row.reject is None]
            thumbs_out.write(b"".join(found.thumb or _EMPTY_THUMB for found in usable))
            values = [_values(found, numbers, manifest.seed) for found in usable]
            columns_out.write(np.array(values, _COLUMNS).tobytes())
    table = np.fromfile(columns_file, _COLUMNS)
    thumbs = np.zeros((0, THUMB_BYTES), np.uint8)
    if len(table):
        thumbs = np.memmap(thumbs_file, np.uint8, "r", shape=(len(table), THUMB_BYTES))
    return Usable(thumbs=thumbs, **{name: np.ascontiguousarray(table[name]) for name in _COLUMNS.names or ()})


_COLUMNS = np.dtype(
    [
        ("sha256", "S32"), ("phash", "u8"), ("comparable", "?"), ("source", "i4"),
        ("teacher_draw", "u8"), ("expand_draw", "u8"),
    ]
)  # fmt: skip


def _values(found: Found, numbers: dict[str, int], seed: int) -> tuple[bytes, int, bool, int, int, int]:
    row = found.row
    return (
        bytes.fromhex(row.sha256),
        int(row.phash, 16),
        bool(found.thumb),
        numbers[row.source],
        draw(seed, Role.TEACHER, row.image_id),
        draw(seed, Role.EXPAND, row.image_id),
    )
