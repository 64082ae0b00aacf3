"""Texts that lie beside pictures: `<stem>.txt`, and lines of `index.jsonl` or `metadata.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path

from sgv_data.errors import InputError

LISTS = ("index.jsonl", "metadata.jsonl")

_MAX_TEXT_BYTES = 65_536
_FILE_KEYS, _TEXT_KEYS = ("file", "file_name"), ("text", "title")


def clean_text(data: bytes) -> str | None:
    """The first 64 KiB as text without surrounding space; None when nothing is left."""
    return data[:_MAX_TEXT_BYTES].decode("utf-8", "replace").strip() or None


def sidecar_text(path: Path) -> str | None:
    """The text in a file beside a picture; None where it is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            return clean_text(file.read(_MAX_TEXT_BYTES))
    except OSError:
        return None


def listed_texts(folder: Path) -> dict[str, str]:
    """Relative path -> text, from the lists in `folder`. `text` goes before `title`, a later list before an earlier.

    Raises:
        InputError: if a list holds a line that is no JSON object.
    """
    texts: dict[str, str] = {}
    for name in LISTS:
        path = folder / name
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if line.strip():
                _take(texts, line, f"{path}, line {number}")
    return texts


def _take(texts: dict[str, str], line: bytes, place: str) -> None:
    try:
        record = json.loads(line)
    except ValueError as exc:
        raise InputError(f"{place}: is no JSON") from exc
    if not isinstance(record, dict):
        raise InputError(f"{place}: must be a JSON object with file_name and text")
    file = next((record[key] for key in _FILE_KEYS if isinstance(record.get(key), str)), None)
    text = next((record[key] for key in _TEXT_KEYS if isinstance(record.get(key), str)), "").strip()
    if file and text:
        texts[file] = text
