"""Characters that are there because bytes were read in the wrong encoding, or that no writing needs."""

from __future__ import annotations

import re

# Controls but tab and line ends, lone surrogates, the replacement character, noncharacters, private use.
_NEVER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd\ufdd0-\ufdef\ufffe\uffff\ue000-\uf8ff]")
# Zero-width characters and soft hyphens between Latin letters, where no writing needs them; Persian, Indic scripts and
# pictographs do need joiners.
_HIDDEN = re.compile("(?<=[A-Za-z\u00c0-\u024f])[\u00ad\u200b-\u200d\u2060\ufeff]+(?=[A-Za-z\u00c0-\u024f])")
_ESCAPED = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[nrt](?![a-z])|\\\"|&(?:#x?[0-9a-fA-F]{2,6}|[a-z]{2,6});")
# What UTF-8 read as Windows-1252, Latin-1 or Mac Roman cannot do without. Only then is a text worth a closer look.
_SUSPECT = re.compile("[ÂÃÄÅÎÏÐÑØÙâãäåæçèéïðÐР√‚][^\\sA-Za-z]|[ÂÃ]\u00a0|[РС][\u0400-\u040f\u0450-\u045f\u00a0-\u00bf]")


def num_garbled(text: str) -> int:
    """How many characters, or groups of characters, of a text are the work of a wrong encoding or an escape.

    Mojibake is told from accents by the library ftfy; it counts once per place.
    """
    count = 0
    if "\\" in text or "&" in text:
        count += sum(1 for _ in _ESCAPED.finditer(text))
    if text.isascii():
        return count if text.isprintable() else count + sum(1 for _ in _NEVER.finditer(text))
    count += sum(1 for _ in _NEVER.finditer(text)) + sum(1 for _ in _HIDDEN.finditer(text))
    return count + _num_mojibake(text)


def _num_mojibake(text: str) -> int:
    if not _SUSPECT.search(text):
        return 0
    from ftfy.badness import badness

    return int(badness(text))
