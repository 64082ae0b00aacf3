"""Addresses and numbers by which a person can be reached. What counts is their form; nothing is looked up."""

from __future__ import annotations

import re

_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}(?!\w)")
_DIGITS = frozenset("0123456789")
_NUMBER = re.compile(r"\d{2}\D?\d")
_PHONE = re.compile(
    r"(?<![\w.,/-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"
    r"|\(\d{2,4}\)[ .-]?\d{3,4}[ .-]\d{3,4}"
    r"|\d{3}[.-]\d{3}[.-]\d{4}|\d{3} \d{3} \d{4}"
    r"|0\d{2,4}[ /-]\d{3,4}(?:[ -]?\d{2,4}){1,2}"
    r")(?![\w/-]|[.,]\d)"
)


def num_personal(text: str, characters: set[str]) -> int:
    """How many e-mail addresses and telephone numbers a text holds. `characters`: those of the text."""
    count = sum(1 for _ in _MAIL.finditer(text)) if "@" in characters else 0
    if not characters.isdisjoint(_DIGITS) and _NUMBER.search(text):
        count += sum(1 for _ in _PHONE.finditer(text))
    return count
