"""From scores to verdicts, a column at a time: another policy over stored scores gives another funnel in no time.

`RULES` is the whole of it, in the order in which rules decide: the first that applies is the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgv_data.filter.rules import Scores
from sgv_data.manifest import FilterPolicy
from sgv_data.records import CaptionReject

Columns = Mapping[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason. `reads`: the scores it looks at, the first being the one that says how bad it is."""

    reason: CaptionReject
    reads: tuple[str, ...]
    applies: Callable[[Columns, FilterPolicy], Mask]
    settings: tuple[str, ...]


def _from(score: str, threshold: Callable[[FilterPolicy], float]) -> Callable[[Columns, FilterPolicy], Mask]:
    """Scores at or above a threshold; 0 never is."""

    def applies(columns: Columns, policy: FilterPolicy) -> Mask:
        found: Mask = (columns[score] >= threshold(policy)) & (columns[score] > 0)
        return found

    return applies


def _above(score: str, threshold: Callable[[FilterPolicy], float]) -> Callable[[Columns, FilterPolicy], Mask]:
    """Scores above a threshold."""

    def applies(columns: Columns, policy: FilterPolicy) -> Mask:
        found: Mask = columns[score] > threshold(policy)
        return found

    return applies


def _empty(columns: Columns, policy: FilterPolicy) -> Mask:
    """No word at all; one that the server says was cut off is a cut-off."""
    found: Mask = (columns["num_words"] == 0) & (columns["cut_off_score"] < 1)
    return found


def _lists(columns: Columns, policy: FilterPolicy) -> Mask:
    found: Mask = (columns["list_share"] > policy.lists.max_share) | (columns["num_marks"] > policy.lists.max_marks)
    return found


def _foreign(columns: Columns, policy: FilterPolicy) -> Mask:
    """`wanted` has been filled in by the stage where the manifest leaves it to the prompts."""
    if not policy.language.wanted:
        return np.zeros(len(columns["language"]), dtype=bool)
    other = ~np.isin(columns["language"], list(policy.language.wanted))
    mixed = columns["foreign_share"] > policy.language.max_other_share
    found: Mask = (columns["language"] != "") & (other | mixed)
    return found


def _short(columns: Columns, policy: FilterPolicy) -> Mask:
    length = policy.length
    found: Mask = (columns["num_words"] < length.min_words) | (columns["num_chars"] < length.min_chars)
    return found


def _long(columns: Columns, policy: FilterPolicy) -> Mask:
    length = policy.length
    found: Mask = (columns["num_words"] > length.max_words) | (columns["num_chars"] > length.max_chars)
    return found


def _boilerplate(columns: Columns, policy: FilterPolicy) -> Mask:
    stock = (columns["stock_opening"] > 0) & (not policy.openings.stock)
    found: Mask = stock | (columns["opening_share"] > policy.openings.max_share)
    return found


_R = CaptionReject
RULES: tuple[Rule, ...] = (
    Rule(_R.REFUSAL, ("refusal_score",), _from("refusal_score", lambda p: p.refusal_min_score), ("refusal_min_score",)),
    Rule(_R.EMPTY, ("num_words", "cut_off_score"), _empty, ()),
    Rule(_R.BROKEN_ENCODING, ("num_garbled",), _above("num_garbled", lambda p: p.encoding.max_garbled),
         ("encoding.max_garbled",)),
    Rule(_R.LIST_OR_MARKUP, ("list_share", "num_marks"), _lists, ("lists.max_share", "lists.max_marks")),
    Rule(_R.PROMPT_LEAK, ("leak_share",), _above("leak_share", lambda p: p.leak.max_share), ("leak.max_share",)),
    Rule(_R.REPETITION, ("repeated_share",), _above("repeated_share", lambda p: p.repetition.max_share),
         ("repetition.max_share",)),
    Rule(_R.CUT_OFF, ("cut_off_score",), _from("cut_off_score", lambda p: p.cut_off_min_score), ("cut_off_min_score",)),
    Rule(_R.WRONG_LANGUAGE, ("foreign_share", "language"), _foreign, ("language.wanted", "language.max_other_share")),
    Rule(_R.TOO_SHORT, ("num_words", "num_chars"), _short, ("length.min_words", "length.min_chars")),
    Rule(_R.TOO_LONG, ("num_words", "num_chars"), _long, ("length.max_words", "length.max_chars")),
    Rule(_R.HEDGING, ("hedge_density",), _above("hedge_density", lambda p: p.hedging.max_density),
         ("hedging.max_density",)),
    Rule(_R.SPECULATION, ("speculation_density",), _above("speculation_density", lambda p: p.speculation.max_density),
         ("speculation.max_density",)),
    Rule(_R.PERSONAL_DATA, ("num_personal",), _above("num_personal", lambda p: p.personal.max_count),
         ("personal.max_count",)),
    Rule(_R.TOXIC, ("num_toxic",), _above("num_toxic", lambda p: p.toxic.max_count), ("toxic.max_count",)),
    Rule(_R.BOILERPLATE, ("opening_share", "stock_opening"), _boilerplate, ("openings.stock", "openings.max_share")),
)  # fmt: skip
REASONS: tuple[CaptionReject, ...] = (*(rule.reason for rule in RULES), _R.NEAR_DUPLICATE)
KEPT = -1

DUPLICATE_READS = ("twin_similarity", "twin_place")
READS: tuple[str, ...] = tuple(dict.fromkeys([*(name for rule in RULES for name in rule.reads), *DUPLICATE_READS]))


def decide_table(scores: pa.Table, policy: FilterPolicy) -> npt.NDArray[np.int8]:
    """Per row the position of its reason in `REASONS`, or KEPT. `scores` holds the columns `READS`, in hash order."""
    columns = {name: _array(scores[name]) for name in READS}
    codes = decide_columns(columns, policy)
    similar = columns["twin_similarity"] >= policy.near_duplicates.min_similarity
    if policy.near_duplicates.min_similarity > 0 and similar.any():
        _mark_duplicates(codes, similar, columns["twin_place"])
    return codes


def decide_columns(columns: Columns, policy: FilterPolicy) -> npt.NDArray[np.int8]:
    """As `decide_table`, without near-duplicates."""
    codes = np.full(len(columns["num_words"]), KEPT, dtype=np.int8)
    for position in reversed(range(len(RULES))):
        codes[RULES[position].applies(columns, policy)] = position
    return codes


def decide(scores: Scores, policy: FilterPolicy, opening_share: float = 0.0) -> CaptionReject | None:
    """The verdict on one caption by itself."""
    columns = {name: np.array([getattr(scores, name)]) for name in READS if hasattr(scores, name)}
    code = decide_columns({**columns, "opening_share": np.array([opening_share])}, policy)[0]
    return None if code == KEPT else REASONS[code]


def count_reasons(codes: npt.NDArray[np.int8]) -> Counter[CaptionReject | None]:
    """How many rows have each reason; None: kept."""
    values, counts = np.unique(codes, return_counts=True)
    return Counter(
        {None if value == KEPT else REASONS[value]: int(count) for value, count in zip(values, counts, strict=True)}
    )


def _mark_duplicates(codes: npt.NDArray[np.int8], similar: Mask, twin: npt.NDArray[np.int64]) -> None:
    """In hash order: a caption whose twin is kept, or dropped for a twin of its own, is a near-duplicate."""
    duplicate = REASONS.index(CaptionReject.NEAR_DUPLICATE)
    for place in np.flatnonzero(similar & (codes == KEPT)).tolist():
        if codes[twin[place]] in (KEPT, duplicate):
            codes[place] = duplicate


def _array(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if not pa.types.is_primitive(column.type):
        encoded = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).combine_chunks()
        names = np.array(encoded.dictionary.to_pylist() or [""], dtype=np.str_)
        return names[encoded.indices.to_numpy(zero_copy_only=False)] if len(encoded) else names[:0]
    values: npt.NDArray[Any] = column.to_numpy()
    return values
