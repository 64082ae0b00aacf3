from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from sgv_data.errors import InputError
from sgv_data.index.look import SourceEntry, look_at
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow
from sgv_data.sources.open import open_source
from sgv_data.sources.reader import PictureChanged, PictureReader


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    images = [{"name": "p", "kind": "folder", "path": str(tmp_path)}, {"name": "s", "kind": "scenes", "count": 3}]
    return Manifest.model_validate({"name": "t", "seed": 5, "images": images, "teacher": {"model": "m"}})


def row_of(manifest: Manifest) -> ImageRow:
    (entry,) = open_source(manifest.images[0], manifest.seed).entries()
    (found,) = look_at([SourceEntry("p", "CC0-1.0", entry)], PictureReader(manifest), manifest.pictures)
    return found.row


def test_reads_what_was_indexed(manifest: Manifest) -> None:
    assert PictureReader(manifest).read_row(row_of(manifest)) == b"picture"


def test_other_bytes_of_the_same_size_are_noticed(manifest: Manifest, tmp_path: Path) -> None:
    row = row_of(manifest)
    (tmp_path / "a.jpg").write_bytes(b"PICTURE")
    with pytest.raises(PictureChanged, match="other bytes"):
        PictureReader(manifest).read_row(row)


def test_a_picture_that_is_gone_is_noticed(manifest: Manifest, tmp_path: Path) -> None:
    row = row_of(manifest)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(PictureChanged, match="cannot be read"):
        PictureReader(manifest).read_row(row)


def test_works_after_pickling(manifest: Manifest) -> None:
    reader = PictureReader(manifest)
    reader.read("s", "1")
    assert pickle.loads(pickle.dumps(reader)).read("p", "a.jpg") == b"picture"


def test_an_unknown_source(manifest: Manifest) -> None:
    with pytest.raises(InputError, match="no source 'other'"):
        PictureReader(manifest).read_row(replace(row_of(manifest), source="other"))


def test_scenes_depend_on_seed_and_number(manifest: Manifest) -> None:
    source = open_source(manifest.images[1], 5)
    entries = list(source.entries())
    assert [entry.key for entry in entries] == ["000000", "000001", "000002"]
    hashes = {hashlib.sha256(source.read(entry.location)).hexdigest() for entry in entries}
    assert len(hashes) == 3
    assert source.read("1") == open_source(manifest.images[1], 5).read("1")
    assert source.identity() != open_source(manifest.images[1], 6).identity()
    with pytest.raises(InputError, match="there are 3"):
        source.read("3")


def test_scenes_lie_in_no_file(tmp_path: Path) -> None:
    spec = {"name": "s", "kind": "scenes", "count": 3}
    made = Manifest.model_validate({"name": "t", "images": [spec], "teacher": {"model": "m"}})
    assert PictureReader(made).part("s", "1") is None
