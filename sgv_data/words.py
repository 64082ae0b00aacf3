"""Captions as words: what counts, repetition and leaks are measured in."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

# A caption of more words is too long under any sensible policy; repetition and leaks are looked for in its start.
MAX_WORDS_SCANNED = 20_000

# Zero-width characters, direction marks and soft hyphens: they would hide equal words from each other.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]"
)

# Written without spaces: every character is a token. Han and kana; then Thai, Lao, Myanmar and Khmer.
_IDEOGRAPHIC = "\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SOUTH_EAST_ASIAN = "\u0e01-\u0e7f\u0e81-\u0eff\u1000-\u109f\u1780-\u17ff"
_SPACELESS = re.compile(f"[{_IDEOGRAPHIC}{_SOUTH_EAST_ASIAN}]")
_IDEOGRAPHS = re.compile(f"[{_IDEOGRAPHIC}]")

# Characters per word, rounded: Chinese words have about 1.5 to 1.7 characters in segmented corpora, Thai about 4.
_IDEOGRAPHS_PER_WORD = 1.6
_LETTERS_PER_WORD = 4.0

_CONTROL = "".join(map(chr, range(32)))
_EDGES = string.punctuation + "“”‘’«»‹›„‚…—–·•¿¡،؛؟。、，！？：；「」『』（）《》〈〉【】｡" + _CONTROL


@dataclass(frozen=True, slots=True)
class Words:
    """A caption's tokens: lower case, no punctuation at the edges.

    `tokens` are words, or single characters in scripts without spaces; at most MAX_WORDS_SCANNED. `count` is the
    number of words in the whole caption; `spaceless` says that most tokens are single characters.
    """

    tokens: list[str]
    count: int
    spaceless: bool


def visible(text: str) -> str:
    """`text` without characters that have no width and with plain apostrophes."""
    if text.isascii():
        return text
    return _INVISIBLE.sub("", text).replace("’", "'")


def split_words(shown: str) -> Words:
    """The words of a text that `visible` has passed; a text without letters or digits has none."""
    if not any(map(str.isalnum, shown)):
        return Words([], 0, spaceless=False)
    if not shown.isascii() and _SPACELESS.search(shown):
        return _split_spaceless(shown)
    tokens = [word for word in [part.strip(_EDGES) for part in shown.lower().split()] if word]
    return Words(tokens[:MAX_WORDS_SCANNED], len(tokens), spaceless=False)


def _split_spaceless(shown: str) -> Words:
    parts = [part.strip(_EDGES) for part in _SPACELESS.sub(r" \g<0> ", shown.lower()).split()]
    tokens = [part for part in parts if part]
    num_characters = sum(1 for _ in _SPACELESS.finditer(shown))
    num_ideographs = sum(1 for _ in _IDEOGRAPHS.finditer(shown))
    spaced = max(len(tokens) - num_characters, 0)
    count = spaced + num_ideographs / _IDEOGRAPHS_PER_WORD + (num_characters - num_ideographs) / _LETTERS_PER_WORD
    return Words(tokens[:MAX_WORDS_SCANNED], max(1, round(count)), spaceless=num_characters * 2 > len(tokens))


def runs_of(tokens: list[str], length: int) -> list[tuple[str, ...]]:
    """Every run of `length` tokens, in order."""
    return list(zip(*(tokens[start:] for start in range(length)), strict=False))
