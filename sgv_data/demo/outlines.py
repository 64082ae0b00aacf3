"""What shapes and printed words look like: coverage maps to compare a measured one with.

A coverage map has values from 0 (background) to 1 (ink). Maps are cut to their box and stretched to a common size
before they are compared, so neither place nor size matters.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sgv_data.demo.scenes import WORDS, Shape

Coverage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_SHAPE_GRID = (32, 32)  # columns, rows
_MARGIN = 4
_WORD_GRID = (96, 24)
_MIN_SHAPE_LIKENESS = 0.80
_MIN_WORD_LIKENESS = 0.75
_MAX_WORD_STRETCH = 1.25
_SUBSAMPLES = 4
_TEMPLATE_FONT_PX = 60
_STAR_INNER_RADIUS = 0.42
_BAR_HALF_WIDTH = 0.16
_HOLE_RADIUS = 0.25


def recognize_shape(coverage: Coverage) -> Shape | None:
    """The shape most like a coverage map that is cut to its box; None when none is."""
    likeness = _shape_templates() @ _normalize(_with_margin(_stretch(coverage, _SHAPE_GRID)))
    best = int(likeness.argmax())
    return list(Shape)[best] if likeness[best] >= _MIN_SHAPE_LIKENESS else None


def recognize_word(coverage: Coverage) -> str | None:
    """The word most like a coverage map that is cut to its letters; None when none is."""
    height, width = coverage.shape
    templates, aspects = _word_templates()
    wanted = _normalize(_stretch(coverage, _WORD_GRID))
    likeness = templates @ wanted
    stretch = np.maximum(aspects * height / width, width / (aspects * height))
    likeness[stretch > _MAX_WORD_STRETCH] = -1.0
    best = int(likeness.argmax())
    return WORDS[best] if likeness[best] >= _MIN_WORD_LIKENESS else None


def _stretch(coverage: Coverage, grid: tuple[int, int]) -> Coverage:
    return np.asarray(Image.fromarray(coverage).resize(grid, Image.Resampling.BOX), dtype=np.float32)


def _with_margin(coverage: Coverage) -> Coverage:
    """A rim of background all around, without which a square would be a map without any contrast."""
    return np.pad(coverage, _MARGIN)


def _normalize(coverage: Coverage) -> Coverage:
    """The map as a vector of mean 0 and length 1, so that a dot product is a correlation."""
    centered = coverage.ravel() - coverage.mean()
    normalized: Coverage = centered / max(float(np.linalg.norm(centered)), 1e-6)
    return normalized


@cache
def _shape_templates() -> Coverage:
    return np.stack([_normalize(_with_margin(_shape_map(shape))) for shape in Shape])


def _shape_map(shape: Shape) -> Coverage:
    """Average over a finer grid of points in the unit square, y pointing down."""
    columns, rows = (count * _SUBSAMPLES for count in _SHAPE_GRID)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + 0.5
    inside = _inside(shape, x / columns, y / rows).astype(np.float32)
    blocks = inside.reshape(_SHAPE_GRID[1], _SUBSAMPLES, _SHAPE_GRID[0], _SUBSAMPLES)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _inside(shape: Shape, x: Coverage, y: Coverage) -> Mask:
    radius = np.hypot(x - 0.5, y - 0.5)
    inside: dict[Shape, Mask] = {
        Shape.CIRCLE: radius <= 0.5,
        Shape.SQUARE: np.ones_like(x, dtype=np.bool_),
        Shape.TRIANGLE: np.abs(x - 0.5) <= y / 2,
        Shape.STAR: _inside_star(x, y),
        Shape.CROSS: (np.abs(x - 0.5) <= _BAR_HALF_WIDTH) | (np.abs(y - 0.5) <= _BAR_HALF_WIDTH),
        Shape.RING: (radius <= 0.5) & (radius >= _HOLE_RADIUS),
    }
    return inside[shape]


def _inside_star(x: Coverage, y: Coverage) -> Mask:
    """A five-pointed star with one point up, stretched to fill the unit square."""
    turn = np.pi / 5
    tips_x, tips_y = np.sin(turn * np.arange(0, 10, 2)), -np.cos(turn * np.arange(0, 10, 2))
    wide_x = tips_x.min() + x * (tips_x.max() - tips_x.min())
    high_y = tips_y.min() + y * (tips_y.max() - tips_y.min())
    # Folded into one tenth of the circle, the edge is a straight line from the tip to the inner corner.
    angle = np.abs((np.arctan2(wide_x, -high_y) + turn) % (2 * turn) - turn)
    radius = np.hypot(wide_x, high_y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    inner_x, inner_y = _STAR_INNER_RADIUS * np.cos(turn), _STAR_INNER_RADIUS * np.sin(turn)
    inside: Mask = (1 - along) * inner_y >= across * (1 - inner_x)
    return inside


@cache
def _word_templates() -> tuple[Coverage, Coverage]:
    """One row per word, and beside it how much wider than high the letters are."""
    font = ImageFont.load_default(_TEMPLATE_FONT_PX)
    maps, aspects = [], []
    for word in WORDS:
        canvas = Image.new("L", (len(word) * _TEMPLATE_FONT_PX, 2 * _TEMPLATE_FONT_PX), 0)
        ImageDraw.Draw(canvas).text(
            (canvas.width // 2, canvas.height // 2), word, fill=255, font=font, anchor="mm", stroke_width=1
        )
        letters = canvas.crop(canvas.getbbox())
        aspects.append(letters.width / letters.height)
        coverage = np.asarray(letters, dtype=np.float32) / np.float32(255)
        maps.append(_normalize(_stretch(coverage, _WORD_GRID)))
    return np.stack(maps), np.asarray(aspects, dtype=np.float32)
