"""What a token costs: a dated table in `prices.json`, or the manifest's own price."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sgv_data.manifest import Price, Teacher

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")

LANES = ("live", "batch", "flex")
"""The lanes that the table knows prices for; flex is the provider's slower live service."""


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """US dollars per million tokens. `dated` says how old the knowledge is; empty when the manifest gave it."""

    input_usd: float
    output_usd: float
    dated: str = ""

    def cost_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.input_usd + completion_tokens * self.output_usd) / 1_000_000


def plain_model(model: str) -> str:
    """A model's name without vendor prefix and date: `openai/gpt-4o-2024-08-06` is `gpt-4o`.

    Nothing else is taken off: `gpt-5-pro` is another model than `gpt-5`.
    """
    return _DATE.sub("", model.rsplit("/", 1)[-1].lower())


def price_of(teacher: Teacher, lane: str | None = None) -> TokenPrice | None:
    """The price in a lane (None: the manifest's), or None: unknown is not free.

    The manifest's own price holds for every lane. `price: unknown` is None whatever the table says.
    """
    if teacher.price == "unknown":
        return None
    if isinstance(teacher.price, Price):
        return TokenPrice(teacher.price.input_usd, teacher.price.output_usd)
    return listed_price(teacher.model, lane or teacher.lane)


def listed_price(model: str, lane: str = "live") -> TokenPrice | None:
    """What the table says about a model in one of `LANES`."""
    table = _table()
    found = table["models"].get(plain_model(model), {}).get(lane)
    return TokenPrice(float(found[0]), float(found[1]), table["dated"]) if found else None


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath("prices.json").read_text(encoding="utf-8"))
    return table
