"""The controller against simulated servers: how much of a limit is used, and how many requests are turned away."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgv_data.manifest import Limits
from tests.servers.limited import FixedWindow, Log, Rule, Server, SlidingWindow, TokenBucket, World

REQUESTS, TOKENS = 3000.0, 3_600_000.0
RULES = ("bucket", "deep bucket", "minute", "shifted minute", "sliding minute")


def rule_of(name: str, limit: float) -> Rule:
    rules: dict[str, Rule] = {
        "bucket": TokenBucket(limit, burst_s=1),
        "deep bucket": TokenBucket(limit, burst_s=5),
        "minute": FixedWindow(limit),
        "shifted minute": FixedWindow(limit, phase_s=25),
        "sliding minute": SlidingWindow(limit),
    }
    return rules[name]


def share(log: Log, limit: float, start_s: float, end_s: float) -> float:
    return log.amount(start_s, end_s) / (limit * (end_s - start_s) / 60)


@pytest.mark.parametrize("counts", ["requests", "tokens"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("told", ["configured", "announced"])
def test_a_known_limit_is_used_from_the_first_minute_on(name: str, counts: str, told: str) -> None:
    limit = REQUESTS if counts == "requests" else TOKENS
    server = Server(rule_of(name, limit), counts, headers=told == "announced", retry_after="seconds")
    limits = {f"{counts}_per_minute": limit} if told == "configured" else {}
    log = World(server, Limits(in_flight=300, **limits)).run(120)
    assert share(log, limit, 0, 60) >= 0.97
    assert share(log, limit, 60, 120) >= 0.97
    assert log.share_refused() <= 0.001


@pytest.mark.parametrize("counts", ["requests", "tokens"])
@pytest.mark.parametrize("name", RULES)
def test_an_unknown_limit_is_found_without_any_header(name: str, counts: str) -> None:
    limit = REQUESTS if counts == "requests" else TOKENS
    log = World(Server(rule_of(name, limit), counts), Limits()).run(240)
    assert share(log, limit, 0, 240) >= 0.95
    assert share(log, limit, 120, 240) >= 0.97
    assert log.share_refused() <= 0.01


@pytest.mark.parametrize("counts", ["requests", "tokens"])
@pytest.mark.parametrize("known", [True, False], ids=["configured", "unknown"])
@pytest.mark.parametrize("headers", [True, False], ids=["headers", "silent"])
def test_a_limit_that_is_halved_on_the_way_is_kept(counts: str, known: bool, headers: bool) -> None:
    limit = REQUESTS if counts == "requests" else TOKENS
    server = Server(rule_of("bucket", limit), counts, headers, "ms" if headers else "none", halves_at_s=100)
    limits = {f"{counts}_per_minute": limit} if known else {}
    log = World(server, Limits(**limits)).run(220)
    assert share(log, limit / 2, 100, 220) >= 0.97
    assert log.share_refused(100, 220) <= 0.01


def test_a_minute_that_is_halved_on_the_way_is_kept_after_one_minute() -> None:
    server = Server(SlidingWindow(REQUESTS), halves_at_s=100)
    log = World(server, Limits(requests_per_minute=REQUESTS)).run(360)
    assert share(log, REQUESTS / 2, 180, 360) >= 0.93
    assert log.share_refused() <= 0.01


def test_a_limit_that_rises_again_is_found_again() -> None:
    server = Server(TokenBucket(REQUESTS, 1), halves_at_s=30, doubles_at_s=90)
    log = World(server, Limits(requests_per_minute=REQUESTS)).run(360)
    assert share(log, REQUESTS, 300, 360) >= 0.97


def test_what_others_leave_of_an_account_is_used() -> None:
    server = Server(TokenBucket(REQUESTS, 1), headers=True, retry_after="ms", others_per_s=20)
    log = World(server, Limits(requests_per_minute=REQUESTS)).run(180)
    assert share(log, REQUESTS - 20 * 60, 60, 180) >= 0.95
    assert log.share_refused(60, 180) <= 0.01


@given(
    st.sampled_from(RULES), st.integers(300, 6000), st.floats(0.05, 2.0), st.integers(0, 1000),
    st.sampled_from([0.0, 0.002]),
)  # fmt: skip
@settings(deadline=None, max_examples=6)
def test_a_configured_limit_is_used_and_kept(name: str, limit: int, latency_s: float, seed: int, stalls: float) -> None:
    world = World(
        Server(rule_of(name, limit)), Limits(requests_per_minute=limit, in_flight=1000), seed, (0.05, latency_s),
        stalls=stalls,
    )  # fmt: skip
    log = world.run(120)
    assert share(log, limit, 60, 120) >= 0.97
    assert log.share_refused() <= 0.01


@given(st.sampled_from(RULES[1:]), st.integers(20, 300), st.integers(0, 1000))
@settings(deadline=None, max_examples=6)
def test_no_small_limit_is_broken(name: str, limit: int, seed: int) -> None:
    log = World(Server(rule_of(name, limit)), Limits(requests_per_minute=limit), seed).run(180)
    assert log.share_refused() <= 0.01
    assert share(log, limit, 60, 180) >= 0.97 - 1 / limit


@given(st.integers(5_000, 60_000), st.integers(0, 1000))
@settings(deadline=None, max_examples=6)
def test_no_sliding_minute_of_tokens_is_broken_by_large_requests(limit: int, seed: int) -> None:
    server = Server(SlidingWindow(limit), "tokens")
    log = World(server, Limits(tokens_per_minute=limit), seed, tokens=(800, 2400)).run(180)
    assert log.refused == []


def test_a_server_without_limits_is_soon_asked_by_all_workers() -> None:
    world = World(Server(TokenBucket(1e9, 60)), Limits(in_flight=64), latency_s=(0.08, 0.12))
    log = world.run(20)
    assert log.amount(5, 20) >= 0.95 * 15 * 64 / (0.1 + 0.0105)
    assert math.isclose(log.share_refused(), 0.0)
