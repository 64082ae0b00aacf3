"""Near-duplicates: which captions have a twin, and that the order of the input does not matter."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from sgv_data.filter.near_duplicates import digests_of, find_twins
from sgv_data.filter.policy import KEPT, READS, REASONS, decide_table
from sgv_data.manifest import FilterPolicy, NearDuplicateRule
from sgv_data.records import CaptionReject, ScoreRow
from sgv_data.tables import schema_of
from tests.unit.filter.labelled import photo_captions

WORDS = [text.lower().split() for text in photo_captions()]


def test_captions_of_different_photographs_have_little_in_common() -> None:
    assert find_twins(digests_of(WORDS)).similarity.max() < 0.3


def test_the_same_words_are_a_full_twin_of_the_first_that_has_them() -> None:
    twins = find_twins(digests_of([WORDS[0], WORDS[1], WORDS[0], WORDS[0]]))
    assert twins.twin.tolist() == [-1, -1, 0, 0]
    assert twins.similarity.tolist() == [0, 0, 1, 1]


def test_the_estimate_is_near_the_true_share_of_common_runs() -> None:
    changed = list(WORDS[0])
    for place in range(0, len(changed), 25):
        changed[place] = "other"
    runs = [set(zip(words, words[1:], words[2:], strict=False)) for words in (WORDS[0], changed)]
    true = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
    assert find_twins(digests_of([WORDS[0], changed])).similarity[1] == pytest.approx(true, abs=0.15)


def test_captions_without_words_are_no_twins() -> None:
    assert find_twins(digests_of([[], [], ["a"], ["a"]])).twin.tolist() == [-1, -1, -1, 2]


def test_a_large_cluster_and_no_captions_at_all() -> None:
    assert find_twins(digests_of([])).twin.tolist() == []
    twins = find_twins(digests_of([WORDS[0]] * 5_000))
    assert twins.twin.tolist() == [-1, *[0] * 4_999]


def scores(**columns: list[float]) -> pa.Table:
    """A table of scores of good captions, but for these columns."""
    num = len(next(iter(columns.values())))
    values = {"num_words": [100] * num, "num_chars": [600] * num, "language": ["en"] * num, "twin_place": [-1] * num}
    return pa.table({name: columns.get(name, values.get(name, [0] * num)) for name in READS})


def decided(table: pa.Table, policy: FilterPolicy | None = None) -> list[CaptionReject | None]:
    return [None if code == KEPT else REASONS[code] for code in decide_table(table, policy or FilterPolicy())]


def test_of_a_chain_of_twins_the_first_is_kept() -> None:
    chain = scores(twin_similarity=[0, 0.9, 0.8], twin_place=[-1, 0, 1])
    assert decided(chain) == [None, CaptionReject.NEAR_DUPLICATE, CaptionReject.NEAR_DUPLICATE]


def test_the_twin_of_a_rejected_caption_is_kept() -> None:
    table = scores(twin_similarity=[0, 0.9], twin_place=[-1, 0], cut_off_score=[1, 0])
    assert decided(table) == [CaptionReject.CUT_OFF, None]


def test_a_similarity_of_zero_switches_the_rule_off() -> None:
    off = FilterPolicy(near_duplicates=NearDuplicateRule(min_similarity=0))
    assert decided(scores(twin_similarity=[0, 1], twin_place=[-1, 0]), off) == [None, None]


def test_every_score_that_a_rule_reads_is_stored() -> None:
    assert set(READS) <= set(schema_of(ScoreRow).names)


def test_rows_are_decided_one_by_one_as_all_together() -> None:
    rng = random.Random(1)
    table = scores(
        refusal_score=[rng.choice([0, 0, 0.5, 1]) for _ in range(60)],
        list_share=[rng.choice([0, 0.3, 0.31]) for _ in range(60)],
        num_words=[rng.choice([0, 19, 20, 400, 401]) for _ in range(60)],
    )
    order = np.array(rng.sample(range(60), 60))
    shuffled = decided(table.take(pa.array(order)))
    together = decided(table)
    assert shuffled == [together[place] for place in order]
    assert len(set(together)) > 3
