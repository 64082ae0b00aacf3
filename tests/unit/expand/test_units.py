"""Work units are named by all that determines their captions, and are there whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgv_data.errors import RunFolderError
from sgv_data.expand.units import UnitStore, cut_units
from sgv_data.records import CaptionRow, ImageRow
from tests.captioner_run import draw_picture, teacher_row


@pytest.fixture
def rows(tmp_path: Path) -> list[ImageRow]:
    return [draw_picture(tmp_path, number)[0] for number in range(7)]


def captions(rows: tuple[ImageRow, ...]) -> list[CaptionRow]:
    return [teacher_row(row, f"about {row.key}") for row in rows]


def test_units_hold_every_row_once_in_order(rows: list[ImageRow]) -> None:
    units = list(cut_units(rows, 3, "captioner"))

    assert [len(unit.rows) for unit in units] == [3, 3, 1]
    assert [row for unit in units for row in unit.rows] == rows


def test_a_name_changes_with_picture_bytes_ids_and_captioner_and_with_nothing_else(rows: list[ImageRow]) -> None:
    def name(of: list[ImageRow], made_by: str = "captioner") -> str:
        return next(cut_units(of, 7, made_by)).name

    others = [
        name([replace(rows[0], sha256="f" * 64), *rows[1:]]),
        name([replace(rows[0], image_id="pics/other"), *rows[1:]]),
        name(rows, "another"),
        name(rows[:-1]),
    ]
    assert name(rows) not in others
    assert len(set(others)) == 4
    assert name([replace(row, license="other", location="elsewhere") for row in rows]) == name(rows)


def test_a_stored_unit_is_read_again(tmp_path: Path, rows: list[ImageRow]) -> None:
    store = UnitStore(tmp_path / "units")
    unit = next(cut_units(rows, 7, "captioner"))
    assert not store.has(unit)

    store.write(unit, captions(unit.rows))

    assert store.has(unit)
    assert store.read(unit) == captions(unit.rows)


def test_a_unit_that_holds_other_pictures_is_refused(tmp_path: Path, rows: list[ImageRow]) -> None:
    store = UnitStore(tmp_path / "units")
    unit = next(cut_units(rows, 7, "captioner"))
    store.write(unit, captions(unit.rows)[1:])

    with pytest.raises(RunFolderError, match="does not hold the pictures it is named after"):
        store.read(unit)
