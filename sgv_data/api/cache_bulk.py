"""What the whole cache holds, as sorted arrays of 64-bit numbers: a million requests are looked up in a blink.

A number is the first 16 of the 64 hex digits of a hash. Two of a million hashes share them once in forty million runs,
so they serve to sort out what is surely missing; what they call present is looked at again when the table is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sgv_data.api.cache import ReplyCache
from sgv_data.api.reply import PARSER_VERSION

Numbers = npt.NDArray[np.uint64]

_FEW = 2_000
_HEX = re.compile(r"[0-9a-f]{16}")


def finished_keys(cache: ReplyCache) -> Numbers:
    """The requests with an answer that the present parser calls finished."""
    return _loaded(cache, "key16", "replies WHERE finished = 1 AND parser = ?", (PARSER_VERSION,))


def unjudged_keys(cache: ReplyCache) -> Numbers:
    """The requests with an answer that the present parser has not read yet."""
    parts = [_loaded(cache, "key16", f"replies WHERE parser {sign} ?", (PARSER_VERSION,)) for sign in "<>"]
    return np.sort(np.concatenate(parts))


def sent_pictures(cache: ReplyCache, recipe: str) -> Numbers:
    """The pictures of which it is known what they become under a recipe."""
    return _loaded(cache, "substr(image_sha256, 1, 16)", "sent_images WHERE recipe = ?", (recipe,))


def failed_subjects(cache: ReplyCache, session: str) -> set[str]:
    """The requests and pictures that failed in a session."""
    return {subject for (subject,) in cache.query("SELECT subject FROM failures WHERE session = ?", (session,))}


def number_of(hex_digits: str) -> int:
    """The number of one hash."""
    return int(hex_digits[:16], 16)


def numbers_of(hashes: Iterable[str]) -> Numbers:
    """The numbers of hashes, in their order."""
    return _parsed("".join(text[:16] for text in hashes))


def contains(numbers: Numbers, wanted: Numbers) -> npt.NDArray[np.bool_]:
    """For each of `wanted` whether the sorted `numbers` hold it."""
    if not len(numbers):
        return np.zeros(len(wanted), dtype=np.bool_)
    # In order, neighbours are looked for in the same place of memory: five times as fast as at random.
    in_order = np.sort(wanted)
    missing = np.unique(in_order[~_found(numbers, in_order)])
    if len(missing) <= _FEW:
        # Then they are looked for instead, which stays within the processor's own memory.
        return ~_found(missing, wanted) if len(missing) else np.ones(len(wanted), dtype=np.bool_)
    order = np.argsort(wanted)
    found = np.zeros(len(wanted), dtype=np.bool_)
    found[order] = _found(numbers, in_order)
    return found


def _found(numbers: Numbers, wanted: Numbers) -> npt.NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    return np.asarray(numbers[places] == wanted)


def _loaded(cache: ReplyCache, column: str, source: str, values: Sequence[Any]) -> Numbers:
    # One long string: a row for each of a million keys would take ten times as long.
    ((text,),) = cache.query(f"SELECT group_concat({column}, '') FROM {source}", values)
    try:
        numbers = _parsed(text or "")
    except ValueError:
        rows = cache.query(f"SELECT {column} FROM {source}", values)
        numbers = _parsed("".join(key for (key,) in rows if _HEX.fullmatch(key)))
    # Read through an index they are sorted already, and seeing that takes no time.
    return numbers if np.all(numbers[:-1] <= numbers[1:]) else np.sort(numbers)


def _parsed(text: str) -> Numbers:
    return np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)
