"""Large JSON files of rows, read as a stream: one array of objects, or JSON Lines.

Every row comes with the bytes it lies in, so that a file can be written again with some rows exchanged and all other
bytes as they were.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sgv_data.errors import InputError
from sgv_data.run_folder import publish_file

_PIECE_BYTES = 1 << 20
_COPY_BYTES = 1 << 20
_MAX_ROW_CHARS = 1 << 28
_SPACE = re.compile(r"[ \t\r\n]*")
_NEAR_END_CHARS = 32
"""A mistake so near the end of what has been read may only be a row that goes on."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class JsonRow:
    """One object: its number, counted from 0, and where its text lies in the file."""

    number: int
    value: dict[str, Any]
    offset_bytes: int
    num_bytes: int


class _Text:
    """The part of a file's text that has been read and not used yet; `offset_bytes` is where it begins."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._piece_bytes = _PIECE_BYTES
        self.text, self.at, self.offset_bytes, self.ended = "", 0, 0, False

    def more(self) -> None:
        """Reads on; a row that needs several pieces gets larger and larger ones."""
        data = self._file.read(self._piece_bytes)
        try:
            added = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as exc:
            raise InputError(f"{self._path}: is not UTF-8 ({exc.reason})") from exc
        self.text, self.at = self.text[self.at :] + added, 0
        self._piece_bytes = max(_PIECE_BYTES, len(self.text))
        self.ended = not data

    def use(self, end: int) -> int:
        """Goes on to the place `end`; returns how many bytes that was."""
        piece = self.text[self.at : end]
        num_bytes = len(piece) if piece.isascii() else len(piece.encode())
        self.at, self.offset_bytes = end, self.offset_bytes + num_bytes
        return num_bytes

    def next_char(self) -> str:
        """The next character that is no space, not used up; empty at the end of the file."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.use(found.end() if found else self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.more()


def read_json_rows(path: Path) -> Iterator[JsonRow]:
    """The objects of a JSON array, or of JSON Lines, in their order; memory holds a few of them.

    Raises:
        InputError: naming the row at which the file is no such JSON, or that it is not there.
    """
    for number, (value, offset_bytes, num_bytes) in enumerate(_values(path)):
        if not isinstance(value, dict):
            raise InputError(f"{path}, row {number + 1}: is no JSON object")
        yield JsonRow(number, value, offset_bytes, num_bytes)


def read_json_values(path: Path) -> Iterator[Any]:
    """The values of a JSON array, or of JSON Lines, of any kind; otherwise as `read_json_rows`."""
    return (value for value, _, _ in _values(path))


def _values(path: Path) -> Iterator[tuple[Any, int, int]]:
    """Each value with the offset and length of its text in bytes."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        text = _Text(file, path)
        text.offset_bytes = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        file.seek(text.offset_bytes)
        in_array = text.next_char() == "["
        if in_array:
            text.use(text.at + 1)
        yield from _rows(text, in_array, path)


def _rows(text: _Text, in_array: bool, path: Path) -> Iterator[tuple[Any, int, int]]:
    decoder, number = json.JSONDecoder(), 0
    while (char := text.next_char()) and char != "]":
        if in_array and number:
            if char != ",":
                raise InputError(f"{path}: there is no comma behind row {number} (rows count from 1)")
            text.use(text.at + 1)
            text.next_char()
        value, end = _decoded(decoder, text, f"{path}, row {number + 1}")
        start = text.offset_bytes
        yield value, start, text.use(end)
        number += 1
    if in_array and char != "]":
        raise InputError(f"{path}: ends behind row {number} without a closing ]; it is cut off")
    if char == "]":
        text.use(text.at + 1)
        if not in_array or text.next_char():
            raise InputError(f"{path}: goes on behind its closing ]")


def _decoded(decoder: json.JSONDecoder, text: _Text, place: str) -> tuple[Any, int]:
    """The value that begins here and the place where it ends, reading on as far as needed."""
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.at)
        except json.JSONDecodeError as exc:
            goes_on = exc.msg.startswith("Unterminated") or exc.pos > len(text.text) - _NEAR_END_CHARS
            if text.ended or not goes_on or len(text.text) - text.at > _MAX_ROW_CHARS:
                raise InputError(f"{place}: is no JSON ({exc.msg})") from exc
        except RecursionError as exc:
            raise InputError(f"{place}: is nested too deeply") from exc
        else:
            if end < len(text.text) or text.ended or isinstance(value, dict):
                return value, end
        text.more()


def read_text_at(path: Path, offset_bytes: int, num_bytes: int) -> str:
    """The text of one row."""
    with path.open("rb") as file:
        file.seek(offset_bytes)
        return file.read(num_bytes).decode()


def splice(path: Path, rows: Mapping[int, tuple[int, bytes]], final: Path) -> None:
    """Writes `path` to `final` with other bytes in some places, durably: the file is there whole or not at all.

    `rows`: offset in bytes -> how many bytes of `path` go, and what comes there.
    """
    temporary = final.with_name(f".{final.name}.tmp")
    final.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as source, temporary.open("wb") as target:
        for offset_bytes in sorted(rows):
            num_bytes, replacement = rows[offset_bytes]
            _copy(source, target, offset_bytes - source.tell())
            target.write(replacement)
            source.seek(num_bytes, 1)
        _copy(source, target, None)
    publish_file(temporary, final)


def _copy(source: IO[bytes], target: IO[bytes], num_bytes: int | None) -> None:
    """Copies so many bytes; None: all that are left."""
    while num_bytes is None or num_bytes > 0:
        data = source.read(_COPY_BYTES if num_bytes is None else min(_COPY_BYTES, num_bytes))
        if not data:
            break
        target.write(data)
        num_bytes = None if num_bytes is None else num_bytes - len(data)


class RowsWriter:
    """Writes rows as one JSON array, or as JSON Lines for a name that ends in `.jsonl`.

    Use as a context manager: the file has its name only when complete; leaving it by an exception leaves none.
    """

    def __init__(self, final: Path) -> None:
        self._final, self._temporary = final, final.with_name(f".{final.name}.tmp")
        self._lines = final.suffix == ".jsonl"
        self.num_rows = 0

    def __enter__(self) -> RowsWriter:
        self._final.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("wb")
        self._file.write(b"" if self._lines else b"[")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.write(b"" if self._lines else b"\n]\n")
            self._file.close()
            publish_file(self._temporary, self._final)
        else:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a row."""
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
        before = b"" if self._lines else b",\n" if self.num_rows else b"\n"
        self._file.write(before + line + (b"\n" if self._lines else b""))
        self.num_rows += 1
