"""A server from which nothing comes back: one request at a time finds out whether it is there again."""

from __future__ import annotations

import math

_FAILURES_IN_A_ROW = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


class Circuit:
    """Open after several failures in a row, closed by anything that is answered."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._next_at = 0.0
        self._probe_at: float | None = None

    @property
    def open(self) -> bool:
        return self._failures >= _FAILURES_IN_A_ROW

    def wait_s(self, now: float) -> float:
        if not self.open:
            return 0.0
        return math.inf if self._probe_at is not None else max(0.0, self._next_at - now)

    def sent(self, now: float) -> None:
        if self.open:
            self._probe_at = now

    def answered(self) -> None:
        self._failures, self._pause_s, self._probe_at = 0, _FIRST_PAUSE_S, None

    def failed(self, sent_at: float, now: float) -> None:
        """Nothing came back. Once open, only the probe counts: the others left when it was not known yet."""
        if self.open:
            if self._probe_at is None or sent_at < self._probe_at:
                return
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._failures += 1
        self._probe_at, self._next_at = None, now + self._pause_s
