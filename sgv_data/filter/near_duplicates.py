"""Captions that say nearly the same, on whatever pictures: MinHash over runs of three words, by the library rensa.

For each caption: the most similar one among those that come before it in hash order and share a band with it. Only
the first caption of a band's bucket and the nearest before are looked at, so that the work grows with the number of
captions and not with the size of a cluster. Who is compared depends on the set alone, never on the order it came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sgv_data.words import runs_of

# 32 bands of 4 rows: captions that share 70 % of their runs meet in some band with a probability of 99.98 %, 60 %:
# 98.8 %, 40 %: 56 %. With 128 values, the estimated share has a standard error of 0.04 at 0.7.
NUM_VALUES = 128
NUM_BANDS = 32
RUN_WORDS = 3
_SEED = 7
_PAIRS_AT_ONCE = 200_000

Digests = npt.NDArray[np.uint32]
"""One row of NUM_VALUES per caption; all 0xFFFFFFFF where a caption has no words."""


@dataclass(frozen=True, slots=True)
class Twins:
    """Per caption: its similarity (estimated Jaccard, 0 to 1) to `twin`, a position before its own, or -1."""

    similarity: npt.NDArray[np.float64]
    twin: npt.NDArray[np.int64]


def digests_of(tokens: Iterable[list[str]]) -> Digests:
    """The MinHash values of captions given as words."""
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_token_sets([_runs(each) for each in tokens], NUM_VALUES, _SEED)
    rows: Any = matrix.to_rows()
    return np.asarray(rows, dtype=np.uint32).reshape(-1, NUM_VALUES)


def _runs(tokens: list[str]) -> list[str]:
    if len(tokens) < RUN_WORDS:
        return [" ".join(tokens)] if tokens else []
    return [" ".join(run) for run in runs_of(tokens, RUN_WORDS)]


def find_twins(digests: Digests) -> Twins:
    """The twins of captions in hash order."""
    num = len(digests)
    best = np.zeros(num)
    twin = np.full(num, -1, dtype=np.int64)
    filled = np.flatnonzero((digests != np.uint32(0xFFFFFFFF)).any(axis=1)) if num else np.empty(0, dtype=np.int64)
    for band in range(NUM_BANDS):
        for later, earlier in _meetings(digests, filled, band):
            similarity = (digests[later] == digests[earlier]).mean(axis=1)
            # The earlier position wins among equals: a cluster of equal captions points at its first.
            better = (similarity > best[later]) | ((similarity == best[later]) & (earlier < twin[later]))
            best[later[better]], twin[later[better]] = similarity[better], earlier[better]
    return Twins(best, twin)


def _meetings(
    digests: Digests, filled: npt.NDArray[np.int64], band: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Positions that meet an earlier one in a band's bucket: with the bucket's first, then with the one before."""
    rows = NUM_VALUES // NUM_BANDS
    part = digests[filled, band * rows : (band + 1) * rows].astype(np.uint64)
    keys = np.zeros(len(filled), dtype=np.uint64)
    for column in range(rows):
        keys = (keys ^ part[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = np.zeros(len(order), dtype=bool)
    same[1:] = ordered[1:] == ordered[:-1]
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    places = np.flatnonzero(same)
    for partners in (first[places], places - 1):
        for start in range(0, len(places), _PAIRS_AT_ONCE):
            chunk = slice(start, start + _PAIRS_AT_ONCE)
            yield filled[order[places[chunk]]], filled[order[partners[chunk]]]
