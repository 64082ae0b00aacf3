"""Pictures come decoded and in order; bad ones come as values; a killed worker is one clear sentence."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgv_data.captioner.picture import PictureOpener, pixels_sha256
from sgv_data.errors import SgvError
from sgv_data.expand.decoding import DecodingPool, open_picture
from sgv_data.manifest import Manifest, Pictures
from sgv_data.records import FailureClass, ImageRow
from sgv_data.sources.reader import PictureReader
from tests.captioner_run import draw_picture


@pytest.fixture
def opener(tmp_path: Path) -> PictureOpener:
    source = {"name": "pics", "kind": "folder", "path": str(tmp_path)}
    manifest = Manifest.model_validate({"name": "x", "images": [source], "teacher": {"model": "t"}})
    return PictureOpener(PictureReader(manifest), Pictures(), 32)


def broken(row: ImageRow, folder: Path) -> ImageRow:
    """A row whose file is no picture, and always was the same."""
    import hashlib

    (folder / row.location).write_bytes(b"no picture")
    return replace(row, sha256=hashlib.sha256(b"no picture").hexdigest())


def test_a_picture_comes_as_its_rgb_values(tmp_path: Path, opener: PictureOpener) -> None:
    row, _ = draw_picture(tmp_path, 3)

    opened = open_picture(opener, row)

    with Image.open(tmp_path / row.location) as image:
        pixels = np.asarray(image)
    assert opened.pixels is not None
    assert np.array_equal(opened.pixels, pixels)
    assert (opened.sent_sha256, opened.failure) == (pixels_sha256(pixels), None)


def test_what_is_no_picture_is_a_bad_image(tmp_path: Path, opener: PictureOpener) -> None:
    row = broken(draw_picture(tmp_path, 3)[0], tmp_path)

    opened = open_picture(opener, row)

    assert (opened.pixels, opened.failure) == (None, FailureClass.BAD_IMAGE)
    assert "not_an_image" in str(opened.detail)


@pytest.mark.parametrize("gone", [True, False])
def test_a_picture_that_is_gone_or_other_has_changed(tmp_path: Path, opener: PictureOpener, gone: bool) -> None:
    row, _ = draw_picture(tmp_path, 3)
    path = tmp_path / row.location
    path.unlink() if gone else path.write_bytes(path.read_bytes() + b"x")

    assert open_picture(opener, row).failure is FailureClass.IMAGE_CHANGED


def test_workers_hand_back_every_picture_in_order(tmp_path: Path, opener: PictureOpener) -> None:
    rows = [draw_picture(tmp_path, number)[0] for number in range(30)]
    rows[17] = broken(rows[17], tmp_path)

    with DecodingPool(opener, num_workers=2, num_ahead=16) as pool:
        opened = list(pool.open_all(rows))

    assert [row for row, _ in opened] == rows
    assert [each.pixels is None for _, each in opened] == [number == 17 for number in range(30)]


class DeadlyOpener:
    """Kills the process it is used in."""

    def read(self, row: ImageRow) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_killed_worker_is_one_clear_sentence(tmp_path: Path) -> None:
    row, _ = draw_picture(tmp_path, 3)
    deadly: PictureOpener = DeadlyOpener()  # type: ignore[assignment]

    with (
        DecodingPool(deadly, num_workers=1, num_ahead=8) as pool,
        pytest.raises(SgvError, match="a process that decodes pictures was killed"),
    ):
        list(pool.open_all([row]))
