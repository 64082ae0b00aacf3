"""What can be said of a photograph by measuring it: its proportions, its light and its colours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Number = TypeVar("Number", np.int8, np.float32)

_SQUARE_RATIO = 1.12  # up to this a picture is called square
_VERY_WIDE_RATIO = 2.0
_LUMA = np.asarray((0.299, 0.587, 0.114), dtype=np.float32)
_MIN_SHARE = 0.12
_MAX_COLORS = 3


class Orientation(StrEnum):
    WIDE = "wide"
    VERY_WIDE = "very wide"
    TALL = "tall"
    VERY_TALL = "very tall"
    SQUARE = "square"


class Brightness(StrEnum):
    VERY_DARK = "very dark"
    DARK = "dark"
    MEDIUM = "medium"
    BRIGHT = "bright"
    VERY_BRIGHT = "very bright"


class Contrast(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Side(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


class Tone(StrEnum):
    BLACK = "black"
    GRAY = "gray"
    WHITE = "white"
    RED = "red"
    ORANGE = "orange"
    BROWN = "brown"
    YELLOW = "yellow"
    GREEN = "green"
    CYAN = "cyan"
    BLUE = "blue"
    PURPLE = "purple"
    PINK = "pink"


_HUE_ENDS_DEG = (
    (14, Tone.RED),
    (42, Tone.ORANGE),
    (66, Tone.YELLOW),
    (165, Tone.GREEN),
    (195, Tone.CYAN),
    (258, Tone.BLUE),
    (290, Tone.PURPLE),
    (342, Tone.PINK),
    (361, Tone.RED),
)


@dataclass(frozen=True, slots=True)
class PhotoMeasurement:
    """`colors` are the commonest of the whole picture, most first; `side_colors` the commonest in each outer third.

    `brightest_side` is None when no side is clearly brighter than its opposite.
    """

    orientation: Orientation
    brightness: Brightness
    contrast: Contrast
    colors: tuple[Tone, ...]
    side_colors: dict[Side, Tone]
    brightest_side: Side | None


def measure_photo(pixels: Pixels, width_px: int, height_px: int) -> PhotoMeasurement:
    """Measure a picture of any size from a small copy: RGB from 0 to 255, shape (rows, columns, 3)."""
    luma = pixels @ _LUMA
    tones = name_tones(pixels)
    return PhotoMeasurement(
        orientation=_orientation(width_px / height_px),
        brightness=_brightness(float(luma.mean())),
        contrast=_contrast(float(luma.std())),
        colors=_common(tones),
        side_colors={side: _common(_third(tones, side))[0] for side in Side},
        brightest_side=_brightest_side(luma),
    )


def name_tones(pixels: Pixels) -> npt.NDArray[np.int8]:
    """For every pixel the index of its tone in `Tone`, from hue, saturation and value."""
    value = pixels.max(axis=-1)
    spread = value - pixels.min(axis=-1)
    hue_deg = _hue_deg(pixels, value, np.maximum(spread, 1e-3))
    known = list(Tone)
    bins = np.digitize(hue_deg, [end for end, _ in _HUE_ENDS_DEG[:-1]])
    tones = np.asarray([known.index(tone) for _, tone in _HUE_ENDS_DEG], dtype=np.int8)[bins]
    warm = np.isin(tones, [known.index(Tone.RED), known.index(Tone.ORANGE), known.index(Tone.YELLOW)])
    tones[warm & (value < 165)] = known.index(Tone.BROWN)
    tones[(tones == known.index(Tone.BROWN)) & (hue_deg > 50) & (hue_deg < 66)] = known.index(Tone.GREEN)
    pale = spread < np.maximum(26, 0.18 * value)
    tones[pale] = known.index(Tone.GRAY)
    tones[pale & (value > 205)] = known.index(Tone.WHITE)
    tones[(value < 45) | (pale & (value < 62))] = known.index(Tone.BLACK)
    return tones


def _hue_deg(pixels: Pixels, value: Pixels, spread: Pixels) -> Pixels:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    sector = np.where(
        value == red,
        (green - blue) / spread % 6,
        np.where(value == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    hue: Pixels = sector * 60
    return hue


def _common(tones: npt.NDArray[np.int8]) -> tuple[Tone, ...]:
    """The commonest tones, at least one; others only when they cover a good part."""
    shares = np.bincount(tones.ravel(), minlength=len(Tone)) / tones.size
    order = np.argsort(-shares, kind="stable")[:_MAX_COLORS]
    kept = [list(Tone)[index] for rank, index in enumerate(order) if rank == 0 or shares[index] >= _MIN_SHARE]
    return tuple(kept)


def _third(values: npt.NDArray[Number], side: Side) -> npt.NDArray[Number]:
    rows, columns = max(1, values.shape[0] // 3), max(1, values.shape[1] // 3)
    thirds = {
        Side.LEFT: values[:, :columns],
        Side.RIGHT: values[:, -columns:],
        Side.TOP: values[:rows],
        Side.BOTTOM: values[-rows:],
    }
    return thirds[side]


def _orientation(ratio: float) -> Orientation:
    if ratio >= _VERY_WIDE_RATIO:
        return Orientation.VERY_WIDE
    if ratio > _SQUARE_RATIO:
        return Orientation.WIDE
    if ratio >= 1 / _SQUARE_RATIO:
        return Orientation.SQUARE
    return Orientation.TALL if ratio > 1 / _VERY_WIDE_RATIO else Orientation.VERY_TALL


def _brightness(mean_luma: float) -> Brightness:
    ends = (45, 95, 155, 205)
    return list(Brightness)[sum(mean_luma >= end for end in ends)]


def _contrast(luma_deviation: float) -> Contrast:
    ends = (32, 66)
    return list(Contrast)[sum(luma_deviation >= end for end in ends)]


def _brightest_side(luma: Pixels) -> Side | None:
    means = {side: float(np.mean(_third(luma, side))) for side in Side}
    across = max((Side.LEFT, Side.RIGHT), key=means.__getitem__)
    down = max((Side.TOP, Side.BOTTOM), key=means.__getitem__)
    lead_across = abs(means[Side.LEFT] - means[Side.RIGHT])
    lead_down = abs(means[Side.TOP] - means[Side.BOTTOM])
    if max(lead_across, lead_down) < 20:
        return None
    return across if lead_across > lead_down else down
