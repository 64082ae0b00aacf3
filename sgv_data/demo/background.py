"""What the objects of a drawn picture lie on: its colour and texture, found in the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgv_data.demo.scenes import BACKGROUND_RGB, BackgroundColor, Texture

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_MIN_SHARE = 0.35  # objects and a word cover less than half of a scene
_SEARCH_STEP_PX = 4
_MAX_SHADE = 30.0  # textures lighten or darken a background by less than this
_MAX_TINT = 17.0
_FOREGROUND_SHADE = 42.0
_FOREGROUND_TINT = 26.0
_PLAIN_DEVIATION = 3.0
_CLEAR_SHARE = 0.55
_RIM_PX = 3


@dataclass(frozen=True, slots=True)
class Background:
    """`rgb` is the middle tone and `difference` the picture minus it (rows, columns, 3).

    `shade` is the mean of the difference over the channels (rows, columns); `foreground` tells where something
    lies on the background.
    """

    color: BackgroundColor
    rgb: Pixels
    difference: Pixels
    shade: npt.NDArray[np.float32]
    foreground: Mask


def find_background(pixels: Pixels) -> Background | None:
    """The background of a drawn picture, or None when no known background colour covers enough of it.

    A texture moves all three channels alike, so colours are compared by shade (the mean difference of the
    channels) and tint (the length of what is left).
    """
    sample = pixels[::_SEARCH_STEP_PX, ::_SEARCH_STEP_PX].reshape(-1, 3)
    near = [_near(sample - np.asarray(rgb, dtype=np.float32)) for rgb in BACKGROUND_RGB.values()]
    shares = [float(mask.mean()) for mask in near]
    best = int(np.argmax(shares))
    if shares[best] < _MIN_SHARE:
        return None
    rgb = np.median(sample[near[best]], axis=0).astype(np.float32)
    difference = pixels - rgb
    shade, tint = _shade_and_tint(difference)
    foreground = (tint > _FOREGROUND_TINT) | (np.abs(shade) > _FOREGROUND_SHADE)
    return Background(_name(rgb), rgb, difference, shade, foreground)


def find_texture(background: Background) -> Texture:
    """The texture of what shows between the objects."""
    visible = ~_grown(background.foreground)
    shades = background.shade[visible]
    if shades.size == 0 or shades.std() < _PLAIN_DEVIATION:
        return Texture.PLAIN
    rows, columns = np.nonzero(visible)
    if _explained_by_slope(shades, rows, columns) > _CLEAR_SHARE:
        return Texture.GRADIENT
    if max(_explained_by_lines(shades, rows), _explained_by_lines(shades, columns)) > _CLEAR_SHARE:
        return Texture.STRIPES
    return Texture.SPECKLE


def _near(difference: Pixels) -> Mask:
    shade, tint = _shade_and_tint(difference)
    near: Mask = (np.abs(shade) < _MAX_SHADE) & (tint < _MAX_TINT)
    return near


def _shade_and_tint(difference: Pixels) -> tuple[Pixels, Pixels]:
    shade = difference @ np.full(3, 1 / 3, dtype=np.float32)
    squares = np.einsum("...c,...c->...", difference, difference)
    return shade, np.sqrt(np.maximum(squares - 3 * shade * shade, 0))


def _name(rgb: Pixels) -> BackgroundColor:
    distances = [np.linalg.norm(rgb - np.asarray(known)) for known in BACKGROUND_RGB.values()]
    return list(BACKGROUND_RGB)[int(np.argmin(distances))]


def _grown(mask: Mask) -> Mask:
    """The mask and a rim of `_RIM_PX` pixels, where edges and compression blur the background."""
    grown = mask.copy()
    for _ in range(_RIM_PX):
        grown[1:] |= grown[:-1].copy()
        grown[:-1] |= grown[1:].copy()
        grown[:, 1:] |= grown[:, :-1].copy()
        grown[:, :-1] |= grown[:, 1:].copy()
    return grown


def _explained_by_slope(
    shades: npt.NDArray[np.float32], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> float:
    """Share of the variance that a tilted plane explains."""
    places = np.stack([np.ones_like(rows), rows, columns], axis=1).astype(np.float64)
    values = shades.astype(np.float64)
    weights = np.linalg.solve(places.T @ places, places.T @ values)
    return 1 - float(np.var(values - places @ weights) / np.var(values))


def _explained_by_lines(shades: npt.NDArray[np.float32], lines: npt.NDArray[np.intp]) -> float:
    """Share of the variance that is between lines (rows or columns) rather than within them."""
    counts = np.bincount(lines)
    means = np.bincount(lines, weights=shades) / np.maximum(counts, 1)
    return float(np.average((means - shades.mean()) ** 2, weights=counts) / np.var(shades))
