"""What was sent lately, and how much may be sent now."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

MINUTE_S = 60.0
# A bucket holds so much more than is ever waited for, or each late timer would lose what came in meanwhile.
_SLACK_S = 0.05

_BIN_S = 0.05
_KEPT_S = 3 * MINUTE_S


class Ledger:
    """Amounts by the moment they were noted, in bins of 50 ms, for the last three minutes."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._totals: deque[float] = deque()
        self._total = 0.0
        self._forgotten = 0.0

    def add(self, amount: float, now: float) -> None:
        """Notes `amount`, which may be negative: something noted before did not count."""
        self._total += amount
        if self._times and now < self._times[-1] + _BIN_S:
            self._totals[-1] = self._total
            return
        self._times.append(now)
        self._totals.append(self._total)
        while self._times[0] < now - _KEPT_S:
            self._times.popleft()
            self._forgotten = self._totals.popleft()

    def since(self, when: float) -> float:
        """What was noted from `when` on; a bin that `when` falls into counts as a whole."""
        place = bisect_right(self._times, when - _BIN_S)
        return self._total - (self._totals[place - 1] if place else self._forgotten)

    def between(self, start: float, end: float) -> float:
        return self.since(start) - self.since(end)

    def first_since(self, when: float) -> float | None:
        """The moment of the first note from `when` on that is kept."""
        place = bisect_right(self._times, when)
        return self._times[place] if place < len(self._times) else None

    def free_at(self, amount: float, since: float) -> float:
        """The moment up to which the notes from `since` on must be forgotten so that at most `amount` is left."""
        if self.since(since) <= amount:
            return since
        for time, total in zip(self._times, self._totals, strict=True):
            if time + _BIN_S > since and self._total - total <= amount:
                return time + _BIN_S
        return self._times[-1] + _BIN_S


class Bucket:
    """Fills at `per_s` and holds `capacity`; starts full.

    An amount larger than the bucket is let through when the bucket is full and leaves a debt, so that the rate holds
    over time and nothing waits for ever.
    """

    def __init__(self, per_s: float, capacity: float, now: float) -> None:
        self.per_s, self._capacity = per_s, capacity
        self._level, self._updated = capacity, now

    def change(self, per_s: float, capacity: float, now: float) -> None:
        """Goes on at another rate; what it holds stays, up to the new capacity."""
        self._fill(now)
        self.per_s, self._capacity = per_s, capacity
        self._level = min(self._level, self._most)

    def wait_s(self, amount: float, now: float) -> float:
        """How long until `amount` may be taken."""
        self._fill(now)
        missing = min(amount, self._capacity) - self._level
        # A part in 10^9 is the clock's rounding, not a shortage.
        return missing / self.per_s if missing > 1e-9 * self._capacity else 0.0

    def take(self, amount: float, now: float) -> None:
        self._fill(now)
        self._level -= amount

    @property
    def _most(self) -> float:
        return self._capacity + _SLACK_S * self.per_s

    def _fill(self, now: float) -> None:
        if now > self._updated:
            self._level = min(self._most, self._level + (now - self._updated) * self.per_s)
            self._updated = now
