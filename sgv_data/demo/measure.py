"""Measuring a picture: what the demo's teacher knows about it, all of it read from the pixels.

`measure` takes any picture. When it looks drawn (flat objects of known shapes and colours on a known background),
it finds the objects, the printed word and the background; otherwise it takes the measures of a photograph. From
`scenes` it knows only the closed sets: the names of shapes, colours and words and the colours' RGB values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sgv_data.demo.background import Background, Pixels, find_background, find_texture
from sgv_data.demo.outlines import Coverage, recognize_shape, recognize_word
from sgv_data.demo.photo import PhotoMeasurement, measure_photo
from sgv_data.demo.regions import Region, count_runs, find_regions
from sgv_data.demo.scenes import COLOR_RGB, BackgroundColor, Color, Column, Row, Shape, Size, Texture

_SIDE_PX = 216  # drawn pictures are brought to this size, so that sizes can be told apart
_PHOTO_SIDE_PX = 128
_MAX_STRETCH = 1.03  # a drawn picture is square
_MAX_RUNS = 2500
_MAX_REGIONS = 12
_MIN_AREA_PX = 160  # the letter I is twice as large; specks of compression are smaller
_MIN_SIDE_PX, _LARGE_FROM_PX, _MAX_SIDE_PX = 20, 61, 95
_EDGE = 0.5  # coverage that belongs to an object
_CORE_SHARE = 0.8
_MAX_CORE_DEVIATION = 16.0
_MAX_COLOR_DISTANCE = 60.0
_MAX_INK_SPREAD = 45.0  # letters are gray, objects are not

BoxPx = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class MeasuredObject:
    """An object found in a drawn picture; `box_px` is left, top, right, bottom in a picture of 216 px."""

    shape: Shape
    color: Color
    size: Size
    row: Row
    column: Column
    box_px: BoxPx


@dataclass(frozen=True, slots=True)
class MeasuredWord:
    text: str
    row: Row


@dataclass(frozen=True, slots=True)
class SceneMeasurement:
    """What a drawn picture shows; `objects` stand in reading order."""

    background_color: BackgroundColor
    background_texture: Texture
    objects: tuple[MeasuredObject, ...]
    word: MeasuredWord | None


def measure(picture: Image.Image) -> SceneMeasurement | PhotoMeasurement:
    """Measure a picture of any mode and size; EXIF orientation is applied, transparency lies on white."""
    upright = _upright_rgb(picture)
    width_px, height_px = upright.size
    if max(width_px, height_px) <= min(width_px, height_px) * _MAX_STRETCH:
        pixels = np.asarray(_resize(upright, _SIDE_PX, _SIDE_PX), dtype=np.float32)
        found = measure_scene(pixels)
        if found is not None:
            return found
    scale = min(1.0, _PHOTO_SIDE_PX / max(width_px, height_px))
    small = _resize(upright, max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return measure_photo(np.asarray(small, dtype=np.float32), width_px, height_px)


def measure_scene(pixels: Pixels) -> SceneMeasurement | None:
    """The content of a drawn picture, RGB from 0 to 255, shape (216, 216, 3); None when it looks otherwise."""
    background = find_background(pixels)
    if background is None or count_runs(background.foreground) > _MAX_RUNS:
        return None
    regions = find_regions(background.foreground, _MIN_AREA_PX)
    cores = [_core_rgb(pixels, background, region) for region in regions]
    if not regions or len(regions) > _MAX_REGIONS:
        return None
    letters: list[Region] = []
    objects: list[MeasuredObject] = []
    for region, core in zip(regions, cores, strict=True):
        if core is None:
            return None
        if core.max() - core.min() < _MAX_INK_SPREAD:
            letters.append(region)
            continue
        item = _measure_object(background, region, core)
        if item is None:
            return None
        objects.append(item)
    word = _read_word(pixels, background, letters) if letters else None
    if letters and word is None:
        return None
    objects.sort(key=lambda item: (list(Row).index(item.row), list(Column).index(item.column)))
    return SceneMeasurement(background.color, find_texture(background), tuple(objects), word)


def _upright_rgb(picture: Image.Image) -> Image.Image:
    picture.draft("RGB", (2 * _SIDE_PX, 2 * _SIDE_PX))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode == "RGB":
        return upright
    if upright.has_transparency_data:
        layered = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
    return upright.convert("RGB")


def _resize(picture: Image.Image, width_px: int, height_px: int) -> Image.Image:
    if picture.size == (width_px, height_px):
        return picture
    return picture.resize((width_px, height_px), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _inside(values: npt.NDArray[np.float32], region: Region) -> npt.NDArray[np.float32]:
    """The values (rows, columns, channels) at the region's pixels."""
    return values[region.top : region.bottom, region.left : region.right][region.mask]


def _strength(background: Background, region: Region) -> npt.NDArray[np.float32]:
    """How far each pixel of the region is from the background's colour."""
    difference = _inside(background.difference, region)
    strength: npt.NDArray[np.float32] = np.sqrt(np.einsum("ic,ic->i", difference, difference))
    return strength


def _core_rgb(pixels: Pixels, background: Background, region: Region) -> Pixels | None:
    """The colour of a region away from its soft edges; None when it is not of one colour."""
    strength = _strength(background, region)
    core = _inside(pixels, region)[strength >= _CORE_SHARE * np.percentile(strength, 90)]
    rgb: Pixels = np.median(core, axis=0)
    deviation = float(np.abs(core - rgb).mean())
    return rgb if deviation <= _MAX_CORE_DEVIATION else None


def _measure_object(background: Background, region: Region, core_rgb: Pixels) -> MeasuredObject | None:
    distances = [np.linalg.norm(core_rgb - np.asarray(rgb, dtype=np.float32)) for rgb in COLOR_RGB.values()]
    nearest = int(np.argmin(distances))
    if distances[nearest] > _MAX_COLOR_DISTANCE:
        return None
    coverage, (left, top, right, bottom) = _cut_to_edges(background, (region,), core_rgb)
    side_px = max(right - left, bottom - top)
    if not _MIN_SIDE_PX <= side_px <= _MAX_SIDE_PX:
        return None
    shape = recognize_shape(coverage)
    if shape is None:
        return None
    return MeasuredObject(
        shape=shape,
        color=list(COLOR_RGB)[nearest],
        size=Size.LARGE if side_px >= _LARGE_FROM_PX else Size.SMALL,
        row=_row((top + bottom) / 2),
        column=_column((left + right) / 2),
        box_px=(left, top, right, bottom),
    )


def _read_word(pixels: Pixels, background: Background, letters: list[Region]) -> MeasuredWord | None:
    inks = np.concatenate([_inside(pixels, region) for region in letters])
    strength = np.concatenate([_strength(background, region) for region in letters])
    ink = np.median(inks[strength >= _CORE_SHARE * np.percentile(strength, 90)], axis=0).astype(np.float32)
    coverage, (_, top, _, bottom) = _cut_to_edges(background, tuple(letters), ink)
    text = recognize_word(coverage)
    return None if text is None else MeasuredWord(text, _row((top + bottom) / 2))


def _cut_to_edges(background: Background, regions: tuple[Region, ...], rgb: Pixels) -> tuple[Coverage, BoxPx]:
    """How much of each pixel the regions cover (0 to 1), cut to where it is at least half, and the cut's box."""
    left, right = min(region.left for region in regions), max(region.right for region in regions)
    top, bottom = min(region.top for region in regions), max(region.bottom for region in regions)
    toward = rgb - background.rgb
    share = background.difference[top:bottom, left:right] @ (toward / float(toward @ toward))
    coverage: Coverage = np.zeros_like(share)
    for region in regions:
        window = np.s_[region.top - top : region.bottom - top, region.left - left : region.right - left]
        coverage[window] = np.where(region.mask, np.clip(share[window], 0, 1), coverage[window])
    rows = np.nonzero((coverage >= _EDGE).any(axis=1))[0]
    columns = np.nonzero((coverage >= _EDGE).any(axis=0))[0]
    if rows.size == 0 or columns.size == 0:
        return coverage, (left, top, right, bottom)
    cut = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box_px = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    return cut, (float(box_px[0]), float(box_px[1]), float(box_px[2]), float(box_px[3]))


def _row(y_px: float) -> Row:
    return list(Row)[min(2, int(y_px * 3 / _SIDE_PX))]


def _column(x_px: float) -> Column:
    return list(Column)[min(2, int(x_px * 3 / _SIDE_PX))]
