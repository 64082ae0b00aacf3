from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgv_data.errors import RunFolderError
from sgv_data.tables import ROWS_PER_GROUP, TableWriter, merge_join, read_table, table_files, write_table


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    number: int
    share: float
    kept: bool
    colour: Colour | None


def rows(count: int) -> list[Row]:
    return [Row(f"n{i}", i, i / 3, i % 2 == 0, Colour.RED if i % 3 else None) for i in range(count)]


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    write_table(tmp_path, "rows", Row, rows(10))
    assert list(read_table(tmp_path, "rows", Row)) == rows(10)


def test_a_field_that_an_old_file_does_not_have_holds_its_default(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Longer:
        name: str
        colour: Colour | None = None
        offered: bool = False

    @dataclass(frozen=True, slots=True)
    class Stricter:
        name: str
        added: int

    write_table(tmp_path, "rows", Row, rows(3))
    assert list(read_table(tmp_path, "rows", Longer)) == [Longer(row.name, row.colour) for row in rows(3)]
    with pytest.raises(RunFolderError, match="another version"):
        list(read_table(tmp_path, "rows", Stricter))


def test_a_table_of_no_rows_is_a_table(tmp_path: Path) -> None:
    assert write_table(tmp_path, "rows", Row, []) == 0
    assert list(read_table(tmp_path, "rows", Row)) == []


def test_a_long_table_is_several_files_in_order(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "rows", Row, rows_per_file=ROWS_PER_GROUP) as writer:
        for row in rows(2 * ROWS_PER_GROUP + 5):
            writer.add(row)
    assert len(table_files(tmp_path, "rows")) == 3
    assert [row.number for row in read_table(tmp_path, "rows", Row)] == list(range(2 * ROWS_PER_GROUP + 5))


def test_a_writer_that_fails_leaves_nothing_visible(tmp_path: Path) -> None:
    def fails_on_the_way() -> Iterator[Row]:
        yield from rows(ROWS_PER_GROUP + 1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_table(tmp_path, "rows", Row, fails_on_the_way())
    assert list(tmp_path.iterdir()) == []


def test_writing_again_replaces_a_longer_table(tmp_path: Path) -> None:
    with TableWriter(tmp_path, "rows", Row, rows_per_file=ROWS_PER_GROUP) as writer:
        for row in rows(2 * ROWS_PER_GROUP):
            writer.add(row)
    write_table(tmp_path, "rows", Row, rows(1))
    assert len(list(read_table(tmp_path, "rows", Row))) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(text=st.text(alphabet=st.characters(), max_size=50))
def test_any_text_can_be_stored(tmp_path: Path, text: str) -> None:
    write_table(tmp_path, "rows", Row, [Row(text, 0, 0.0, True, None)])
    stored = next(read_table(tmp_path, "rows", Row)).name
    storable = not any(0xD800 <= ord(c) <= 0xDFFF for c in text)
    assert stored == text if storable else "�" in stored


def test_a_cut_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    write_table(tmp_path, "rows", Row, rows(10))
    path = table_files(tmp_path, "rows")[0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunFolderError, match="damaged"):
        list(read_table(tmp_path, "rows", Row))


def test_a_table_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="has not run"):
        list(read_table(tmp_path, "rows", Row))


def test_anybody_can_read_the_file(tmp_path: Path) -> None:
    write_table(tmp_path, "rows", Row, rows(3))
    assert pq.read_table(table_files(tmp_path, "rows")[0]).column("colour").to_pylist() == [None, "red", "red"]


@given(left=st.sets(st.text("abc", max_size=4)), right=st.sets(st.text("abc", max_size=4)))
def test_a_merge_join_pairs_all_or_raises(left: set[str], right: set[str]) -> None:
    joined = merge_join(sorted(left), sorted(right), str, str)
    if right <= left:
        assert list(joined) == [(name, name if name in right else None) for name in sorted(left)]
    else:
        with pytest.raises(RunFolderError, match="no partner"):
            list(joined)
