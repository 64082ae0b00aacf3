"""The ledger of the batch lane: what waits, what it may cost, and what survives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgv_data.api.batch_ledger import Batch, BatchState, Ledger, RowState, new_intent
from sgv_data.api.cache import ReplyCache
from sgv_data.run_folder import utc_now


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with ReplyCache(tmp_path / "replies.sqlite", run="mine", name="mine") as opened:
        yield opened


def make_batch(rows: dict[str, float], run: str = "mine", created_utc: str | None = None) -> Batch:
    now = created_utc or utc_now()
    return Batch(
        new_intent(), run, "http://there/v1", "model", BatchState.INTENDED, len(rows), 100, 10 * len(rows),
        sum(rows.values()), now, now,
    )  # fmt: skip


def intended(ledger: Ledger, rows: dict[str, float], **more: str) -> Batch:
    batch = make_batch(rows, **more)
    ledger.intend(batch, rows.items()).result()
    return batch


def settle(ledger: Ledger, batch: Batch, key: str, state: RowState, usd: float) -> None:
    ledger.settle(ledger.settling(batch, key, state, usd)).result()


def test_a_batch_is_read_back_as_it_was_written(cache: ReplyCache, tmp_path: Path) -> None:
    batch = intended(Ledger(cache, "mine"), {"a": 0.5, "b": 0.25})
    cache.close()
    with ReplyCache(tmp_path / "replies.sqlite", run="mine") as again:
        assert Ledger(again, "mine").unfinished() == [batch]
        assert again.spent_usd(None) == 0.75


def test_rows_wait_until_they_are_settled_and_give_their_money_back(cache: ReplyCache) -> None:
    ledger = Ledger(cache, "mine")
    batch = intended(ledger, {"a": 0.5, "b": 0.25})
    settle(ledger, batch, "a", RowState.ANSWERED, 0.5)
    assert ledger.waiting(["a", "b", "c"]) == {"b"}
    assert ledger.rows(batch, ["a", "b", "c"]) == {"a": (RowState.ANSWERED, 0.5), "b": (RowState.WAITING, 0.25)}
    assert ledger.set_aside_usd() == cache.spent_usd(None) == 0.25


def test_ending_a_batch_frees_what_still_waits_and_keeps_what_may_be_billed(cache: ReplyCache) -> None:
    ledger = Ledger(cache, "mine")
    batch = intended(ledger, {"a": 0.5, "b": 0.25})
    ledger.end(batch, BatchState.ENDED, RowState.UNDONE, kept_usd=0.25).result()
    assert ledger.waiting(["a", "b"]) == set()
    assert ledger.unfinished() == []
    assert cache.spent_usd(None) == 0.25
    assert ledger.set_aside_usd() == 0


def test_a_dropped_batch_costs_nothing(cache: ReplyCache) -> None:
    ledger = Ledger(cache, "mine")
    ledger.end(intended(ledger, {"a": 0.5}), BatchState.DROPPED, RowState.UNDONE).result()
    assert cache.spent_usd(None) == 0
    assert ledger.num_begun_within(3600) == 0


def test_changes_are_kept(cache: ReplyCache) -> None:
    ledger = Ledger(cache, "mine")
    batch = intended(ledger, {"a": 0.5})
    changed, written = ledger.change(batch, state=BatchState.SUBMITTED, batch_id="batch_1", status="validating")
    written.result()
    assert ledger.batches(BatchState.SUBMITTED) == [changed]
    assert (changed.batch_id, changed.status, changed.intent) == ("batch_1", "validating", batch.intent)


def test_tries_are_counted_over_batches_and_forgiven_when_the_picture_failed(cache: ReplyCache) -> None:
    ledger = Ledger(cache, "mine")
    for state in (RowState.FAULTED, RowState.UNDONE, RowState.FAULTED):
        settle(ledger, intended(ledger, {"a": 0.0}), "a", state, 0.0)
    assert ledger.tries(["a", "b"]) == {"a": 2}
    settle(ledger, intended(ledger, {"a": 0.0}), "a", RowState.FAILED, 0.0)
    assert ledger.tries(["a"]) == {}


def test_runs_that_share_a_cache_see_what_waits_but_not_each_others_batches(cache: ReplyCache) -> None:
    intended(Ledger(cache, "other"), {"a": 0.5}, run="other")
    mine = Ledger(cache, "mine")
    assert mine.waiting(["a"]) == {"a"}
    assert mine.batches() == []
    assert cache.spent_usd(None) == 0


def test_only_batches_of_the_last_hour_count_against_the_hourly_limit(cache: ReplyCache) -> None:
    ledger = Ledger(cache, "mine")
    intended(ledger, {"a": 0.0}, created_utc="2026-01-01T00:00:00Z")
    intended(ledger, {"b": 0.0})
    assert ledger.num_begun_within(3600) == 1


def test_many_keys_are_looked_up(cache: ReplyCache) -> None:
    ledger = Ledger(cache, "mine")
    keys = [f"{number:064d}" for number in range(1500)]
    intended(ledger, dict.fromkeys(keys[::2], 0.0))
    assert ledger.waiting(keys) == set(keys[::2])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([state for state in RowState if state is not RowState.WAITING]), max_size=12))
def test_money_set_aside_is_always_that_of_the_rows_that_wait(
    tmp_path_factory: pytest.TempPathFactory, ends: list[RowState]
) -> None:
    with ReplyCache(tmp_path_factory.mktemp("ledger") / "replies.sqlite", run="mine") as cache:
        ledger = Ledger(cache, "mine")
        rows = {f"key {number}": 0.125 * (number + 1) for number in range(12)}
        batch = intended(ledger, rows)
        for key, state in zip(rows, ends, strict=False):
            settle(ledger, batch, key, state, rows[key])
        waiting = ledger.waiting_in(batch)
        assert ledger.set_aside_usd() == pytest.approx(sum(waiting.values()))
        assert len(waiting) == 12 - len(ends)
