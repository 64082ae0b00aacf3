"""A server that turns requests away: how long nothing is sent, and how it is found out that it takes them again."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

_LEAST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 60.0
_LONG_S = 70.0
_JITTER = 0.05
_MOST_JITTER_S = 0.5
_LEAST_PATIENCE_S = 0.1
_MOST_PATIENCE_S = 6.0


@dataclass(frozen=True, slots=True)
class Blocked:
    """A block that is over: from the first refusal to the sending of the probe that got through.

    `guessed_s`: the length of the last pause, if nobody had told it: it may have been over for so long.
    """

    began_at: float
    ended_at: float
    guessed_s: float


class Block:
    """Open, or blocked from the first refusal until a probe gets through; pauses lengthen from probe to probe."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._until = -math.inf
        self._cut_at = -math.inf
        self._started: float | None = None
        self._probe_at: float | None = None
        self._pause_s = _LEAST_PAUSE_S
        self._refusal_s = 0.0
        self._open_at = 0.0
        self._guessed_s = 0.0
        self._over: Blocked | None = None

    def pause(self, seconds: float, now: float) -> None:
        """Sends nothing for so long and a little more. A pause is never shortened."""
        jitter_s = min(_JITTER * seconds, _MOST_JITTER_S) * self._rng.random()
        self._until = max(self._until, now + seconds + jitter_s)
        self._guessed_s = 0.0

    def paused_s(self, now: float) -> float:
        return max(0.0, self._until - now)

    def lasts_s(self, now: float) -> float:
        """For how long requests have been turned away."""
        return now - self._started if self._started is not None else 0.0

    def refused(self, sent_at: float, now: float) -> bool:
        """Notes a refusal; False: its request left before the last one that was acted on, so it says nothing new."""
        self._refusal_s = max(0.9 * self._refusal_s, now - sent_at)
        if sent_at < self._cut_at:
            return False
        self._cut_at, self._probe_at = now, None
        if self._started is None:
            self._started, self._pause_s = now, 0.0
        return True

    def back_off(self, first_s: float, most_s: float, open_at: float, now: float) -> None:
        """Pauses without having been told for how long; `open_at`: when it will probably open (tried once)."""
        if self._started is not None and now - self._started > _LONG_S:
            most_s = _LONGEST_PAUSE_S
        self._pause_s = min(max(2 * self._pause_s, first_s, _LEAST_PAUSE_S), max(most_s, _LEAST_PAUSE_S))
        until = now + self._pause_s * (1 + _JITTER * self._rng.random())
        if self._pause_s <= max(first_s, _LEAST_PAUSE_S):
            self._open_at = open_at
        self._guessed_s = self._pause_s
        if now < self._open_at < until:
            until, self._open_at, self._guessed_s = self._open_at, 0.0, 0.0
        self._until = max(self._until, until)

    def wait_s(self, now: float) -> float:
        if now < self._until:
            return self._until - now
        if self._started is None or self._probe_at is None:
            return 0.0
        patience_s = min(max(2.5 * self._refusal_s, _LEAST_PATIENCE_S), _MOST_PATIENCE_S)
        if now < self._probe_at + patience_s:
            return self._probe_at + patience_s - now
        self._open()
        return 0.0

    def sent(self, now: float) -> None:
        if self._started is not None and self._probe_at is None:
            self._probe_at = now

    def accepted(self, sent_at: float) -> None:
        """A request that left then was taken."""
        if self._started is not None and self._probe_at is not None and sent_at >= self._cut_at:
            self._open()

    def reopened(self) -> Blocked | None:
        """Once after each block: what it was."""
        over, self._over = self._over, None
        return over

    def _open(self) -> None:
        if self._started is not None and self._probe_at is not None:
            self._over = Blocked(self._started, self._probe_at, self._guessed_s)
        self._started = self._probe_at = None
