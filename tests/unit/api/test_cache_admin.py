"""Looking at a cache, exporting and pruning it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply
from sgv_data.api.cache_facts import check_whole_file, export_lines, facts_of
from sgv_data.api.cache_prune import Choice, prune
from sgv_data.api.reply import parse_reply
from sgv_data.records import FailureClass
from tests.servers.fault_server import answer


@pytest.fixture
def cache(tmp_path: Path) -> ReplyCache:
    opened = ReplyCache(tmp_path / "replies.sqlite", "mine", "name")
    for key, model, body, day in (
        ("old", "a", answer("old caption"), "2026-01-01"), ("new", "a", answer("new caption"), "2026-03-01"),
        ("cut", "b", answer("x")[:20], "2026-03-01"), ("refused", "b", answer(None, "stop", "no"), "2026-03-01"),
    ):  # fmt: skip
        opened.put(StoredReply(key, body, model, None, 1, 0.1, f"{day}T00:00:00Z", 0.5), parse_reply(body)).result(5)
    opened.put_failure("s", StoredFailure("p", FailureClass.BLOCKED, "", 1, "2026-01-01T00:00:00Z")).result(5)
    return opened


def left(cache: ReplyCache) -> set[str]:
    return {reply.request_key for reply in cache.iterate()}


CHOICES = {
    "by age": (Choice(before_utc="2026-02-01T00:00:00Z"), {"new", "cut", "refused"}),
    "by model": (Choice(model="a"), {"cut", "refused"}),
    "without a caption": (Choice(failures=True), {"old", "new", "refused"}),
    "unused": (Choice(used=frozenset({"new", "cut"})), {"new", "cut"}),
    "every condition at once": (Choice(model="a", before_utc="2026-02-01T00:00:00Z"), {"new", "cut", "refused"}),
}


@pytest.mark.parametrize("name", CHOICES)
def test_only_what_is_asked_for_goes_and_only_when_it_is_meant(cache: ReplyCache, name: str) -> None:
    choice, stays = CHOICES[name]
    with cache:
        trial = prune(cache, choice, really=False)
        assert left(cache) == {"old", "new", "cut", "refused"}
        assert prune(cache, choice, really=True) == trial
        assert (trial.num_replies, trial.usd) == (4 - len(stays), 0.5 * (4 - len(stays)))
        assert left(cache) == stays
        assert check_whole_file(cache) == len(stays)


def test_what_pruned_replies_cost_stays_spent(cache: ReplyCache) -> None:
    with cache:
        before = cache.spent_usd(None)
        prune(cache, Choice(model="a"), really=True)
        assert cache.spent_usd(None) == before
        (share,) = facts_of(cache).runs
        assert (share.name, share.usd, share.pruned_usd, share.num_open) == ("name", 1.0, 1.0, 0)


def test_exported_lines_hold_replies_as_they_came_or_what_they_say(cache: ReplyCache) -> None:
    with cache:
        raw = [json.loads(line) for line in export_lines(cache, parsed=False)]
        assert [line["body"].encode() for line in raw] == [reply.body for reply in cache.iterate()]
        parsed = [json.loads(line) for line in export_lines(cache, parsed=True)]
        assert [(line["request_key"], line["outcome"], line["finished"]) for line in parsed] == [
            ("old", "ok", True), ("new", "ok", True), ("cut", "failed", False), ("refused", "refused", True),
        ]  # fmt: skip


def test_the_numbers_say_how_replies_ended(cache: ReplyCache) -> None:
    with cache:
        facts = facts_of(cache)
        assert {(group.model, group.outcome): group.num_replies for group in facts.groups} == {
            ("a", "ok"): 2, ("b", "unfinished"): 1, ("b", "refused"): 1,
        }  # fmt: skip
        assert facts.num_failures == 1
