from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sgv_data.errors import InputError
from sgv_data.sources.img2dataset import Img2Dataset
from tests.unit.sources.trees import picture

MESSAGES = (
    "HTTP Error 404: Not Found", "<urlopen error timed out>", "[Errno -2] Name or service not known", "odd", None
)  # fmt: skip


def write(folder: Path, name: str = "00000", num_pictures: int = 6, num_said: int | None = None) -> None:
    """A tar and its list, with one failure per message."""
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for number in range(num_pictures):
            for suffix, data in (("jpg", picture(number)), ("json", b"{}"), ("txt", f"Text {number}".encode())):
                member = tarfile.TarInfo(f"{name}{number:04d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    good = num_pictures if num_said is None else num_said
    statuses = ["success"] * good + ["failed_to_download"] * len(MESSAGES)
    table = pa.table({"status": statuses, "error_message": [None] * good + list(MESSAGES)})
    pq.write_table(table, folder / f"{name}.parquet")


def test_pictures_and_texts_come_from_the_tars(tmp_path: Path) -> None:
    write(tmp_path)
    source = Img2Dataset(str(tmp_path))
    entries = list(source.entries())
    assert [(entry.key, entry.text) for entry in entries] == [(f"00000/00000{n:04d}", f"Text {n}") for n in range(6)]
    assert source.read(entries[2].location) == picture(2)


def test_urls_that_gave_no_picture_are_counted_by_cause_and_explained(tmp_path: Path) -> None:
    write(tmp_path, "00000")
    write(tmp_path, "00001")
    source = Img2Dataset(str(tmp_path))
    assert len(list(source.entries())) == 12
    assert dict(source.ignored) == {
        "URL not fetched: HTTP 404": 2, "URL not fetched: timed out": 2, "URL not fetched: no such host": 2,
        "URL not fetched: failed_to_download": 4,
    }  # fmt: skip
    (sentence,) = source.warnings
    assert sentence.startswith("10 of 22 URLs gave no picture (4 failed_to_download")


def test_a_tar_with_other_pictures_than_its_list_says_is_named(tmp_path: Path) -> None:
    write(tmp_path, num_said=8)
    source = Img2Dataset(str(tmp_path))
    list(source.entries())
    assert any("00000.tar: holds 6 pictures, its list says 8" in line for line in source.warnings)


def test_a_tar_without_its_list_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "00000.parquet").unlink()
    source = Img2Dataset(str(tmp_path))
    assert len(list(source.entries())) == 6
    assert "has no list 00000.parquet" in source.warnings[0]


def test_a_list_of_something_else_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "00000.parquet")
    with pytest.raises(InputError, match="no column status"):
        list(Img2Dataset(str(tmp_path)).entries())
