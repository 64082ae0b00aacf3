"""The teacher's kept captions, joined with their pictures and laid out for random access.

They lie in one Arrow file that is mapped, not read: training over a million captions keeps none of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sgv_data.errors import TrainingError
from sgv_data.records import CaptionRow, ImageRow, Verdict, image_order
from sgv_data.run_folder import publish_file
from sgv_data.tables import ROWS_PER_GROUP, merge_join, read_table, schema_of, to_arrow

_CAPTION = "caption"
_NAMES = tuple(field.name for field in fields(ImageRow))


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture and the teacher's caption for it."""

    row: ImageRow
    caption: str


def kept_captions(index: Path, collect: Path, verdicts: Path) -> Iterator[Kept]:
    """Every kept teacher caption with its picture, in hash order."""
    by_image = merge_join(
        read_table(index, "images", ImageRow),
        _kept_texts(collect, verdicts),
        lambda row: image_order(row.image_id),
        lambda kept: image_order(kept[0]),
    )
    for row, kept in by_image:
        if kept is not None:
            yield Kept(row, kept[1])


def _kept_texts(collect: Path, verdicts: Path) -> Iterator[tuple[str, str]]:
    """(image_id, text) of kept captions, in hash order."""
    pairs = merge_join(
        read_table(collect, "captions", CaptionRow),
        read_table(verdicts, "verdicts", Verdict),
        lambda caption: image_order(caption.image_id),
        lambda verdict: image_order(verdict.image_id),
    )
    for caption, verdict in pairs:
        if verdict is not None and verdict.kept:
            yield caption.image_id, caption.text


class KeptFile:
    """The kept captions of a run by position, in hash order. Reads what is asked for; cheap to pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: pa.Table | None = None

    def __len__(self) -> int:
        return int(self._rows().num_rows)

    def __getitem__(self, position: int) -> Kept:
        (values,) = self._rows().slice(position, 1).to_pylist()
        caption = values.pop(_CAPTION)
        return Kept(ImageRow(**values), caption)

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_table": None}

    def captions(self) -> Iterator[str]:
        """All captions, in order."""
        for batch in self._rows().select([_CAPTION]).to_batches(max_chunksize=ROWS_PER_GROUP):
            yield from batch.column(0).to_pylist()

    def num_chars(self) -> npt.NDArray[np.int32]:
        """The length of every caption in characters."""
        lengths = pc.utf8_length(self._rows().column(_CAPTION))
        return np.asarray(lengths.to_numpy(), dtype=np.int32)

    def names(self) -> Iterator[str]:
        """What tells rows apart: all image ids, in order."""
        for batch in self._rows().select(["image_id"]).to_batches(max_chunksize=ROWS_PER_GROUP):
            yield from batch.column(0).to_pylist()

    def _rows(self) -> pa.Table:
        if self._table is None:
            with pa.memory_map(str(self._path)) as source:
                self._table = pa.ipc.open_file(source).read_all()
        return self._table


def write_kept(path: Path, kept: Iterator[Kept]) -> KeptFile:
    """Writes the kept captions to `path`, which appears only when complete."""
    schema = schema_of(ImageRow).append(pa.field(_CAPTION, pa.string(), nullable=False))
    temporary = path.with_name(f"{path.name}.tmp")
    pending: list[Kept] = []
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for each in kept:
            pending.append(each)
            if len(pending) >= ROWS_PER_GROUP:
                writer.write_table(_as_table(pending, schema))
                pending = []
        if pending:
            writer.write_table(_as_table(pending, schema))
    publish_file(temporary, path)
    return KeptFile(path)


def _as_table(kept: list[Kept], schema: pa.Schema) -> pa.Table:
    rows = to_arrow([each.row for each in kept], ImageRow)
    captions = pa.array([each.caption for each in kept], type=pa.string())
    return pa.Table.from_arrays([*rows.columns, captions], schema=schema)


@dataclass(frozen=True, slots=True)
class Split:
    """Positions in a `KeptFile`, ascending."""

    trained: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


class Rows(Protocol):
    """Rows to train on."""

    def __len__(self) -> int: ...

    def names(self) -> Iterator[str]:
        """What tells rows apart, in order."""


def split_held_out(kept: Rows, share: float, seed: int) -> Split:
    """Sets aside the `share` of captions (one at least) whose pictures come first in an order of their own.

    That order depends on the seed and the image ids alone.

    Raises:
        TrainingError: if there are too few captions to train on some and hold out others.
    """
    num_kept = len(kept)
    if num_kept < 2:
        raise TrainingError(
            f"{num_kept} kept teacher {'caption' if num_kept == 1 else 'captions'}: too few to train on some and hold "
            f"out others (captioner.held_out is {share}); let the teacher caption more pictures, or loosen the filter"
        )
    num_held_out = min(num_kept - 1, max(1, round(num_kept * share)))
    keys = np.fromiter((_held_out_key(seed, name) for name in kept.names()), np.uint64, num_kept)
    order = np.argsort(keys, kind="stable")
    return Split(np.sort(order[num_held_out:]), np.sort(order[:num_held_out]))


def _held_out_key(seed: int, name: str) -> int:
    return int(image_order(f"{seed}/held_out/{name}")[:16], 16)
