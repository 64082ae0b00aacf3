"""How much of a caption says again what it has said: repeated runs of words, and loops."""

from __future__ import annotations

from operator import eq, ne

from sgv_data.words import Words, runs_of

# A repeated run: so many words in a row that stood in the caption before. Shorter runs are ordinary English ("on the
# left side of"): 4 words repeat in 5 % of our 155 captions, 5 or more in none (measured 2026-11), but captions with few
# sentence forms repeat more. Compare the 5- to 10-grams of Gopher (Rae et al. 2021, table A1). In scripts without
# spaces a token is one character.
REPEAT_WORDS = 8
REPEAT_CHARACTERS = 14
# A loop: a phrase of up to 7 words at least three times in a row, and at least 8 words together.
LOOP_MAX_PERIOD = 7
LOOP_MIN_WORDS = 8
# Shares are taken in the densest stretch of so many words: a loop at the end of a long caption weighs as much as one in
# a short caption.
REPEAT_STRETCH = 30
# Whatever repeats a run or loops has so many words in a row that all stood there before.
_SEEN_BEFORE = b"\x01" * 6


def repeated_share(words: Words) -> float:
    """Share of words that repeat a run of the same caption or lie in a loop, in the densest stretch of REPEAT_STRETCH
    words. The first occurrence of a run does not count."""
    tokens = words.tokens
    if not _may_repeat(tokens):
        return 0.0
    size = REPEAT_CHARACTERS if words.spaceless else REPEAT_WORDS
    marked = bytearray(len(tokens))
    seen: set[tuple[str, ...]] = set()
    for position, run in enumerate(runs_of(tokens, size)):
        if run in seen:
            marked[position : position + size] = b"\x01" * size
        else:
            seen.add(run)
    for period in range(1, LOOP_MAX_PERIOD + 1):
        _mark_loops(tokens, period, marked)
    return densest_share(marked, REPEAT_STRETCH)


def _may_repeat(tokens: list[str]) -> bool:
    """A cheap test that good captions mostly fail."""
    first = dict(zip(reversed(tokens), range(len(tokens) - 1, -1, -1), strict=True))
    return _SEEN_BEFORE in bytes(map(ne, map(first.__getitem__, tokens), range(len(tokens))))


def _mark_loops(tokens: list[str], period: int, marked: bytearray) -> None:
    """Marks every stretch in which each word equals the one `period` before it, three periods long or more."""
    needed = max(2 * period, LOOP_MIN_WORDS - period)
    same = bytes(map(eq, tokens, tokens[period:]))
    if b"\x01" * needed not in same:
        return
    length = 0
    for position in range(period, len(tokens) + 1):
        if position < len(tokens) and same[position - period]:
            length += 1
            continue
        if length >= needed:
            marked[position - length - period : position] = b"\x01" * (length + period)
        length = 0


def densest_share(marked: bytearray, stretch: int) -> float:
    """The largest share of marked words in any `stretch` words in a row; over all words if there are fewer."""
    if not any(marked):
        return 0.0
    width = min(stretch, len(marked))
    inside = best = sum(marked[:width])
    for position in range(width, len(marked)):
        inside += marked[position] - marked[position - width]
        best = max(best, inside)
    return best / width
