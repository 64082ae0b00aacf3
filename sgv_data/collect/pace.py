"""How fast it goes and when it will be done, from what happened lately."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_RATE_OVER_S = 60.0
_SHORTEST_LOOK_BACK_S = 30.0
_LONGEST_LOOK_BACK_S = 900.0
_LOOK_BACK_SHARE = 0.25
_ENOUGH_FOR_ETA = 20
_KEPT_S = 3600
_SECONDS_FOR_ETA = 10.0


@dataclass(slots=True)
class _Second:
    """A second, counted from the start, in which something ended."""

    number: int
    count: int = 0
    tokens: int = 0


class Pace:
    """Counts what ended in every second of the last hour. All times are of the caller's clock, in seconds."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._seconds: deque[_Second] = deque()

    def ended(self, now_s: float, tokens: int) -> None:
        """One more, which used so many tokens."""
        number = int(now_s - self._started_s)
        if not self._seconds or self._seconds[-1].number != number:
            self._seconds.append(_Second(number))
            while self._seconds[0].number < number - _KEPT_S:
                self._seconds.popleft()
        self._seconds[-1].count += 1
        self._seconds[-1].tokens += tokens

    def per_s(self, now_s: float) -> float:
        """How many ended per second over the last minute."""
        return self._lately(now_s, _RATE_OVER_S)[0]

    def tokens_per_minute(self, now_s: float) -> float:
        """How many tokens were used per minute over the last minute."""
        return self._lately(now_s, _RATE_OVER_S)[1] * 60

    def eta_s(self, now_s: float, num_left: int) -> float | None:
        """Seconds until `num_left` more have ended, or None while too little is known.

        Looks back over the last quarter of the time spent (half a minute at least, a quarter of an hour at most), so
        that neither the slow start nor a short pause counts for long; over an hour where little ends.
        """
        if num_left <= 0:
            return 0.0
        elapsed_s = now_s - self._started_s
        if elapsed_s < _SECONDS_FOR_ETA:
            return None
        look_back_s = min(max(elapsed_s * _LOOK_BACK_SHARE, _SHORTEST_LOOK_BACK_S), _LONGEST_LOOK_BACK_S)
        for over_s in (look_back_s, float(_KEPT_S)):
            per_s = self._lately(now_s, over_s)[0]
            if per_s * min(over_s, elapsed_s) >= _ENOUGH_FOR_ETA - 0.5:
                return num_left / per_s
        return None

    def _lately(self, now_s: float, over_s: float) -> tuple[float, float]:
        """Ended and tokens used per second over the last `over_s`, or since the start if that is less."""
        elapsed_s = now_s - self._started_s
        span_s = max(1.0, min(over_s, elapsed_s))
        first = elapsed_s - span_s - 0.5  # a second half inside the span counts whole, one less than half does not
        count = tokens = 0
        for second in reversed(self._seconds):
            if second.number < first:
                break
            count += second.count
            tokens += second.tokens
        return count / span_s, tokens / span_s
