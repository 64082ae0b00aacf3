"""Pictures on their way to the model's processor."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sgv_data.captioner.picture import PictureOpener, pixels_sha256, visible_side_px
from sgv_data.manifest import FolderSource, Manifest, Pictures
from sgv_data.sources.reader import PictureChanged, PictureReader
from tests.captioner_run import picture_row


def opener(folder: Path, side_px: int | None) -> PictureOpener:
    source = FolderSource(name="pics", kind="folder", path=str(folder))
    manifest = Manifest.model_validate({"name": "x", "images": [source.model_dump()], "teacher": {"model": "t"}})
    return PictureOpener(PictureReader(manifest), Pictures(), side_px)


@pytest.mark.parametrize(
    ("processor", "side_px"),
    [
        ({"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}, 336),
        ({"size": {"height": 448, "width": 224}}, 448),
        ({"size": {"shortest_edge": 56 * 56, "longest_edge": 1024 * 1024}}, 1024),
        ({"size": {"shortest_edge": 336}, "image_grid_pinpoints": [[336, 672], [1008, 336]]}, 1008),
        ({"size": None}, None),
        ({}, None),
    ],
)
def test_what_a_model_can_see_is_read_off_its_image_processor(
    processor: dict[str, object], side_px: int | None
) -> None:
    assert visible_side_px(SimpleNamespace(**processor)) == side_px


def test_small_pictures_are_left_as_they_are(tmp_path: Path) -> None:
    Image.new("RGB", (300, 216), (1, 2, 3)).save(tmp_path / "a.png")

    assert opener(tmp_path, 72).open(picture_row(tmp_path / "a.png")).size == (300, 216)


def test_large_pictures_keep_three_times_what_the_model_sees_on_their_shorter_side(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500), (1, 2, 3)).save(tmp_path / "a.png")

    assert opener(tmp_path, 336).open(picture_row(tmp_path / "a.png")).size == (2016, 1008)


def test_a_model_that_does_not_say_what_it_sees_gets_everything(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500), (1, 2, 3)).save(tmp_path / "a.png")

    assert opener(tmp_path, None).open(picture_row(tmp_path / "a.png")).size == (3000, 1500)


def test_a_picture_with_other_bytes_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (1, 2, 3)).save(tmp_path / "a.png")
    row = replace(picture_row(tmp_path / "a.png"), sha256="0" * 64)

    with pytest.raises(PictureChanged):
        opener(tmp_path, 72).open(row)


def test_the_hash_of_pixels_covers_values_and_shape() -> None:
    flat = np.zeros((2, 6, 3), np.uint8)

    assert pixels_sha256(flat) == pixels_sha256(flat.copy())
    assert pixels_sha256(flat) != pixels_sha256(flat.reshape(3, 4, 3))
    assert pixels_sha256(flat) != pixels_sha256(flat + 1)


def test_opening_pictures_needs_no_torch() -> None:
    code = "import sys, sgv_data.expand.decoding; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
