"""Source kind `table`: pictures named by a table of paths: JSON, JSON Lines, CSV, TSV, or text, one path a line."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from sgv_data.errors import InputError
from sgv_data.json_rows import read_json_values
from sgv_data.sources.listed import Listed
from sgv_data.sources.texts import clean_text

_PATHS = ("image", "file_name", "file", "path", "image_path", "filename")
_TEXTS = ("text", "caption", "title")


class PathTable(Listed):
    """The pictures that a column of a table names; `path_column` and `text_column` by default the first usual name."""

    def __init__(self, path: str, images: str | None, path_column: str | None, text_column: str | None) -> None:
        super().__init__(path, images)
        self._path_columns = (path_column,) if path_column else _PATHS
        self._text_columns = (text_column,) if text_column else _TEXTS

    def _rows(self) -> Iterator[tuple[str, str | None]]:
        for row in self._values():
            if isinstance(row, str):
                path: Any = row
                text = None
            elif isinstance(row, Mapping):
                path = next((row[name] for name in self._path_columns if row.get(name)), None)
                text = next((row[name] for name in self._text_columns if isinstance(row.get(name), str)), None)
            else:
                path = text = None
            if isinstance(path, str) and path:
                yield path, clean_text(text.encode("utf-8", "replace")) if text else None
            else:
                self.ignored["row without a path"] += 1

    def _values(self) -> Iterator[Any]:
        """Rows as mappings, or as strings where a row is nothing but a path."""
        suffix = self._list.suffix.lower()
        if suffix in (".json", ".jsonl"):
            yield from read_json_values(self._list)
        elif suffix in (".csv", ".tsv"):
            yield from self._cells("," if suffix == ".csv" else "\t")
        elif suffix == ".txt":
            with self._list.open(encoding="utf-8-sig", errors="surrogateescape") as file:
                yield from (line.strip() for line in file if line.strip())
        else:
            raise InputError(f"{self._list}: a table is a .json, .jsonl, .csv, .tsv or .txt file")

    def _cells(self, delimiter: str) -> Iterator[dict[str, str]]:
        csv.field_size_limit(sys.maxsize)
        with self._list.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            columns = rows.fieldnames or []
            if not any(name in columns for name in self._path_columns):
                raise InputError(
                    f"{self._list}: has no column {' or '.join(self._path_columns)}, its columns are "
                    f"{', '.join(map(str, columns)) or 'none'}; name one as path_column"
                )
            try:
                yield from rows
            except csv.Error as exc:
                raise InputError(f"{self._list}, line {rows.line_num}: {exc}") from exc
