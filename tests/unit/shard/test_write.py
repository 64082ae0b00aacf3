"""Small rules of names and sidecars."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.dataset_format import image_field, parse_checksums, visible_files, write_checksums


@pytest.mark.parametrize(
    ("image_format", "field"), [("jpeg", "jpg"), ("jpeg2000", "jp2"), ("png", "png"), ("webp", "webp")]
)
def test_the_field_of_a_format_is_its_usual_extension(image_format: str, field: str) -> None:
    assert image_field(image_format) == field


def test_records_and_hidden_files_are_no_part_of_a_dataset(tmp_path: Path) -> None:
    for name in ("data/a.tar", "_RECORD.json", ".report.json", ".work/plan/x", "data/.a.tar.tmp", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert visible_files(tmp_path) == ["README.md", "data/a.tar"]


def test_checksums_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "one two").write_bytes(b"1")
    written = write_checksums(tmp_path, ["one two"], {})
    assert parse_checksums((tmp_path / "SHA256SUMS").read_text()) == written
    assert written["one two"].startswith("6b86b273ff34fce1")


def test_a_line_that_is_no_checksum_is_named() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_checksums("0" * 64 + "  a\nabc  b\n")
