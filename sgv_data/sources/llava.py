"""Source kind `llava`: the pictures that a LLaVA-format file names, below its tree of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sgv_data.json_rows import read_json_rows
from sgv_data.sources.listed import Listed
from sgv_data.sources.texts import clean_text


class Llava(Listed):
    """Each picture once, in the file's order; the answer of a row with one exchange is the picture's text."""

    def _rows(self) -> Iterator[tuple[str, str | None]]:
        for row in read_json_rows(self._list):
            named = row.value.get("image")
            several = named if isinstance(named, list) else [named]
            images: list[str] = [image for image in several if isinstance(image, str) and image]
            if not images:
                self.ignored["row without a picture"] += 1
            text = _answer(row.value) if len(images) == 1 else None
            for image in images:
                yield image, text


def _answer(row: dict[str, Any]) -> str | None:
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) != 2 or not isinstance(turns[1], dict):
        return None
    value = turns[1].get("value")
    return clean_text(value.encode("utf-8", "replace")) if isinstance(value, str) else None
