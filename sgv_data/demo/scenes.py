"""Scenes: pictures drawn with known truth.

`scene(seed, number)` chooses what is in a picture, `draw(scene)` paints it. Both are deterministic: the same pair gives
the same pixels on every run. A picture of 216 x 216 px is thought of as a 3 x 3 grid of cells; it holds one to four
objects, each alone in its cell, and in a third of the scenes a printed word that has a row of the grid to itself.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from PIL import Image, ImageChops, ImageDraw, ImageFont

SIDE_PX = 216
CELL_PX = SIDE_PX // 3
WORDS = ("BOOK", "CAFE", "FISH", "JUMP", "MILK", "OPEN", "TAXI", "ZERO")

Rgb = tuple[int, int, int]
BoxPx = tuple[int, int, int, int]

_JITTER_PX = 10  # keeps every centre at least 26 px away from the grid lines
_GAP_PX = 4
_WORD_SHARE = 1 / 3
_WORD_FONT_PX = 58
_NUM_OBJECTS_WEIGHTS = {1: 1, 2: 3, 3: 3, 4: 2}
_TONE_STEP = 8  # each colour channel differs by up to this much between pictures
_OVERSAMPLE = 4


class Shape(StrEnum):
    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    CROSS = "cross"
    RING = "ring"


class Color(StrEnum):
    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    CYAN = "cyan"
    BLUE = "blue"
    PURPLE = "purple"
    PINK = "pink"


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Row(StrEnum):
    TOP = "top"
    MIDDLE = "middle"
    BOTTOM = "bottom"


class Column(StrEnum):
    LEFT = "left"
    CENTER = "center"
    RIGHT = "right"


class BackgroundColor(StrEnum):
    WHITE = "white"
    LIGHT_GRAY = "light gray"
    DARK_GRAY = "dark gray"
    BLACK = "black"
    CREAM = "cream"
    PALE_BLUE = "pale blue"
    PALE_GREEN = "pale green"
    NAVY = "navy"


class Texture(StrEnum):
    PLAIN = "plain"
    GRADIENT = "gradient"
    STRIPES = "stripes"
    SPECKLE = "speckle"


COLOR_RGB: dict[Color, Rgb] = {
    Color.RED: (215, 30, 35),
    Color.ORANGE: (246, 136, 20),
    Color.YELLOW: (247, 215, 30),
    Color.GREEN: (35, 150, 60),
    Color.CYAN: (30, 190, 205),
    Color.BLUE: (35, 80, 220),
    Color.PURPLE: (130, 45, 165),
    Color.PINK: (246, 120, 185),
}
BACKGROUND_RGB: dict[BackgroundColor, Rgb] = {
    BackgroundColor.WHITE: (240, 240, 240),
    BackgroundColor.LIGHT_GRAY: (190, 190, 190),
    BackgroundColor.DARK_GRAY: (88, 88, 88),
    BackgroundColor.BLACK: (24, 24, 24),
    BackgroundColor.CREAM: (240, 228, 196),
    BackgroundColor.PALE_BLUE: (186, 210, 238),
    BackgroundColor.PALE_GREEN: (190, 226, 186),
    BackgroundColor.NAVY: (24, 32, 78),
}
DARK_BACKGROUNDS = frozenset({BackgroundColor.DARK_GRAY, BackgroundColor.BLACK, BackgroundColor.NAVY})
SIZE_PX: dict[Size, tuple[int, int]] = {Size.SMALL: (46, 52), Size.LARGE: (70, 76)}
"""Smallest and largest side of an object's box."""
INK_ON_LIGHT: Rgb = (20, 20, 20)
INK_ON_DARK: Rgb = (242, 242, 242)


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One drawn object; `box_px` (left, top, right, bottom, the last two exclusive) touches it on all sides."""

    shape: Shape
    color: Color
    size: Size
    row: Row
    column: Column
    box_px: BoxPx
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class PrintedWord:
    """A word printed in capitals across an otherwise empty row; `center_px` is the middle of its letters."""

    text: str
    row: Row
    center_px: tuple[int, int]
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows. `objects` stand in reading order: top to bottom, then left to right."""

    background_color: BackgroundColor
    background_texture: Texture
    background_rgb: Rgb
    texture_seed: int
    objects: tuple[SceneObject, ...]
    word: PrintedWord | None


def scene(seed: int, number: int) -> Scene:
    """Choose the content of picture `number` of the series `seed`."""
    rng = random.Random(f"scene {seed} {number}")
    background = rng.choice(list(BackgroundColor))
    word = _choose_word(rng, background) if rng.random() < _WORD_SHARE else None
    return Scene(
        background_color=background,
        background_texture=rng.choice(list(Texture)),
        background_rgb=_tone(rng, BACKGROUND_RGB[background]),
        texture_seed=rng.getrandbits(32),
        objects=_choose_objects(rng, word),
        word=word,
    )


def draw(scene: Scene) -> Image.Image:
    """Paint the scene: RGB, `SIDE_PX` square, with smooth edges."""
    picture = _draw_background(scene)
    for item in scene.objects:
        left, top, right, bottom = item.box_px
        picture.paste(item.rgb, (left, top), _shape_mask(item.shape, right - left, bottom - top))
    if scene.word is not None:
        font = ImageFont.load_default(_WORD_FONT_PX)
        ImageDraw.Draw(picture).text(
            scene.word.center_px, scene.word.text, fill=scene.word.rgb, font=font, anchor="mm", stroke_width=1
        )
    return picture


def scene_bytes(seed: int, number: int) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    draw(scene(seed, number)).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _tone(rng: random.Random, rgb: Rgb) -> Rgb:
    red, green, blue = (min(255, max(0, value + rng.randint(-_TONE_STEP, _TONE_STEP))) for value in rgb)
    return red, green, blue


def _choose_word(rng: random.Random, background: BackgroundColor) -> PrintedWord:
    row = rng.choice(list(Row))
    y_px = CELL_PX * list(Row).index(row) + CELL_PX // 2 + rng.randint(-6, 6)
    x_px = SIDE_PX // 2 + rng.randint(-14, 14)
    ink = INK_ON_DARK if background in DARK_BACKGROUNDS else INK_ON_LIGHT
    return PrintedWord(text=rng.choice(WORDS), row=row, center_px=(x_px, y_px), rgb=ink)


def _choose_objects(rng: random.Random, word: PrintedWord | None) -> tuple[SceneObject, ...]:
    """One to four objects in different cells outside the word's row, no two alike in shape and colour."""
    cells = [(row, column) for row in Row if word is None or row is not word.row for column in Column]
    taken = [] if word is None else [_letters_box(word)]
    num_objects = rng.choices(list(_NUM_OBJECTS_WEIGHTS), list(_NUM_OBJECTS_WEIGHTS.values()))[0]
    while True:
        chosen = sorted(rng.sample(range(len(cells)), num_objects))
        objects = tuple(_choose_object(rng, *cells[index]) for index in chosen)
        kinds = {(item.shape, item.color) for item in objects}
        if len(kinds) == num_objects and not _any_touch(taken + [item.box_px for item in objects]):
            return objects


def _choose_object(rng: random.Random, row: Row, column: Column) -> SceneObject:
    size = rng.choice(list(Size))
    color = rng.choice(list(Color))
    width_px = rng.randint(*SIZE_PX[size])
    x_px = _choose_center(rng, list(Column).index(column), width_px)
    y_px = _choose_center(rng, list(Row).index(row), width_px)
    left, top = x_px - width_px // 2, y_px - width_px // 2
    box_px = (left, top, left + width_px, top + width_px)
    return SceneObject(rng.choice(list(Shape)), color, size, row, column, box_px, _tone(rng, COLOR_RGB[color]))


def _letters_box(word: PrintedWord) -> BoxPx:
    """The whole width of the picture, as high as the letters."""
    y_px = word.center_px[1]
    return 0, y_px - _WORD_FONT_PX * 2 // 5, SIDE_PX, y_px + _WORD_FONT_PX * 2 // 5


def _choose_center(rng: random.Random, cell: int, width_px: int) -> int:
    """A centre near the middle of the cell, such that the object stays inside the picture."""
    center_px = CELL_PX * cell + CELL_PX // 2 + rng.randint(-_JITTER_PX, _JITTER_PX)
    margin_px = width_px // 2 + 2
    return min(SIDE_PX - margin_px, max(margin_px, center_px))


def _any_touch(boxes_px: list[BoxPx]) -> bool:
    for index, (left, top, right, bottom) in enumerate(boxes_px):
        for other_left, other_top, other_right, other_bottom in boxes_px[:index]:
            apart_x = left >= other_right + _GAP_PX or other_left >= right + _GAP_PX
            apart_y = top >= other_bottom + _GAP_PX or other_top >= bottom + _GAP_PX
            if not (apart_x or apart_y):
                return True
    return False


def _draw_background(scene: Scene) -> Image.Image:
    picture = Image.new("RGB", (SIDE_PX, SIDE_PX), scene.background_rgb)
    if scene.background_texture is Texture.PLAIN:
        return picture
    rng = random.Random(scene.texture_seed)
    if scene.background_texture is Texture.GRADIENT:
        relief = _gradient(rng)
    elif scene.background_texture is Texture.STRIPES:
        relief = _stripes(rng)
    else:
        relief = _speckle(rng)
    return ImageChops.add(picture, Image.merge("RGB", (relief,) * 3), scale=1.0, offset=-128)


def _gradient(rng: random.Random) -> Image.Image:
    """Brightness running from -18 to +18 in one of the four directions; like the others, 128 stands for no change."""
    scaled = [110 + value * 36 // 255 for value in range(256)]
    ramp = Image.linear_gradient("L").resize((SIDE_PX, SIDE_PX)).point(scaled)
    turn = rng.choice((None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270))
    return ramp if turn is None else ramp.transpose(turn)


def _stripes(rng: random.Random) -> Image.Image:
    relief = Image.new("L", (SIDE_PX, SIDE_PX), 128 - 9)
    pen = ImageDraw.Draw(relief)
    width_px = rng.randint(9, 15)
    for start_px in range(-rng.randrange(2 * width_px), SIDE_PX, 2 * width_px):
        pen.rectangle((start_px, 0, start_px + width_px - 1, SIDE_PX), fill=128 + 9)
    return relief.transpose(Image.Transpose.ROTATE_90) if rng.random() < 0.5 else relief


def _speckle(rng: random.Random) -> Image.Image:
    grains_px = rng.randint(4, 6)
    num_grains = SIDE_PX // grains_px + 1
    noise = Image.frombytes("L", (num_grains, num_grains), rng.randbytes(num_grains * num_grains))
    coarse = noise.point([116 + value * 24 // 255 for value in range(256)])
    return coarse.resize((num_grains * grains_px,) * 2, Image.Resampling.NEAREST).crop((0, 0, SIDE_PX, SIDE_PX))


@cache
def _shape_mask(shape: Shape, width_px: int, height_px: int) -> Image.Image:
    """Coverage of the shape in its box, 0 to 255, drawn larger and averaged down."""
    wide, high = width_px * _OVERSAMPLE, height_px * _OVERSAMPLE
    mask = Image.new("L", (wide, high), 0)
    pen = ImageDraw.Draw(mask)
    if shape in (Shape.CIRCLE, Shape.RING):
        pen.ellipse((0, 0, wide - 1, high - 1), fill=255)
        if shape is Shape.RING:
            pen.ellipse((wide * 0.25, high * 0.25, wide * 0.75, high * 0.75), fill=0)
    elif shape is Shape.SQUARE:
        pen.rectangle((0, 0, wide, high), fill=255)
    elif shape is Shape.CROSS:
        pen.rectangle((wide * 0.34, 0, wide * 0.66, high), fill=255)
        pen.rectangle((0, high * 0.34, wide, high * 0.66), fill=255)
    else:
        corners = _star_corners() if shape is Shape.STAR else [(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)]
        pen.polygon([(x * wide, y * high) for x, y in corners], fill=255)
    return mask.reduce(_OVERSAMPLE)


def _star_corners() -> list[tuple[float, float]]:
    """The ten corners of a five-pointed star, stretched to fill the unit square."""
    points = []
    for index in range(10):
        radius = 1.0 if index % 2 == 0 else 0.42
        angle = math.pi * index / 5
        points.append((radius * math.sin(angle), -radius * math.cos(angle)))
    min_x, max_x = min(x for x, _ in points), max(x for x, _ in points)
    min_y, max_y = min(y for _, y in points), max(y for _, y in points)
    return [((x - min_x) / (max_x - min_x), (y - min_y) / (max_y - min_y)) for x, y in points]
