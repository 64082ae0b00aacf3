"""Servers that enforce limits, and a client that asks them through a `Controller`, all in simulated time.

Three ways to enforce a limit per minute: a token bucket, a fixed window of one minute, a sliding window.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from sgv_data.api.controller import Controller, Ticket
from sgv_data.manifest import Limits

MINUTE_S = 60.0


class TokenBucket:
    def __init__(self, per_minute: float, burst_s: float) -> None:
        self.per_minute, self._burst_s = per_minute, burst_s
        self._level, self._at = self._capacity, 0.0

    @property
    def _capacity(self) -> float:
        return max(1.0, self.per_minute / 60 * self._burst_s)

    def takes(self, amount: float, now: float) -> bool:
        self._fill(now)
        if self._level < min(amount, self._capacity):
            return False
        self._level -= amount
        return True

    def remaining(self, now: float) -> float:
        self._fill(now)
        return max(0.0, self._level)

    def reset_s(self, now: float) -> float:
        self._fill(now)
        return (self._capacity - self._level) / self.per_minute * 60

    def wait_s(self, amount: float, now: float) -> float:
        self._fill(now)
        return max(0.0, (min(amount, self._capacity) - self._level) / self.per_minute * 60)

    def _fill(self, now: float) -> None:
        self._level = min(self._capacity, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now


class FixedWindow:
    def __init__(self, per_minute: float, phase_s: float = 0.0) -> None:
        self.per_minute, self._phase_s = per_minute, phase_s
        self._window, self._used = 0, 0.0

    def takes(self, amount: float, now: float) -> bool:
        self._turn(now)
        if self._used + amount > self.per_minute:
            return False
        self._used += amount
        return True

    def remaining(self, now: float) -> float:
        self._turn(now)
        return max(0.0, self.per_minute - self._used)

    def reset_s(self, now: float) -> float:
        return MINUTE_S - (now + self._phase_s) % MINUTE_S

    def wait_s(self, amount: float, now: float) -> float:
        return self.reset_s(now)

    def _turn(self, now: float) -> None:
        if (window := int((now + self._phase_s) // MINUTE_S)) != self._window:
            self._window, self._used = window, 0.0


class SlidingWindow:
    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._taken: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def takes(self, amount: float, now: float) -> bool:
        self._slide(now)
        if self._used + amount > self.per_minute:
            return False
        self._taken.append((now, amount))
        self._used += amount
        return True

    def remaining(self, now: float) -> float:
        self._slide(now)
        return max(0.0, self.per_minute - self._used)

    def reset_s(self, now: float) -> float:
        return self._taken[-1][0] + MINUTE_S - now if self._taken else 0.0

    def wait_s(self, amount: float, now: float) -> float:
        self._slide(now)
        too_much = self._used + amount - self.per_minute
        for time, taken in self._taken:
            too_much -= taken
            if too_much <= 0:
                return time + MINUTE_S - now
        return MINUTE_S

    def _slide(self, now: float) -> None:
        while self._taken and self._taken[0][0] <= now - MINUTE_S:
            self._used -= self._taken.popleft()[1]


Rule = TokenBucket | FixedWindow | SlidingWindow


@dataclass
class Server:
    """`counts`: what is limited. `retry_after`: none, seconds (whole ones) or ms."""

    rule: Rule
    counts: str = "requests"
    headers: bool = False
    retry_after: str = "none"
    halves_at_s: float = math.inf
    doubles_at_s: float = math.inf
    others_per_s: float = 0.0
    _others_at: float = 0.0

    def ask(self, num_tokens: float, now: float) -> tuple[bool, dict[str, str]]:
        """Whether a request is taken, and the headers of the reply."""
        if now >= self.halves_at_s:
            self.rule.per_minute, self.halves_at_s = self.rule.per_minute / 2, math.inf
        if now >= self.doubles_at_s:
            self.rule.per_minute, self.doubles_at_s = self.rule.per_minute * 2, math.inf
        amount = num_tokens if self.counts == "tokens" else 1.0
        if self.others_per_s:
            while self._others_at < now:
                self._others_at += 1 / self.others_per_s
                self.rule.takes(amount, now)
        taken, headers = self.rule.takes(amount, now), {}
        if self.headers:
            headers = {
                f"x-ratelimit-limit-{self.counts}": f"{self.rule.per_minute:.0f}",
                f"x-ratelimit-remaining-{self.counts}": f"{math.floor(self.rule.remaining(now))}",
                f"x-ratelimit-reset-{self.counts}": f"{self.rule.reset_s(now) * 1000:.0f}ms",
            }
        wait_s = self.rule.wait_s(amount, now)
        if not taken and self.retry_after == "seconds":
            headers["retry-after"] = str(math.ceil(wait_s))
        if not taken and self.retry_after == "ms":
            headers["retry-after-ms"] = f"{wait_s * 1000:.0f}"
        return taken, headers


@dataclass
class Log:
    """When requests were taken (with their amounts) and when they were turned away."""

    taken: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def amount(self, start_s: float, end_s: float) -> float:
        return sum(amount for time, amount in self.taken if start_s <= time < end_s)

    def share_refused(self, start_s: float = 0.0, end_s: float = math.inf) -> float:
        refused = sum(start_s <= time < end_s for time in self.refused)
        return refused / max(1, refused + sum(start_s <= time < end_s for time, _ in self.taken))


class World:
    """A client with endless work, a network and a server. Time passes from event to event."""

    def __init__(
        self,
        server: Server,
        limits: Limits,
        seed: int = 0,
        latency_s: tuple[float, float] = (0.05, 0.3),
        refusal_s: tuple[float, float] = (0.01, 0.05),
        uplink_s: tuple[float, float] = (0.001, 0.02),
        tokens: tuple[int, int] = (800, 1600),
        timer_s: float = 0.002,
        stalls: float = 0.0,
    ) -> None:
        self.now, self.log, self.server = 0.0, Log(), server
        self._rng = random.Random(seed)
        self._latency_s, self._refusal_s, self._uplink_s = latency_s, refusal_s, uplink_s
        self._tokens, self._timer_s, self._stalls = tokens, timer_s, stalls
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers: Iterator[int] = count()
        self._wake_at = math.inf
        self._next_tokens = self._rng.randint(*tokens)
        self.controller = Controller(limits, self.clock, random.Random(seed + 1))

    def clock(self) -> float:
        """The client's clock: a little uneven."""
        return 1000.0 + self.now + self._rng.uniform(0, 0.0005)

    def run(self, until_s: float) -> Log:
        self._pump()
        while self._events and self._events[0][0] <= until_s:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until_s
        return self.log

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def _pump(self) -> None:
        while (wait_s := self.controller.wait_s(self._next_tokens)) <= 0:
            self._send(self._next_tokens)
            self._next_tokens = self._rng.randint(*self._tokens)
        if math.isfinite(wait_s) and self._wake_at > self.now + wait_s:
            late_s = self._rng.uniform(0, self._timer_s) + (self._rng.random() < self._stalls) * 0.4
            wake_at = self._wake_at = self.now + wait_s + late_s
            self.later(wait_s + late_s, lambda: self._wake(wake_at))

    def _wake(self, wake_at: float) -> None:
        if wake_at == self._wake_at:
            self._wake_at = math.inf
            self._pump()

    def _send(self, num_tokens: int) -> None:
        ticket = self.controller.sent(num_tokens)
        self.later(self._rng.uniform(*self._uplink_s), lambda: self._arrive(num_tokens, ticket))

    def _arrive(self, num_tokens: int, ticket: Ticket) -> None:
        taken, headers = self.server.ask(num_tokens, self.now)
        if taken:
            self.log.taken.append((self.now, num_tokens if self.server.counts == "tokens" else 1))
            self.later(self._rng.uniform(*self._latency_s), lambda: self._answered(headers, ticket))
        else:
            self.log.refused.append(self.now)
            self.later(self._rng.uniform(*self._refusal_s), lambda: self._slowed(headers, ticket))

    def _answered(self, headers: dict[str, str], ticket: Ticket) -> None:
        self.controller.answered(headers, ticket.num_tokens, int(ticket.num_tokens * 0.7), ticket)
        self._pump()

    def _slowed(self, headers: dict[str, str], ticket: Ticket) -> None:
        milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
        wait_s = float(milliseconds) / 1000 if milliseconds else float(seconds) if seconds else None
        self.controller.slowed(wait_s, headers, ticket)
        self._pump()
