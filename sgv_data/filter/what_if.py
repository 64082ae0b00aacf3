"""Another policy over stored scores: the funnel beside that of the manifest, and the captions nearest the line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sgv_data.filter.policy import DUPLICATE_READS, KEPT, READS, REASONS, RULES, count_reasons, decide_table
from sgv_data.filter.stored import image_ids_at, read_scores
from sgv_data.manifest import FilterPolicy
from sgv_data.records import CaptionReject
from sgv_data.tables import table_files

EXAMPLES = 3
_FIRST_SCORE = {rule.reason: rule.reads[0] for rule in RULES} | {CaptionReject.NEAR_DUPLICATE: DUPLICATE_READS[0]}


@dataclass(frozen=True, slots=True)
class Example:
    """A caption whose verdict changes. `score` names what decided, `value` is how much of it there is."""

    image_id: str
    before: CaptionReject | None
    after: CaptionReject | None
    score: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The two funnels; None counts what is kept. `num_changed` verdicts differ, a few of them are in `examples`."""

    num_captions: int
    before: Counter[CaptionReject | None]
    after: Counter[CaptionReject | None]
    num_changed: int
    examples: tuple[Example, ...]


def compare(scores: Path, captions: Path, before: FilterPolicy, after: FilterPolicy) -> WhatIf:
    """What `after` would do to the captions scored in `scores`, where `before` is what is done to them.

    Raises:
        RunFolderError: if the folder holds no scores by the present rules.
    """
    table = read_scores(scores, READS)
    old, new = decide_table(table, before), decide_table(table, after)
    places = _borderline(table, old, new)
    shown = _texts(scores, captions, places)
    examples = tuple(_example(table, place, int(old[place]), int(new[place]), *shown[place]) for place in places)
    return WhatIf(len(table), count_reasons(old), count_reasons(new), int((old != new).sum()), examples)


def _borderline(table: pa.Table, old: npt.NDArray[np.int8], new: npt.NDArray[np.int8]) -> list[int]:
    """Up to EXAMPLES rows of each kind of change: those of which the score is nearest what it was compared with."""
    changed = np.flatnonzero(old != new)
    places: list[int] = []
    for kind in sorted(set(zip(old[changed].tolist(), new[changed].tolist(), strict=True))):
        of_kind = changed[(old[changed] == kind[0]) & (new[changed] == kind[1])]
        decided_by = REASONS[kind[1] if kind[1] != KEPT else kind[0]]
        values = table[_FIRST_SCORE[decided_by]].to_numpy()[of_kind]
        values = -values if decided_by is CaptionReject.TOO_SHORT else values  # of words, fewer are worse
        # Newly rejected: those with the least of it. Let off: those with the most.
        order = np.argsort(values if kind[1] != KEPT else -values, kind="stable")
        places += of_kind[order[:EXAMPLES]].tolist()
    return places


def _example(table: pa.Table, place: int, old: int, new: int, image_id: str, text: str) -> Example:
    before, after = (None if code == KEPT else REASONS[code] for code in (old, new))
    decided_by = after or before
    assert decided_by is not None  # the two differ
    score = _FIRST_SCORE[decided_by]
    return Example(image_id, before, after, score, float(table[score][place].as_py()), text)


def _texts(scores: Path, captions: Path, places: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Per row its image id and caption. Of the captions, only the row groups that hold one are read."""
    wanted = list(places)
    if not wanted:
        return {}
    ids = image_ids_at(scores, wanted)
    missing = set(ids)
    texts: dict[str, str] = {}
    for path in table_files(captions, "captions"):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                if not missing:
                    break
                found = _in_group(file, group, missing)
                texts |= found
                missing -= found.keys()
    return {place: (image_id, texts.get(image_id, "")) for place, image_id in zip(wanted, ids, strict=True)}


def _in_group(file: Any, group: int, missing: set[str]) -> dict[str, str]:
    ids = file.read_row_group(group, columns=["image_id"])["image_id"]
    mask = pc.is_in(ids, value_set=pa.array(sorted(missing)))
    if not pc.any(mask).as_py():
        return {}
    texts = file.read_row_group(group, columns=["text"])["text"].filter(mask).to_pylist()
    return dict(zip(ids.filter(mask).to_pylist(), texts, strict=True))
