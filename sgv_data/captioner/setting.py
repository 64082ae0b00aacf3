"""How a caption is decoded. Imports no torch: whoever asks for captions needs it, not only who writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LOOP_MAX_PERIOD_TOKENS = 32
LOOP_MIN_TURNS = 4
LOOP_MIN_TOKENS = 48
"""A loop: the same stretch of at most 32 tokens at least 4 times in a row and at least 48 tokens together. Lists of
like things ("a red car, a red car, ...") stay below it; a captioner that has passed it never comes out again."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Decoding of one caption. `temperature` 0: always the likeliest token. `stops_loops`: a tail that only repeats
    itself ends the caption."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stops_loops: bool = False

    @property
    def samples(self) -> bool:
        """Whether chance has a part in it."""
        return self.temperature > 0

    def described(self) -> dict[str, Any]:
        """The decoding as it is recorded with every caption."""
        described: dict[str, Any] = {
            "do_sample": self.samples,
            "num_beams": 1,
            "repetition_penalty": self.repetition_penalty,
            "max_new_tokens": self.max_new_tokens,
        }
        if self.samples:
            described |= {"temperature": self.temperature, "top_p": self.top_p}
        if self.stops_loops:
            described["stops_loops"] = True
        return described


def seed_of(seed: int, image_id: str, asking: int) -> int:
    """The seed of one caption, from 0 to 2^31 - 1: by the run's seed, the picture and how often it was asked before.

    Neither batch nor order nor machine has a part in it.
    """
    drawn = hashlib.sha256(f"{seed}\n{asking}\n{image_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(drawn[:4], "big") >> 1


def ends_in_loop(tokens: Sequence[int]) -> bool:
    """Whether the end of `tokens` is a loop."""
    num = len(tokens)
    for period in range(1, LOOP_MAX_PERIOD_TOKENS + 1):
        length = max(LOOP_MIN_TURNS * period, LOOP_MIN_TOKENS)
        if length > num:
            continue
        if all(tokens[place] == tokens[place - period] for place in range(num - 1, num - length + period - 1, -1)):
            return True
    return False
