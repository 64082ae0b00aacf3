"""Keeping to a provider's limits: requests and tokens per minute, and pauses that all workers share.

The number of requests in flight is not limited here: it is the number of workers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

_BURST_S = 1.0
_FIRST_PAUSE_S = 1.0
_SPREAD = 0.05


class Bucket:
    """A bucket that fills at `per_minute` and holds one second's worth (at least one request).

    An amount larger than the bucket is let through when the bucket is full and leaves a debt, so that over time the
    rate holds and no request waits for ever.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._per_s = per_minute / 60
        self._capacity = max(1.0, self._per_s * _BURST_S)
        self._level, self._updated = self._capacity, now

    def wait_s(self, amount: float, now: float) -> float:
        """How long until `amount` may be taken."""
        self._fill(now)
        missing = min(amount, self._capacity) - self._level
        # A part in 10^9 is the clock's rounding, not a shortage.
        return missing / self._per_s if missing > 1e-9 * self._capacity else 0.0

    def take(self, amount: float, now: float) -> None:
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> None:
        self._level = min(self._capacity, self._level + (now - self._updated) * self._per_s)
        self._updated = now


class Limiter:
    """Hands out permission to send, first come first served.

    After a pause the buckets hold at most one second's worth, so waiting workers do not all rush at once.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_pause_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._clock, self._sleep, self._rng = clock, sleep, rng or random.Random()
        now = clock()
        self._requests = Bucket(requests_per_minute, now) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute, now) if tokens_per_minute else None
        self._max_pause_s, self._pause_s = max_pause_s, min(_FIRST_PAUSE_S, max_pause_s)
        self._paused_until = now
        self._turn = asyncio.Lock()

    async def acquire(self, num_tokens: float) -> None:
        """Returns when one request of `num_tokens` may be sent."""
        async with self._turn:
            while (wait_s := self._wait_s(num_tokens)) > 0:
                await self._sleep(wait_s)
            now = self._clock()
            if self._requests:
                self._requests.take(1, now)
            if self._tokens:
                self._tokens.take(num_tokens, now)

    def pause(self, seconds: float | None) -> float:
        """Lets nobody send for `seconds` and a little more; returns the length of the pause.

        None: the server did not say how long. The pause then doubles from one second up to `max_pause_s`, once per
        burst: refusals that arrive while a pause is on belong to the same one.
        """
        now = self._clock()
        if seconds is None:
            if now < self._paused_until:
                return self._paused_until - now
            seconds, self._pause_s = self._pause_s, min(self._pause_s * 2, self._max_pause_s)
        self.pause_until(now + seconds * (1 + _SPREAD * self._rng.random()))
        return seconds

    def pause_until(self, when: float) -> None:
        """Lets nobody send before `when` (on the limiter's clock). A pause is never shortened."""
        self._paused_until = max(self._paused_until, when)

    def paused_for_s(self) -> float:
        """What is left of the pause that is on."""
        return max(0.0, self._paused_until - self._clock())

    def answered(self) -> None:
        """A request got through: the next pause of unknown length is short again."""
        self._pause_s = min(_FIRST_PAUSE_S, self._max_pause_s)

    def _wait_s(self, num_tokens: float) -> float:
        now = self._clock()
        waits = [self._paused_until - now]
        if self._requests:
            waits.append(self._requests.wait_s(1, now))
        if self._tokens:
            waits.append(self._tokens.wait_s(num_tokens, now))
        return max(waits)
