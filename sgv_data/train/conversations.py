"""Samples in LLaVA's format, a JSON array or JSON Lines of
`{"image": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}`.

The file is read as a stream, once, into an Arrow file that is mapped, not loaded: a million rows take no memory. Rows
that cannot be used are counted by reason: `Unusable`.
"""

from __future__ import annotations

import codecs
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sgv_data.captioner.conversation import PLACEHOLDER, Exchange
from sgv_data.errors import InputError
from sgv_data.run_folder import publish_file
from sgv_data.tables import ROWS_PER_GROUP

_READ_BYTES = 1 << 22
_HUMAN, _MODEL = ("human", "user"), ("gpt", "assistant", "model")
_SCHEMA = pa.schema([
    pa.field("images", pa.list_(pa.string()), nullable=False),
    pa.field("texts", pa.list_(pa.string()), nullable=False),
    pa.field("num_chars", pa.int32(), nullable=False),
])  # fmt: skip
_COUNTS = b"unusable"


class Unusable(StrEnum):
    """Why a row is not trained on."""

    MISSING_PICTURE = "missing_picture"
    NO_CONVERSATION = "no_conversation"
    NO_ANSWER = "no_answer"
    OTHER_NUMBER_OF_PICTURES = "other_number_of_pictures"
    PICTURE_IN_LATER_TURN = "picture_in_later_turn"


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row: picture paths below the folder of pictures, and what was said."""

    images: tuple[str, ...]
    exchanges: tuple[Exchange, ...]


class ConversationFile:
    """The usable rows by position, in the order of their file; cheap to pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: pa.Table | None = None

    def __len__(self) -> int:
        return int(self._rows().num_rows)

    def __getitem__(self, position: int) -> Conversation:
        (row,) = self._rows().slice(position, 1).to_pylist()
        texts = row["texts"]
        exchanges = tuple(Exchange(asked, answered) for asked, answered in zip(texts[::2], texts[1::2], strict=True))
        return Conversation(tuple(row["images"]), exchanges)

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_table": None}

    @property
    def unusable(self) -> dict[str, int]:
        """Rows that were left out, by reason."""
        counts: dict[str, int] = json.loads((self._rows().schema.metadata or {})[_COUNTS])
        return counts

    def names(self) -> Iterator[str]:
        """What tells rows apart: their places, since ids occur twice in published files."""
        return (f"conversation/{position}" for position in range(len(self)))

    def captions(self) -> Iterator[str]:
        """All texts, row by row."""
        for batch in self._rows().select(["texts"]).to_batches(max_chunksize=ROWS_PER_GROUP):
            for texts in batch.column(0).to_pylist():
                yield " ".join(texts)

    def num_chars(self) -> npt.NDArray[np.int32]:
        """The length of every row's texts in characters."""
        return np.asarray(self._rows().column("num_chars").to_numpy(), dtype=np.int32)

    def without_picture(self) -> npt.NDArray[np.bool_]:
        """Which rows are text alone."""
        num_images = pc.list_value_length(self._rows().column("images"))
        return np.asarray(num_images.to_numpy() == 0, dtype=np.bool_)

    def _rows(self) -> pa.Table:
        if self._table is None:
            with pa.memory_map(str(self._path)) as source:
                self._table = pa.ipc.open_file(source).read_all()
        return self._table


def write_conversations(path: Path, json_file: Path, images: Path) -> ConversationFile:
    """Reads `json_file` into `path`, which appears only when complete.

    Raises:
        InputError: if the file or the folder of pictures is not there, or the file is no such JSON.
    """
    if not images.is_dir():
        raise InputError(f"captioner.conversations.images: no such folder: {images}")
    temporary, data = path.with_name(f"{path.name}.tmp"), path.with_name(f"{path.name}.rows")
    unusable: Counter[str] = Counter()
    there = _Pictures(images)
    with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for batch in _batches(_usable(read_rows(json_file), there, unusable)):
            writer.write_batch(batch)
    # The counts are known only now, and an Arrow file says such things at its beginning.
    schema = _SCHEMA.with_metadata({_COUNTS: json.dumps(dict(sorted(unusable.items()))).encode()})
    with pa.memory_map(str(data)) as source, pa.OSFile(str(temporary), "wb") as sink:
        reader = pa.ipc.open_file(source)
        with pa.ipc.new_file(sink, schema) as writer:
            for number in range(reader.num_record_batches):
                writer.write_batch(reader.get_batch(number).replace_schema_metadata(schema.metadata))
    data.unlink()
    publish_file(temporary, path)
    return ConversationFile(path)


def read_rows(path: Path) -> Iterator[Any]:
    """The values of a JSON array, or of JSON Lines, one by one.

    Raises:
        InputError: if the file is not there or is no such JSON.
    """
    if not path.is_file():
        raise InputError(f"captioner.conversations.json_file: no such file: {path}")
    decoder, text, num_rows = json.JSONDecoder(), "", 0
    with path.open("rb") as file:
        for chunk in _texts(file, path):
            text = _separators_off(text + chunk, first=num_rows == 0)
            while text:
                try:
                    value, end = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    break
                if end == len(text) and not isinstance(value, dict | list | str):
                    break  # a number may go on in the next piece
                yield value
                num_rows += 1
                text = _separators_off(text[end:], first=False)
    if text.strip(" \t\r\n]"):
        raise InputError(f"{path}: is neither a JSON array nor JSON Lines: row {num_rows + 1} cannot be read")


def _texts(file: Any, path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while chunk := file.read(_READ_BYTES):
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: is not UTF-8 ({exc.reason})") from exc


def _separators_off(text: str, first: bool) -> str:
    text = text.lstrip(" \t\r\n,") if not first else text.lstrip()
    return text[1:].lstrip() if first and text.startswith("[") else text


class _Pictures:
    """Which pictures are in a folder; each folder below is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            return False
        folder = str(path.parent)
        if folder not in self._listed:
            found = self._root / folder
            self._listed[folder] = frozenset(os.listdir(found)) if found.is_dir() else frozenset()
        return path.name in self._listed[folder]


def _usable(rows: Iterator[Any], there: _Pictures, unusable: Counter[str]) -> Iterator[Conversation]:
    for row in rows:
        read = _read_row(row, there)
        if isinstance(read, Unusable):
            unusable[str(read)] += 1
        else:
            yield read


def _read_row(row: Any, there: _Pictures) -> Conversation | Unusable:
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return Unusable.NO_CONVERSATION
    exchanges = _exchanges(turns)
    if exchanges is None:
        return Unusable.NO_CONVERSATION
    if not exchanges:
        return Unusable.NO_ANSWER
    named = row.get("image") or []
    images = tuple(named) if isinstance(named, list) else (named,)
    if not all(isinstance(image, str) and image in there for image in images):
        return Unusable.MISSING_PICTURE
    if images and any(PLACEHOLDER in exchange.asked for exchange in exchanges[1:]):
        return Unusable.PICTURE_IN_LATER_TURN
    if images and exchanges[0].asked.count(PLACEHOLDER) not in (0, len(images)):
        return Unusable.OTHER_NUMBER_OF_PICTURES
    return Conversation(images, exchanges)


def _exchanges(turns: Sequence[dict[str, Any]]) -> tuple[Exchange, ...] | None:
    """Question and answer by turns, from the first question on; an unanswered last one is left out.

    None if it is no such conversation, () if nothing is answered.
    """
    said = [(turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))) for turn in turns]
    while said and said[0][0] not in _HUMAN:
        said = said[1:]
    said = said[: len(said) // 2 * 2]
    pairs = list(zip(said[::2], said[1::2], strict=True))
    exchanges = []
    for (asking, asked), (answering, answered) in pairs:
        if asking not in _HUMAN or answering not in _MODEL:
            return None
        if not isinstance(asked, str) or not isinstance(answered, str):
            return None
        if answered.strip():
            exchanges.append(Exchange(asked, answered))
    return tuple(exchanges)


def _batches(rows: Iterator[Conversation]) -> Iterator[pa.RecordBatch]:
    pending: list[Conversation] = []
    for row in rows:
        pending.append(row)
        if len(pending) >= ROWS_PER_GROUP:
            yield _as_batch(pending)
            pending = []
    if pending:
        yield _as_batch(pending)


def _as_batch(rows: list[Conversation]) -> pa.RecordBatch:
    texts = [[text for each in row.exchanges for text in (each.asked, each.answered)] for row in rows]
    columns = [[list(row.images) for row in rows], texts, [sum(map(len, each)) for each in texts]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
