"""Refusals that are no limit, where no limit is known: the start, and servers that turn requests away at random."""

from __future__ import annotations

import random

import pytest

from sgv_data.api.chance import Chance, Stretch
from sgv_data.manifest import Limits
from tests.servers.limited import Server, TokenBucket, World


class Moody(TokenBucket):
    """Takes what its bucket does, but turns a share away at random, or the first ones."""

    def __init__(self, per_minute: float, share: float = 0.0, num_first: int = 0, seed: int = 0) -> None:
        super().__init__(per_minute, burst_s=1)
        self._share, self._num_first, self._rng = share, num_first, random.Random(seed)

    def takes(self, amount: float, now: float) -> bool:
        self._num_first -= 1
        return self._num_first < 0 and self._rng.random() >= self._share and super().takes(amount, now)


def num_taken(rule: TokenBucket, seconds: float, retry_after: str = "none", seed: int = 0) -> int:
    world = World(Server(rule, retry_after=retry_after), Limits(in_flight=32), seed, latency_s=(0.05, 0.07))
    return len(world.run(seconds).taken)


@pytest.mark.parametrize("retry_after", ["none", "seconds"])
def test_refusals_before_anything_was_taken_do_not_slow_the_run(retry_after: str) -> None:
    assert num_taken(Moody(1e9, num_first=3), 30, retry_after) > 3000


@pytest.mark.parametrize("seed", range(4))
def test_a_server_that_refuses_at_random_is_not_taken_for_a_limited_one(seed: int) -> None:
    assert num_taken(Moody(1e9, share=0.05, seed=seed), 60, seed=seed) > 1000


def test_a_limit_is_still_found_behind_random_refusals() -> None:
    assert num_taken(Moody(3000, share=0.02), 240) > 0.6 * 12_000


def test_stretches_that_bring_the_same_at_different_rates_show_a_limit() -> None:
    chance = Chance()
    judged = [chance.explains(Stretch(50, 1, 1.0, rate)) for rate in (60.0, 80.0, 100.0)]
    assert judged == [True, True, False]
    assert chance.limit_per_s == pytest.approx(50)


def test_many_refusals_show_a_limit_at_once() -> None:
    assert not Chance().explains(Stretch(12, 6, 0.3, 200.0))


def test_a_limit_that_was_found_is_tried_ever_more_rarely() -> None:
    chance = Chance()
    judged = [chance.explains(Stretch(50, 1, 1.0, 60.0)) for _ in range(14)]
    assert [place for place, explained in enumerate(judged) if explained] == [0, 1, 5, 11]
