"""How many tokens a picture counts for, and the size at which a model looks at it.

Families, sizes and factors are dated data in `image_tokens.json`. A model that is not in the table is not guessed at
from its relatives: `image_tokens` is None for it, and `most_image_tokens` assumes the densest grid in use, one token
per 14 px patch. The same holds for a `detail` that a model is known not to take.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sgv_data.api.prices import plain_model
from sgv_data.manifest import Teacher

_DENSEST_PATCH_PX = 14
_DEFAULT_PATCH_PX = 32


@dataclass(frozen=True, slots=True)
class Grid:
    """How one model counts one picture at one detail: fit inside `fit_px`, then the shorter side to `short_px`, then
    shrink to `max_cells` cells of `cell_px`; each cell counts `per_cell` tokens on top of `base`.

    `fit_px` None: the size is not limited, or how it is limited is not known. More than `rejected_above` cells: the
    provider turns the picture down.
    """

    fit_px: int | None
    short_px: int | None
    cell_px: int
    max_cells: int | None
    base: int
    per_cell: float
    rejected_above: int | None = None

    def used_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The size the model works with. Applied to its own result it changes nothing."""
        size = (width_px, height_px) if self.fit_px is None else fitted(width_px, height_px, self.fit_px)
        if self.short_px is not None:
            size = _short_side(*size, self.short_px)
        if self.max_cells is not None and _cells(*size, self.cell_px) > self.max_cells:
            size = _within_cells(*size, self.cell_px, self.max_cells)
        return size

    def cells(self, width_px: int, height_px: int) -> int:
        """How many tiles or patches the used picture has."""
        return _cells(*self.used_size(width_px, height_px), self.cell_px)

    def tokens(self, width_px: int, height_px: int) -> int:
        """What is billed."""
        if not self.per_cell:
            return self.base
        # The product is rounded first: 1.2 * 2,500 must not become 3,001 by a rounding error of the machine.
        return self.base + math.ceil(round(self.cells(width_px, height_px) * self.per_cell, 6))


def image_tokens(model: str, width_px: int, height_px: int, detail: str = "high") -> int | None:
    """Tokens billed for one picture, or None for an unknown model. `detail`: low, high, auto or original."""
    grid = grid_of(model, detail)
    return None if grid is None else grid.tokens(width_px, height_px)


def most_image_tokens(model: str, width_px: int, height_px: int, detail: str = "high") -> int:
    """`image_tokens`, or for an unknown model an upper bound."""
    known = image_tokens(model, width_px, height_px, detail)
    return _cells(width_px, height_px, _DENSEST_PATCH_PX) if known is None else known


def rejected_patches(model: str, width_px: int, height_px: int, detail: str = "high") -> int | None:
    """How many patches a picture has that the provider turns down for having too many; None for any other."""
    grid = grid_of(model, detail)
    if grid is None or grid.rejected_above is None:
        return None
    cells = grid.cells(width_px, height_px)
    return cells if cells > grid.rejected_above else None


def used_size(model: str, width_px: int, height_px: int, detail: str = "high") -> tuple[int, int]:
    """The size at which the model looks at a picture: sent at that size it counts for the same tokens.

    Where a model or its limit is not known, the size within 2048 x 2048 px.
    """
    grid = grid_of(model, detail)
    if grid is None or grid.fit_px is None:
        return fitted(width_px, height_px, _table()["unknown_fit_px"])
    return grid.used_size(width_px, height_px)


def sent_size(teacher: Teacher, width_px: int, height_px: int) -> tuple[int, int]:
    """The size at which a picture goes over the wire, by the manifest's `teacher.image`."""
    spec = teacher.image
    if spec.max_side_px == "model":
        return used_size(teacher.model, width_px, height_px, spec.detail)
    return fitted(width_px, height_px, spec.max_side_px)


def sizing_name(teacher: Teacher) -> str:
    """Names what decides `sent_size`: equal names give equal sizes, whatever the model."""
    spec = teacher.image
    if spec.max_side_px != "model":
        return f"side{spec.max_side_px}"
    grid = grid_of(teacher.model, spec.detail)
    if grid is None or grid.fit_px is None:
        return f"side{_table()['unknown_fit_px']}"
    short = f"-short{grid.short_px}" if grid.short_px else ""
    cells = f"-{grid.max_cells}x{grid.cell_px}" if grid.max_cells else ""
    return f"fit{grid.fit_px}{short}{cells}"


def fitted(width_px: int, height_px: int, max_side_px: int) -> tuple[int, int]:
    """The size after scaling down (never up) to a longer side of `max_side_px`."""
    longer = max(width_px, height_px)
    if longer <= max_side_px:
        return width_px, height_px
    return max(1, round(width_px * max_side_px / longer)), max(1, round(height_px * max_side_px / longer))


@cache
def grid_of(model: str, detail: str) -> Grid | None:
    """The rule for a model and a detail; None where one of them is not known."""
    table, name = _table(), plain_model(model)
    if name in table["tile_models"]:
        return _tile_grid({**table["tile_defaults"], **table["tile_models"][name]}, detail)
    if name in table["grid_models"]:
        rule = table["grid_models"][name]
        return Grid(None, None, rule["tile_px"], None, 0, rule["per_tile"])
    if name in table["patch_models"]:
        return _patch_grid(table, name, detail)
    return None


def _tile_grid(rule: dict[str, Any], detail: str) -> Grid | None:
    if detail == "low":
        return Grid(rule["low_px"], None, rule["tile_px"], None, rule["base"], 0)
    if detail not in ("high", "auto"):
        return None
    return Grid(rule["fit_px"], rule["short_px"], rule["tile_px"], None, rule["base"], rule["per_tile"])


def _patch_grid(table: dict[str, Any], name: str, detail: str) -> Grid | None:
    rule = table["patch_models"][name]
    size_name: str | None = table["original"].get(name) if detail == "original" else rule.get(detail)
    if size_name is None:
        return None
    size = table["patch_sizes"][size_name]
    return Grid(
        fit_px=size["fit_px"],
        short_px=None,
        cell_px=rule.get("patch_px", _DEFAULT_PATCH_PX),
        max_cells=size["max_patches"],
        base=0,
        per_cell=float(rule["multiplier"]),
        rejected_above=table["rejected_above_patches"],
    )


def _short_side(width_px: int, height_px: int, short_px: int) -> tuple[int, int]:
    short = min(width_px, height_px)
    if short <= short_px:
        return width_px, height_px
    longer = math.floor(max(width_px, height_px) * short_px / short)
    return (longer, short_px) if width_px > height_px else (short_px, longer)


def _within_cells(width_px: int, height_px: int, cell_px: int, max_cells: int) -> tuple[int, int]:
    scale = math.sqrt(cell_px**2 * max_cells / (width_px * height_px))
    across, down = width_px * scale / cell_px, height_px * scale / cell_px
    if across >= 1 and down >= 1:
        scale *= min(math.floor(across) / across, math.floor(down) / down)
    return max(1, math.floor(width_px * scale)), max(1, math.floor(height_px * scale))


def _cells(width_px: int, height_px: int, cell_px: int) -> int:
    # Whole-number ceilings: exact, and this is done for every size of a million pictures.
    return -(-width_px // cell_px) * -(-height_px // cell_px)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath("image_tokens.json").read_text(encoding="utf-8"))
    return table
