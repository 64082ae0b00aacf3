from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sgv_data.demo.measure import SceneMeasurement, measure
from sgv_data.demo.photo import Brightness, Orientation, PhotoMeasurement, Side, Tone
from sgv_data.demo.scenes import Color, Column, Row, Scene, Shape, Size, draw, scene

PHOTOS = Path("sgv_data/demo/assets/photos")
SEED = 4711
NUM_SCENES = 40


def encoded(picture: Image.Image, kind: str, **options: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def resized(side_px: int) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: picture.resize((side_px, side_px), Image.Resampling.BICUBIC)


def contents(found: Scene | SceneMeasurement) -> object:
    """All that a caption could say of a scene, drawn or measured."""
    objects = [(item.shape, item.color, item.size, item.row, item.column) for item in found.objects]
    word = None if found.word is None else (found.word.text, found.word.row)
    return found.background_color, found.background_texture, objects, word


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda picture: picture, id="as drawn"),
        pytest.param(lambda picture: encoded(picture, "JPEG", quality=80), id="jpeg"),
        pytest.param(lambda picture: encoded(picture, "WEBP", quality=75), id="webp"),
        pytest.param(resized(120), id="smaller"),
        pytest.param(resized(336), id="larger"),
        pytest.param(lambda picture: picture.quantize(128), id="palette"),
    ],
)
def test_a_drawn_picture_is_measured_as_it_was_drawn(change: Callable[[Image.Image], Image.Image]) -> None:
    wrong = []
    for number in range(NUM_SCENES):
        truth = scene(SEED, number)
        found = measure(change(draw(truth)))
        if not isinstance(found, SceneMeasurement) or contents(found) != contents(truth):
            wrong.append(number)
    assert len(wrong) <= 1, wrong


def test_a_picture_drawn_by_other_hands_is_measured_too() -> None:
    picture = Image.new("RGB", (300, 300), (240, 240, 240))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((10, 8, 108, 106), fill=(220, 20, 30))
    pen.rectangle((210, 215, 275, 280), fill=(30, 70, 230))
    found = measure(picture)
    assert isinstance(found, SceneMeasurement)
    assert [(item.shape, item.color, item.size, item.row, item.column) for item in found.objects] == [
        (Shape.CIRCLE, Color.RED, Size.LARGE, Row.TOP, Column.LEFT),
        (Shape.SQUARE, Color.BLUE, Size.SMALL, Row.BOTTOM, Column.RIGHT),
    ]


def test_transparency_lies_on_white_and_grayscale_is_read() -> None:
    clear = Image.new("RGBA", (90, 60), (0, 0, 0, 0))
    found = measure(clear)
    assert isinstance(found, PhotoMeasurement)
    assert found.colors == (Tone.WHITE,)
    gray = measure(Image.new("L", (90, 60), 20))
    assert isinstance(gray, PhotoMeasurement)
    assert (gray.colors, gray.brightness) == ((Tone.BLACK,), Brightness.VERY_DARK)


def test_a_photograph_tells_its_sides() -> None:
    picture = Image.new("RGB", (300, 100), (40, 90, 210))
    picture.paste((60, 150, 50), (200, 0, 300, 100))
    found = measure(picture)
    assert isinstance(found, PhotoMeasurement)
    assert found.orientation is Orientation.VERY_WIDE
    assert found.colors == (Tone.BLUE, Tone.GREEN)
    assert (found.side_colors[Side.LEFT], found.side_colors[Side.RIGHT]) == (Tone.BLUE, Tone.GREEN)


def test_exif_orientation_is_applied() -> None:
    with Image.open(PHOTOS / "leaning_tower.jpg") as stored:
        assert stored.width > stored.height
        found = measure(stored)
    assert isinstance(found, PhotoMeasurement)
    assert found.orientation is Orientation.TALL
    assert found.brightest_side is Side.TOP  # the sky


@pytest.mark.parametrize("path", sorted(PHOTOS.glob("*.[jpw]*")), ids=lambda path: path.name)
def test_shipped_photographs_are_taken_for_photographs(path: Path) -> None:
    with Image.open(path) as picture:
        assert isinstance(measure(picture), PhotoMeasurement)


def test_what_is_like_no_known_shape_makes_no_scene() -> None:
    picture = Image.new("RGB", (216, 216), (240, 240, 240))
    corners = [(100 + 38 * math.cos(0.4 * turn), 30 + 5 * turn) for turn in range(30)]
    ImageDraw.Draw(picture).line(corners, fill=(215, 30, 35), width=6)
    assert isinstance(measure(picture), PhotoMeasurement)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (2, 2)])
def test_the_smallest_pictures_are_measured(size: tuple[int, int]) -> None:
    assert isinstance(measure(Image.new("RGB", size, "red")), PhotoMeasurement)


def test_every_shipped_photograph_has_its_licence_and_stays_small() -> None:
    files = [path for path in PHOTOS.iterdir() if path.name != "LICENSES.md"]
    rows = [line for line in (PHOTOS / "LICENSES.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == sorted(path.name for path in files)
    assert all(row.count("|") == 8 and all(cell.strip() for cell in row.strip("|").split("|")) for row in rows)
    assert len(files) == 24
    assert max(path.stat().st_size for path in files) <= 60_000
