"""How many tokens a text probably counts for, without a tokenizer's files: a dated rule in `text_tokens.json`.

It is an estimate for plans and for the limiter; what caps money is `wire.RequestTemplate.most_text_tokens`. Bills
correct it (`calibration.py`).
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

_PIECES = re.compile(r"[^\W\d_]+|\d+|\n+|[^\w\s]+|_+")
_WORDS_ASKED = re.compile(r"(\d[\d,]*)\s*(?:to|and|or|-|–)\s*(\d[\d,]*)\s+words|(\d[\d,]*)\s+words", re.IGNORECASE)
_ASCII_LETTER = 0.25


def text_tokens(text: str) -> int:
    """What a text probably counts for."""
    return math.ceil(round(sum(map(_piece_tokens, _PIECES.findall(text))), 6))


def message_tokens() -> int:
    """What a chat adds around the parts of its one message."""
    return int(_table()["message_tokens"])


def caption_tokens(prompt_text: str) -> int:
    """What an answer to a prompt probably counts for: by the number of words it asks for, else as in the paper."""
    caption = _table()["caption"]
    asked = _WORDS_ASKED.search(prompt_text)
    if asked is None:
        return int(caption["tokens"])
    numbers = [int(number.replace(",", "")) for number in asked.groups() if number]
    return max(1, round(sum(numbers) / len(numbers) * float(caption["tokens_per_word"])))


@lru_cache(maxsize=1 << 16)
def _piece_tokens(piece: str) -> float:
    table = _table()
    if piece[0] == "\n":
        return 1.0
    if piece[0].isdecimal():
        return float(math.ceil(len(piece) / table["digits_per_token"]))
    if not piece[0].isalpha():
        num_ascii = sum(each.isascii() for each in piece)
        others = (len(piece) - num_ascii) * float(table["other_per_character"])
        return others + math.ceil(num_ascii / int(table["marks_per_token"]))
    if piece.isascii():
        word = table["word"]
        return 1.0 + max(0, len(piece) - int(word["letters"])) * float(word["per_further_letter"])
    return max(1.0, sum(map(_letter_tokens, piece)))


def _letter_tokens(letter: str) -> float:
    if letter.isascii():
        return _ASCII_LETTER
    starts, scripts = _scripts()
    position = bisect_right(starts, ord(letter)) - 1
    if position < 0 or ord(letter) > int(scripts[position]["to"], 16):
        return float(_table()["other_per_character"])
    return float(scripts[position]["per_letter"])


@cache
def _scripts() -> tuple[list[int], list[dict[str, Any]]]:
    scripts = sorted(_table()["scripts"], key=lambda script: int(script["from"], 16))
    return [int(script["from"], 16) for script in scripts], scripts


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath("text_tokens.json").read_text(encoding="utf-8"))
    return table
