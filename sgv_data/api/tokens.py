"""How many tokens a picture counts for. Families, sizes and factors are dated data in `image_tokens.json`.

A model that is not in the table is not guessed at from its relatives: `image_tokens` is None for it, and
`most_image_tokens` assumes the densest grid in use, one token per 14 px patch.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

from sgv_data.api.prices import plain_model

_DENSEST_PATCH_PX = 14


def image_tokens(model: str, width_px: int, height_px: int, detail: str = "high") -> int | None:
    """Tokens billed for one picture, or None for an unknown model. `detail`: low, high, auto or original."""
    table, name = _table(), plain_model(model)
    rule: dict[str, Any]
    if name in table["tile_models"]:
        rule = {**table["tile_defaults"], **table["tile_models"][name]}
        return _tile_tokens(rule, width_px, height_px, detail)
    if name in table["grid_models"]:
        rule = table["grid_models"][name]
        return int(rule["per_tile"] * _cells(width_px, height_px, rule["tile_px"]))
    if name in table["patch_models"]:
        return _patch_tokens(table, name, width_px, height_px, detail)
    return None


def most_image_tokens(model: str, width_px: int, height_px: int, detail: str = "high") -> int:
    """`image_tokens`, or for an unknown model an upper bound."""
    known = image_tokens(model, width_px, height_px, detail)
    return _cells(width_px, height_px, _DENSEST_PATCH_PX) if known is None else known


def fitted(width_px: int, height_px: int, max_side_px: int) -> tuple[int, int]:
    """The size after scaling down (never up) to a longer side of `max_side_px`."""
    longer = max(width_px, height_px)
    if longer <= max_side_px:
        return width_px, height_px
    return max(1, round(width_px * max_side_px / longer)), max(1, round(height_px * max_side_px / longer))


def _tile_tokens(rule: dict[str, Any], width_px: int, height_px: int, detail: str) -> int:
    if detail == "low":
        return int(rule["base"])
    width, height = fitted(width_px, height_px, rule["fit_px"])
    short, short_px = min(width, height), rule["short_px"]
    if short > short_px:
        longer = math.floor(max(width, height) * short_px / short)
        width, height = (longer, short_px) if width > height else (short_px, longer)
    return int(rule["base"] + rule["per_tile"] * _cells(width, height, rule["tile_px"]))


def _patch_tokens(table: dict[str, Any], name: str, width_px: int, height_px: int, detail: str) -> int | None:
    rule = table["patch_models"][name]
    size_name: str | None = table["original"].get(name) if detail == "original" else rule[detail]
    if size_name is None:
        return None
    size, patch_px = table["patch_sizes"][size_name], rule.get("patch_px", 32)
    width, height = fitted(width_px, height_px, size["fit_px"])
    budget = size["max_patches"]
    if budget is not None and _cells(width, height, patch_px) > budget:
        scale = math.sqrt(patch_px**2 * budget / (width * height))
        across, down = width * scale / patch_px, height * scale / patch_px
        if across >= 1 and down >= 1:
            scale *= min(math.floor(across) / across, math.floor(down) / down)
        width, height = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    # The product is rounded first: 1.2 * 2,500 must not become 3,001 by a rounding error of the machine.
    return math.ceil(round(_cells(width, height, patch_px) * float(rule["multiplier"]), 6))


def _cells(width_px: int, height_px: int, cell_px: int) -> int:
    return math.ceil(width_px / cell_px) * math.ceil(height_px / cell_px)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath("image_tokens.json").read_text(encoding="utf-8"))
    return table
