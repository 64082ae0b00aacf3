"""Scores of a caption: pure functions of its text, of how asking for it ended, and of the instructions of the run.

No score looks at thresholds; `policy.py` decides. All are linear in the length of the caption.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgv_data.api.refusal import refusal_share
from sgv_data.filter.cut_off import stops_short
from sgv_data.filter.phrases import RUN_CHARACTERS, RUN_WORDS, Instructions
from sgv_data.records import Outcome
from sgv_data.words import Words, runs_of, split_words, visible

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
# a short caption, and one copied sentence is seen among ten good ones.
REPEAT_STRETCH = 30
LEAK_STRETCH = 25


@dataclass(frozen=True, slots=True)
class Scores:
    """What is known about one caption. Shares and scores lie between 0 (nothing wrong) and 1."""

    refusal_score: float
    cut_off_score: float
    leak_share: float
    repeated_share: float
    num_words: int
    num_chars: int


def score(text: str, finish_reason: str, outcome: Outcome, instructions: Instructions) -> Scores:
    """The scores of one caption; any string, lone surrogates included, gets them."""
    shown = visible(text)
    words = split_words(shown)
    size = RUN_CHARACTERS if words.spaceless else RUN_WORDS
    runs = runs_of(words.tokens, size)
    distinct = set(runs)
    return Scores(
        refusal_score=refusal_score(shown, words.count, finish_reason, outcome),
        cut_off_score=cut_off_score(shown, words.count, finish_reason, outcome),
        leak_share=leak_share(words, runs, distinct, instructions),
        # Whatever repeats or loops has some shorter run twice: most captions have none and are done here.
        repeated_share=0.0 if len(distinct) == len(runs) else repeated_share(words),
        num_words=words.count,
        num_chars=len(text),
    )


def refusal_score(shown: str, num_words: int, finish_reason: str, outcome: Outcome) -> float:
    """1.0 for what the server itself calls refused or filtered; else how much of the text is refusal."""
    if outcome is Outcome.REFUSED or finish_reason == "content_filter":
        return 1.0
    return refusal_share(shown, num_words)


def cut_off_score(shown: str, num_words: int, finish_reason: str, outcome: Outcome) -> float:
    """1.0 for what the server stopped at its token limit; else how sure the text is unfinished."""
    if outcome is Outcome.TRUNCATED or finish_reason == "length":
        return 1.0
    return stops_short(shown, num_words)


def leak_share(
    words: Words, runs: list[tuple[str, ...]], distinct: set[tuple[str, ...]], instructions: Instructions
) -> float:
    """Share of words inside runs that also stand in an instruction, in the densest stretch of LEAK_STRETCH words."""
    known = instructions.character_runs if words.spaceless else instructions.word_runs
    if distinct.isdisjoint(known):
        return 0.0
    size = len(runs[0])
    marked = bytearray(len(words.tokens))
    for position, run in enumerate(runs):
        if run in known:
            marked[position : position + size] = b"\x01" * size
    return densest_share(marked, LEAK_STRETCH)


def repeated_share(words: Words) -> float:
    """Share of words that repeat a run of the same caption or lie in a loop, in the densest stretch of REPEAT_STRETCH
    words. The first occurrence of a run does not count."""
    tokens = words.tokens
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


def _mark_loops(tokens: list[str], period: int, marked: bytearray) -> None:
    """Marks every stretch in which each word equals the one `period` before it, three periods long or more."""
    needed = max(2 * period, LOOP_MIN_WORDS - period)
    length = 0
    for position in range(period, len(tokens) + 1):
        if position < len(tokens) and tokens[position] == tokens[position - period]:
            length += 1
            continue
        if length >= needed:
            marked[position - length - period : position] = b"\x01" * (length + period)
        length = 0


def densest_share(marked: bytearray, stretch: int) -> float:
    """The largest share of marked words in any `stretch` words in a row; over all words if there are fewer."""
    if not marked:
        return 0.0
    width = min(stretch, len(marked))
    inside = best = sum(marked[:width])
    for position in range(width, len(marked)):
        inside += marked[position] - marked[position - width]
        best = max(best, inside)
    return best / width
