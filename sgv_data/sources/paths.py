"""File names as text that always fits into a table, and back; where relative names count from."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

_FIRST_SURROGATE, _LAST_SURROGATE = 0xDC80, 0xDCFF  # how Python spells bytes of a name that are not UTF-8


def quote_path(path: str, also: str = "") -> str:
    """`path` with `%`, control characters, bytes that are not UTF-8 and characters of `also` as `%XX`."""
    return "".join(_quoted(character, also) for character in path)


def _quoted(character: str, also: str) -> str:
    code = ord(character)
    if _FIRST_SURROGATE <= code <= _LAST_SURROGATE:
        return f"%{code - 0xDC00:02X}"
    if code < 0x20 or code == 0x7F or character == "%" or character in also:
        return f"%{code:02X}"
    return character


def unquote_path(quoted: str) -> str:
    """The path that `quote_path` was given, as `os` functions take it."""
    return os.fsdecode(unquote_to_bytes(quoted))


def fixed_part(path: str) -> Path:
    """The folder that relative names of files count from: the part of a glob without wildcards, or a file's folder."""
    place = Path(path)
    if place.is_dir():
        return place
    if place.is_file() or not glob.has_magic(path):
        return place.parent
    fixed = []
    for part in place.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)
