"""Scores of a caption: pure functions of its text, of how asking for it ended, and of the instructions of the run.

No score looks at thresholds; `policy.py` decides. All are linear in the length of the caption.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgv_data.api.refusal import refusal_share
from sgv_data.filter.cut_off import stops_short
from sgv_data.filter.encoding import num_garbled
from sgv_data.filter.language import language_of
from sgv_data.filter.markup import list_share, num_marks
from sgv_data.filter.personal import num_personal
from sgv_data.filter.phrases import Instructions, leak_share
from sgv_data.filter.repetition import repeated_share
from sgv_data.filter.word_lists import HEDGES, STOCK_OPENINGS, TOXIC, speculation_count
from sgv_data.records import Outcome
from sgv_data.words import split_words, visible

# Raised whenever a score of an unchanged caption can change: stored scores of another version are made anew.
SCORING_VERSION = 1

OPENING_WORDS = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """What is known about one caption by itself. Shares and scores lie between 0 (nothing wrong) and 1.

    `hedge_density` and `speculation_density` count words and phrases per 100 words. `language` is an ISO 639-1 code,
    empty where it cannot be told; `foreign_share` is the share of words in another language than that.
    """

    refusal_score: float
    cut_off_score: float
    leak_share: float
    repeated_share: float
    num_words: int
    num_chars: int
    num_garbled: int
    list_share: float
    num_marks: int
    language: str
    foreign_share: float
    hedge_density: float
    speculation_density: float
    num_personal: int
    num_toxic: int
    stock_opening: int


def score(text: str, finish_reason: str, outcome: Outcome, instructions: Instructions) -> Scores:
    """The scores of one caption; any string, lone surrogates included, gets them."""
    shown = visible(text)
    words = split_words(shown)
    characters, distinct = set(text), set(words.tokens)
    language, foreign_share = language_of(words)
    per_hundred = 100 / max(words.count, 1)
    low = shown.lower()
    return Scores(
        refusal_score=refusal_score(shown, words.count, finish_reason, outcome),
        cut_off_score=cut_off_score(shown, words.count, finish_reason, outcome),
        leak_share=leak_share(words, text, instructions),
        repeated_share=repeated_share(words),
        num_words=words.count,
        num_chars=len(text),
        num_garbled=num_garbled(text),
        list_share=list_share(text, characters),
        num_marks=num_marks(text, characters),
        language=language,
        foreign_share=foreign_share,
        hedge_density=_count_in(words.tokens, distinct, HEDGES) * per_hundred,
        speculation_density=speculation_count(low, distinct) * per_hundred,
        num_personal=num_personal(text, characters),
        num_toxic=_count_in(words.tokens, distinct, TOXIC),
        stock_opening=int(low[:60].lstrip(" \n\t*_#\"'").startswith(STOCK_OPENINGS)),
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


def opening_of(tokens: list[str]) -> str:
    """The first words of a caption, by which openings are counted over a set."""
    return " ".join(tokens[:OPENING_WORDS])


def _count_in(tokens: list[str], distinct: set[str], listed: frozenset[str]) -> int:
    return 0 if distinct.isdisjoint(listed) else sum(map(listed.__contains__, tokens))
