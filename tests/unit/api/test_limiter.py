"""The limiter against a clock that the tests drive."""

from __future__ import annotations

import asyncio
import heapq
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sgv_data.api.limiter import Limiter


class Clock:
    """Time that passes only when everybody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, id(wake), wake))
        await wake

    async def drive(self, *tasks: asyncio.Task[None]) -> None:
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                self.now_s, _, wake = heapq.heappop(self._sleepers)
                wake.set_result(None)
        await asyncio.gather(*tasks)


def sent_times(limiter: Limiter, clock: Clock, tokens: list[float], workers: int) -> list[float]:
    """When each of these requests was let through, asked for by so many workers."""
    times: list[float] = []
    left = iter(tokens)

    async def worker() -> None:
        for amount in left:
            await limiter.acquire(amount)
            times.append(clock.now_s)

    async def main() -> None:
        await clock.drive(*(asyncio.create_task(worker()) for _ in range(workers)))

    asyncio.run(main())
    return times


def most_in_a_minute(times: list[float], amounts: list[float]) -> float:
    return max(sum(a for t, a in zip(times, amounts, strict=True) if s <= t < s + 60) for s in times)


@given(st.integers(6, 6000), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_no_minute_holds_more_requests_than_allowed(per_minute: int, workers: int) -> None:
    clock = Clock()
    times = sent_times(Limiter(per_minute, clock=clock, sleep=clock.sleep), clock, [1.0] * 250, workers)
    burst = max(1.0, per_minute / 60)
    assert most_in_a_minute(times, [1.0] * 250) <= per_minute + burst + 1


@given(st.integers(60, 6000))
@settings(deadline=None, max_examples=20)
def test_almost_all_that_is_allowed_is_used(per_minute: int) -> None:
    clock = Clock()
    number = per_minute // 2
    times = sent_times(Limiter(per_minute, clock=clock, sleep=clock.sleep), clock, [1.0] * number, 8)
    assert number / per_minute * 60 >= times[-1] * 0.97


@given(st.lists(st.floats(1, 5000), min_size=2, max_size=60), st.integers(1000, 60_000))
@settings(deadline=None, max_examples=30)
def test_no_minute_holds_more_tokens_than_allowed_but_for_one_request(amounts: list[float], per_minute: int) -> None:
    clock = Clock()
    times = sent_times(Limiter(None, per_minute, clock=clock, sleep=clock.sleep), clock, amounts, 1)
    assert most_in_a_minute(times, amounts) <= per_minute * (1 + 1 / 60) + 2 * max(amounts)


def test_a_request_larger_than_the_bucket_is_let_through() -> None:
    clock = Clock()
    times = sent_times(Limiter(None, 600, clock=clock, sleep=clock.sleep), clock, [3000.0, 3000.0], 1)
    assert times[0] == 0.0
    assert 299 <= times[1] <= 301


def test_requests_are_let_through_in_the_order_they_came() -> None:
    clock = Clock()
    limiter = Limiter(60, clock=clock, sleep=clock.sleep)
    order: list[int] = []

    async def ask(number: int) -> None:
        await limiter.acquire(1)
        order.append(number)

    async def main() -> None:
        await clock.drive(*(asyncio.create_task(ask(number)) for number in range(6)))

    asyncio.run(main())
    assert order == list(range(6))


def test_a_pause_holds_everybody_and_ends_without_a_rush() -> None:
    clock = Clock()
    limiter = Limiter(600, clock=clock, sleep=clock.sleep)
    limiter.pause_until(100.0)
    times = sent_times(limiter, clock, [1.0] * 30, 30)
    assert times[0] == 100.0
    assert sum(time < 100.5 for time in times) <= 15


def test_a_pause_is_never_shortened() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock, sleep=clock.sleep)
    limiter.pause(50.0)
    limiter.pause(1.0)
    assert limiter.paused_for_s() >= 50.0


def test_a_pause_lasts_at_least_as_long_as_asked() -> None:
    for seed in range(20):
        clock = Clock()
        limiter = Limiter(clock=clock, sleep=clock.sleep, rng=random.Random(seed))
        limiter.pause(20.0)
        assert 20.0 <= limiter.paused_for_s() <= 21.0


def test_pauses_of_unknown_length_double_once_per_burst_and_start_short_after_an_answer() -> None:
    clock = Clock()
    limiter = Limiter(max_pause_s=4.0, clock=clock, sleep=clock.sleep)
    lengths = []
    for _ in range(4):
        lengths.append(limiter.pause(None))
        limiter.pause(None)
        clock.now_s += 10
    assert lengths == [1.0, 2.0, 4.0, 4.0]
    limiter.answered()
    assert limiter.pause(None) == 1.0


def test_without_limits_nothing_waits() -> None:
    clock = Clock()
    assert set(sent_times(Limiter(clock=clock, sleep=clock.sleep), clock, [1e9] * 50, 8)) == {0.0}
