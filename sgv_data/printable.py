"""Text of unknown origin made fit for a terminal or a log: what a server wrote must not move the cursor or lie."""

from __future__ import annotations

import re
import unicodedata

# Escape sequences with their arguments: CSI, then OSC and its relatives up to their end, then any other.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b.?")
_SPACES = re.compile(r"\s+")
# Controls, invisible formatting (also what turns the reading direction), halves of characters, unassigned ones.
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, max_chars: int | None = None) -> str:
    """`text` in one line without escape sequences, control, formatting or broken characters.

    Longer than `max_chars`, it is cut and ends in `…`.
    """
    text = _SPACES.sub(" ", _ESCAPES.sub("", text))
    text = "".join(char for char in text if unicodedata.category(char) not in _DROPPED).strip()
    if max_chars is not None and len(text) > max_chars:
        return text[: max(0, max_chars - 1)].rstrip() + "…"
    return text
