from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sgv_data.errors import InputError
from sgv_data.sources import parquet
from sgv_data.sources.parquet import ParquetPictures
from tests.unit.sources.trees import picture


def write(path: Path, numbers: range, hub: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [None if number == 5 else picture(number) for number in numbers]
    column = [{"bytes": image, "path": None} for image in images] if hub else images
    names, texts = [f"n{number}" for number in numbers], [f"Text {number}" for number in numbers]
    pq.write_table(pa.table({"image": column, "name": names, "text": texts}), path, row_group_size=4)


@pytest.mark.parametrize("hub", [False, True])
def test_every_row_is_an_entry_and_gives_its_bytes(tmp_path: Path, hub: bool) -> None:
    write(tmp_path / "a.parquet", range(10), hub)
    write(tmp_path / "deep" / "b#.parquet", range(10, 13), hub)
    source = ParquetPictures(str(tmp_path), "image", None, "text")
    entries = list(source.entries())
    assert [entry.key for entry in entries][8:11] == ["a/000008", "a/000009", "deep/b#/000000"]
    assert [entry.text for entry in entries] == [f"Text {number}" for number in range(13)]
    for number in (12, 0, 9, 4, 3, 11):
        assert source.read(entries[number].location) == picture(number)
    with pytest.raises(OSError, match="holds no bytes"):
        source.read(entries[5].location)


def test_rows_are_named_by_a_column(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(3))
    entries = list(ParquetPictures(str(tmp_path / "a.parquet"), "image", "name", None).entries())
    assert [(entry.key, entry.text) for entry in entries] == [("a/n0", None), ("a/n1", None), ("a/n2", None)]


def test_a_row_group_is_read_once_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", range(10))
    source = ParquetPictures(str(tmp_path), "image", None, None)
    entries, read = list(source.entries()), list[int]()
    monkeypatch.setattr(
        parquet.ParquetPictures, "_bytes", lambda self, table: read.append(len(table)) or table.column("image")
    )
    for number in (0, 1, 2, 3, 4, 6, 7, 8, 9):
        source.read(entries[number].location)
    assert read == [4, 4, 2]


def test_it_travels_to_other_processes_after_use(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(3))
    source = ParquetPictures(str(tmp_path), "image", None, None)
    source.read("a.parquet#1")
    assert pickle.loads(pickle.dumps(source)).read("a.parquet#2") == picture(2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "image", None, None), "no Parquet files there"),
        ((".", "picture", None, None), "no column 'picture'; its columns are image, name, text"),
        ((".", "name", None, None), "is string, not bytes"),
        ((".", "image", "id", None), "no column 'id'"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, arguments: tuple[str, str, str | None, str | None], says: str
) -> None:
    write(tmp_path / "a.parquet", range(3))
    path, *columns = arguments
    with pytest.raises(InputError, match=says):
        list(ParquetPictures(str(tmp_path / path), *columns).entries())  # type: ignore[arg-type]


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(9))
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut off"):
        list(ParquetPictures(str(tmp_path), "image", None, None).entries())


@pytest.mark.parametrize("location", ["a.parquet#77", "a.parquet", "#1"])
def test_a_location_that_is_none_is_refused(tmp_path: Path, location: str) -> None:
    write(tmp_path / "a.parquet", range(3))
    with pytest.raises(InputError):
        ParquetPictures(str(tmp_path), "image", None, None).read(location)
