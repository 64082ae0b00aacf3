"""MMBench's files: the table of questions (TSV), files of answers, and the table its server takes (.xlsx)."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from sgv_data.errors import InputError, MissingPart
from sgv_data.evaluate.mmbench import Question, Unmatched
from sgv_data.json_rows import RowsWriter, read_json_rows
from sgv_data.run_folder import publish_file

if TYPE_CHECKING:
    from types import ModuleType

_NOT_SUBMITTED = ("hint", "category", "source", "image", "comment", "l2-category")
_PREDICTION, _PREDICTION_COLUMN = "prediction", 6
_NEEDED = ("index", "question", "A")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")  # characters that a cell of a workbook cannot hold
_MAX_CELL_CHARS = 32_767


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a TSV with quoted fields, column -> text, one by one.

    Raises:
        InputError: if the file is not there or is no such table.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table of questions")
    csv.field_size_limit(sys.maxsize)  # pictures stand in the table, in base64
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t")
        columns = next(reader, [])
        missing = [name for name in _NEEDED if name not in columns]
        if missing:
            raise InputError(f"{path}: is no table of MMBench: it has no column {', '.join(missing)}")
        try:
            for number, cells in enumerate(reader, 2):
                if len(cells) != len(columns):
                    raise InputError(f"{path}, row {number}: has {len(cells)} cells instead of {len(columns)}")
                yield dict(zip(columns, cells, strict=True))
        except (csv.Error, UnicodeDecodeError) as exc:
            raise InputError(f"{path}: cannot be read as a table ({exc})") from exc


def read_questions(path: Path) -> Iterator[Question]:
    """The questions of a table, in its order, without their pictures.

    Raises:
        InputError: also if an index occurs twice.
    """
    seen: set[int] = set()
    for row in read_table(path):
        index = _index(row["index"], str(path))
        if index in seen:
            raise InputError(f"{path}: the index {index} occurs twice")
        seen.add(index)
        yield Question(
            index=index,
            options=_options(row),
            answer=row.get("answer", "").strip() or None,
            category=row.get("category", ""),
            ability=row.get("l2-category", ""),
            split=row.get("split", "").strip() or "all",
        )


def _options(row: Mapping[str, str]) -> dict[str, str]:
    """The options up to the first empty cell. A cell that reads None or nan is an option in these words."""
    options = {}
    for letter in ascii_uppercase:
        if not row.get(letter, ""):
            break
        options[letter] = row[letter]
    return options


def _index(value: Any, place: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"{place}: an index must be a whole number (got {value!r})") from None


def read_predictions(path: Path) -> dict[int, str]:
    """Index -> answer, from JSON or JSON Lines (`question_id` or `index`; `text` or `prediction`), from a TSV or CSV,
    or from a workbook (columns index and prediction).

    Raises:
        InputError: if the file is not there, is not of this form, or answers a row twice.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of answers")
    if path.suffix == ".xlsx":
        rows = _workbook_rows(path)
    elif path.suffix in (".tsv", ".csv"):
        rows = _table_rows(path)
    else:
        rows = (row.value for row in read_json_rows(path))
    found: dict[int, str] = {}
    for number, row in enumerate(rows, 1):
        place = f"{path}, row {number}"
        index = _index(_first(row, ("question_id", "index"), place), place)
        if index in found:
            raise InputError(f"{place}: {index} was answered before")
        value = _first(row, ("text", _PREDICTION), place)
        found[index] = "" if value is None else str(value)
    return found


def _first(row: Mapping[str, Any], names: tuple[str, ...], place: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise InputError(f"{place}: has neither {' nor '.join(names)}")


def _table_rows(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")


def _workbook_rows(path: Path) -> Iterator[dict[str, Any]]:
    sheet = _openpyxl().load_workbook(path, read_only=True).active
    rows = sheet.iter_rows(values_only=True)
    columns = [str(name) for name in next(rows, ())]
    for cells in rows:
        yield dict(zip(columns, cells, strict=False))


def write_submission(table: Path, predictions: Mapping[int, str], final: Path) -> int:
    """Writes the workbook that MMBench's server takes: the table without pictures and categories, with the answers as
    they are in the seventh column. Returns the number of rows without an answer.

    Raises:
        InputError: if the table is not of MMBench's form.
        MissingPart: if openpyxl is not installed.
    """
    book = _openpyxl().Workbook(write_only=True)
    sheet = book.create_sheet()
    columns: list[str] = []
    num_without = 0
    for row in read_table(table):
        if not columns:
            columns = [name for name in row if name not in _NOT_SUBMITTED]
            sheet.append([*columns[:_PREDICTION_COLUMN], _PREDICTION, *columns[_PREDICTION_COLUMN:]])
        prediction = predictions.get(_index(row["index"], str(table)))
        num_without += prediction is None
        cells = [_cell(name, row[name]) for name in columns]
        cells.insert(_PREDICTION_COLUMN, None if prediction is None else _text(prediction))
        sheet.append(cells)
    if not columns:
        raise InputError(f"{table}: holds no questions")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.tmp")
    book.save(temporary)
    publish_file(temporary, final)
    return num_without


def _cell(name: str, text: str) -> int | str | None:
    if name == "index":
        return int(text)
    return _text(text) if text else None


def _text(text: str) -> str:
    return _CONTROL.sub("", text)[:_MAX_CELL_CHARS]


def write_unmatched(unmatched: list[Unmatched], path: Path) -> None:
    """Lists the rows whose answers could not be read."""
    with RowsWriter(path) as lines:
        for each in unmatched:
            lines.add({"index": each.index, "prediction": each.prediction})


def _openpyxl() -> ModuleType:
    try:
        return import_module("openpyxl")
    except ImportError as exc:
        raise MissingPart("workbooks (.xlsx) need openpyxl: pip install openpyxl") from exc


