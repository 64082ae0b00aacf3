"""Lists, headings, tables, HTML and Markdown, where prose was asked for. All patterns look at a bounded stretch."""

from __future__ import annotations

import re

_ITEM = re.compile(r"\s{0,12}(?:[-*+•‣◦▪●–—]\s|\(?\d{1,3}[.):]\s|\(?[a-zA-Z][.)]\s(?=\S)|[①-⑳])")
_HEADING = re.compile(r"\s{0,3}(?:#{1,6}\s|\*\*[^*\n]{1,60}:?\*\*:?\s*$|\|.{0,400}\|\s*$|```)")
_LABEL = re.compile(r"\s{0,12}[*_]{0,2}[A-Z][\w /&-]{1,40}[*_]{0,2}:[*_]{0,2}(?:\s|$)")
_INLINE_NUMBER = re.compile(r"(?:^|[\s:;.])\(?(\d{1,2})[.)]\s")
_INLINE_BULLET = re.compile(r"(?:^|\s)[•‣◦▪●]\s?\S|[.:;]\s[-*]\s\S")
_MARKS = re.compile(
    r"\*\*[^*\n]{1,200}\*\*|__[^_\n]{1,200}__|```|!?\[[^\]\n]{1,200}\]\([^)\n]{1,300}\)"
    r"|</?[a-zA-Z][a-zA-Z0-9]{0,9}(?:\s[^<>\n]{0,200})?/?>|(?:^|\n)#{1,6}\s|^\s{0,3}[{\[]\s{0,3}\""
)
_BULLETS = frozenset("•‣◦▪●*")
_MARK_CHARACTERS = frozenset("*_`<[#{")
_NUMBERED = frozenset("123")
_INLINE_ITEMS = 3


def list_share(text: str, characters: set[str]) -> float:
    """Share of non-empty lines that are items, headings, rows or labels; 1.0 for a list written in one line.

    One item alone is no list; three labels are. `characters`: those of the text.
    """
    if _counts_up(text, characters) or _has_bullets(text, characters):
        return 1.0
    if "\n" not in characters and not text.lstrip().startswith(("#", "```")):
        return 0.0
    lines = [line for line in text.splitlines() if line.strip()]
    num_items = sum(1 for line in lines if _ITEM.match(line))
    num_headings = sum(1 for line in lines if _HEADING.match(line))
    num_labels = sum(1 for line in lines if _LABEL.match(line))
    structured = (num_items if num_items > 1 else 0) + num_headings
    return min(1.0, max(structured, num_labels if num_labels > 2 else 0) / max(len(lines), 1))


def num_marks(text: str, characters: set[str]) -> int:
    """How many Markdown or HTML marks a text holds: bold, links, headings, fences, tags, an opening of JSON."""
    if characters.isdisjoint(_MARK_CHARACTERS):
        return 0
    return sum(1 for _ in _MARKS.finditer(text))


def _has_bullets(text: str, characters: set[str]) -> bool:
    if characters.isdisjoint(_BULLETS) and " - " not in text:
        return False
    return sum(1 for _ in _INLINE_BULLET.finditer(text)) >= _INLINE_ITEMS


def _counts_up(text: str, characters: set[str]) -> bool:
    """Whether 1, 2, 3 … stand before items within running text."""
    wanted = 1
    if not characters >= _NUMBERED:
        return False
    for found in _INLINE_NUMBER.finditer(text):
        if int(found.group(1)) == wanted:
            wanted += 1
    return wanted > _INLINE_ITEMS
