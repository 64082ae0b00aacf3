"""What a token costs: a dated table in `prices.json`, or the manifest's own price."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sgv_data.manifest import Teacher

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """US dollars per million tokens. `dated` says how old the knowledge is; empty when the manifest gave it."""

    input_usd: float
    output_usd: float
    dated: str = ""

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.input_usd + completion_tokens * self.output_usd) / 1_000_000


def plain_model(model: str) -> str:
    """A model's name without vendor prefix and date: `openai/gpt-4o-2024-08-06` is `gpt-4o`.

    Nothing else is taken off: `gpt-5-pro` is another model than `gpt-5`.
    """
    return _DATE.sub("", model.rsplit("/", 1)[-1].lower())


def price_of(teacher: Teacher) -> TokenPrice | None:
    """The manifest's price, else that of the table, else None: unknown is not free."""
    if teacher.price is not None:
        return TokenPrice(teacher.price.input_usd, teacher.price.output_usd)
    table = _table()
    found = table["models"].get(plain_model(teacher.model))
    return TokenPrice(float(found[0]), float(found[1]), table["dated"]) if found else None


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath("prices.json").read_text(encoding="utf-8"))
    return table
