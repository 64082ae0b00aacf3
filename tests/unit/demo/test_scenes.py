from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import pytest
from PIL import Image, ImageChops

from sgv_data.demo.scenes import (
    BACKGROUND_RGB,
    CELL_PX,
    COLOR_RGB,
    SIDE_PX,
    SIZE_PX,
    WORDS,
    BackgroundColor,
    Color,
    Column,
    Row,
    Scene,
    SceneObject,
    Shape,
    Size,
    Texture,
    draw,
    scene,
    scene_bytes,
)

SCENES = [scene(7, number) for number in range(300)]


def painted_box(picture: Image.Image, rgb: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Where a picture has exactly this colour."""
    unlike = Image.new("L", picture.size, 0)
    for channel, wanted in zip(picture.split(), rgb, strict=True):
        unlike = ImageChops.lighter(unlike, channel.point([255 * (value != wanted) for value in range(256)]))
    return ImageChops.invert(unlike).getbbox()


def test_equal_numbers_give_equal_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from sgv_data.demo.scenes import scene_bytes; "
        "print(hashlib.sha256(scene_bytes(3, 5)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(scene_bytes(3, 5)).hexdigest()


def test_seed_and_number_both_change_the_scene() -> None:
    assert scene(1, 2) != scene(2, 2)
    assert scene(1, 2) != scene(1, 3)


def test_the_bytes_are_the_drawn_picture() -> None:
    opened = Image.open(io.BytesIO(scene_bytes(7, 0)))
    assert (opened.format, opened.mode, opened.size) == ("PNG", "RGB", (SIDE_PX, SIDE_PX))
    assert opened.tobytes() == draw(scene(7, 0)).tobytes()


def test_objects_stand_in_reading_order_each_in_its_own_cell() -> None:
    for content in SCENES:
        places = [(list(Row).index(item.row), list(Column).index(item.column)) for item in content.objects]
        assert places == sorted(set(places))
        assert 1 <= len(places) <= 4


def test_centres_lie_in_their_cell_clear_of_its_lines() -> None:
    for item in (item for content in SCENES for item in content.objects):
        left, top, right, bottom = item.box_px
        x_px = (left + right) / 2 - CELL_PX * list(Column).index(item.column)
        y_px = (top + bottom) / 2 - CELL_PX * list(Row).index(item.row)
        assert 20 <= x_px <= CELL_PX - 20
        assert 20 <= y_px <= CELL_PX - 20


def test_boxes_lie_inside_the_picture_and_never_overlap() -> None:
    for content in SCENES:
        for index, item in enumerate(content.objects):
            left, top, right, bottom = item.box_px
            assert 0 <= left < right <= SIDE_PX
            assert 0 <= top < bottom <= SIDE_PX
            for other in content.objects[:index]:
                apart_x = left >= other.box_px[2] or right <= other.box_px[0]
                assert apart_x or top >= other.box_px[3] or bottom <= other.box_px[1]


def test_sizes_are_those_of_the_boxes() -> None:
    for item in (item for content in SCENES for item in content.objects):
        smallest_px, largest_px = SIZE_PX[item.size]
        assert smallest_px <= item.box_px[2] - item.box_px[0] <= largest_px


def test_no_two_objects_of_a_scene_share_shape_and_colour() -> None:
    assert all(
        len({(item.shape, item.color) for item in content.objects}) == len(content.objects) for content in SCENES
    )


def find_large(shape: Shape) -> tuple[Scene, SceneObject]:
    found = ((content, item) for content in SCENES for item in content.objects)
    return next((content, item) for content, item in found if item.shape is shape and item.size is Size.LARGE)


@pytest.mark.parametrize("shape", list(Shape))
def test_a_shape_is_painted_inside_its_box_up_to_all_sides(shape: Shape) -> None:
    content, item = find_large(shape)
    painted = painted_box(draw(content), item.rgb)
    assert painted is not None
    assert all(abs(found - told) <= 3 for found, told in zip(painted, item.box_px, strict=True))


def test_shapes_differ_in_how_much_of_their_box_they_fill() -> None:
    filled = {}
    for shape in Shape:
        content, item = find_large(shape)
        box = draw(content).crop(item.box_px)
        pixels = list(zip(*(channel.tobytes() for channel in box.split()), strict=True))
        filled[shape] = sum(pixel == item.rgb for pixel in pixels) / len(pixels)
    assert filled[Shape.SQUARE] == 1
    assert len({round(share, 2) for share in filled.values()}) == len(Shape)


def test_the_row_of_a_word_holds_ink_and_no_object() -> None:
    with_word = [content for content in SCENES if content.word is not None]
    assert 0.2 < len(with_word) / len(SCENES) < 0.45
    for content in with_word[:30]:
        assert content.word is not None
        assert all(item.row is not content.word.row for item in content.objects)
        ink = painted_box(draw(content), content.word.rgb)
        assert ink is not None
        assert (ink[1] + ink[3]) // 2 // CELL_PX == list(Row).index(content.word.row)
        assert ink[2] - ink[0] > SIDE_PX / 3


def test_every_value_occurs() -> None:
    items = [item for content in SCENES for item in content.objects]
    assert {item.shape for item in items} == set(Shape)
    assert {item.color for item in items} == set(Color)
    assert {item.size for item in items} == set(Size)
    assert {(item.row, item.column) for item in items} == {(row, column) for row in Row for column in Column}
    assert {content.background_color for content in SCENES} == set(BackgroundColor)
    assert {content.background_texture for content in SCENES} == set(Texture)
    assert {content.word.text for content in SCENES if content.word} == set(WORDS)


def test_textures_are_seen_but_faint() -> None:
    for texture in Texture:
        content = next(content for content in SCENES if content.background_texture is texture and not content.word)
        bare = draw(Scene(content.background_color, texture, content.background_rgb, content.texture_seed, (), None))
        spread = max(high - low for low, high in bare.getextrema())  # type: ignore[misc]
        assert spread == 0 if texture is Texture.PLAIN else 12 <= spread <= 48


def test_object_colours_stand_apart_from_each_other_and_from_backgrounds() -> None:
    named = [*COLOR_RGB.values(), *BACKGROUND_RGB.values()]
    distances = [
        max(abs(one - other) for one, other in zip(color, named[index], strict=True))
        for place, color in enumerate(COLOR_RGB.values())
        for index in range(place + 1, len(named))
    ]
    assert min(distances) >= 48
