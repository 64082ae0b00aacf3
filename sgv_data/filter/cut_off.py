"""Does a text stop in the middle of a sentence? Looks at its last characters only."""

from __future__ import annotations

import re

# Full stops, question and exclamation marks of Latin, CJK, Arabic, Urdu, Devanagari, Burmese, Khmer, Tibetan, Armenian
# and Ethiopic writing.
_TERMINALS = frozenset(".!?。！？｡．؟۔।॥။៕។།։።፧‼⁇⁈⁉")
_CLOSERS = frozenset("\"'”’»›«)]}）】」』》〉*_`~")
_OPEN_END = frozenset(",;:-–—([{“‘„（「『/&+=、，；：،")
_UNMARKED = re.compile("[\u0e00-\u0eff]")  # Thai and Lao end sentences without a mark
_PICTOGRAPH = re.compile("[\u2600-\u27bf\u2b50\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f]")
_TAGS = re.compile(r"(?:</?[a-zA-Z]{1,10}\s?/?>\s*)+$")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:mr|mrs|ms|dr|prof|st|mt|no|nos|vs|approx|e\.g|i\.e|cf|ca|fig|incl)\.$", re.IGNORECASE
)
_INNER_END = re.compile(r"[.!?][\"'”’)]?\s+\S")
_DANGLING_WORDS = (
    "a an the and or but nor of to in on at by with for from into onto over under above below near behind between "
    "beside as is are was were be being been has have had its their his her this that these those which who whose "
    "where while when than very more most"
)
_DANGLING = frozenset(_DANGLING_WORDS.split())

_TAIL_CHARS = 80
# COCO-style captions (one sentence of about 10 words) are often written without a full stop.
_UNPUNCTUATED_WORDS = 15


def stops_short(shown: str, num_words: int) -> float:
    """How sure it is, 0 to 1, that a text is unfinished. 0 for an empty one: it is no cut-off.

    1.0: ends with an open mark, a dangling word, or unmarked after sentences that have marks. 0.7: trails off in dots,
    or a long text with no sentence end at all. 0.6: stops at an abbreviation or inside a bracket or quotation.
    """
    tail = _bare_tail(shown)
    if not num_words or not tail:
        return 0.0
    last = tail[-1]
    if last in _TERMINALS:
        return _terminal_doubt(shown, tail)
    if last == "…":
        return 0.7
    if last in _OPEN_END or _last_word(tail) in _DANGLING:
        return 1.0
    if _UNMARKED.match(last):
        return 0.0
    if _INNER_END.search(shown) or any(mark in shown for mark in "。।۔؟"):
        return 1.0
    return 0.7 if num_words > _UNPUNCTUATED_WORDS else 0.2


def _bare_tail(shown: str) -> str:
    """The last characters without closing marks, tags and pictographs behind the last word or full stop."""
    tail = _TAGS.sub("", shown[-_TAIL_CHARS:].rstrip())
    while tail and (tail[-1] in _CLOSERS or tail[-1].isspace() or _PICTOGRAPH.match(tail[-1])):
        tail = tail[:-1]
    return tail


def _last_word(tail: str) -> str:
    return tail.rpartition(" ")[2].lower()


def _terminal_doubt(shown: str, tail: str) -> float:
    if tail.endswith(("...", ". .")):
        return 0.7
    if _ABBREVIATION.search(tail):
        return 0.6
    for opening, closing in ("()", "“”", "[]", "（）", "「」"):
        if shown.rfind(opening) > shown.rfind(closing):
            return 0.6
    return 0.0
