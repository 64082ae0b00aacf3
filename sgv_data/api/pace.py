"""A rate that is searched for: up while it is what binds, down when the server says so, with a memory of the limit.

The climb follows the idea of CUBIC (RFC 9438): quickly towards the rate that is known to be too much, long near it,
then beyond it slowly at first, so that a limit that has risen is found and one that has not costs little.
"""

from __future__ import annotations

import math

from sgv_data.api.bucket import Bucket

# Starting: doubles once per round trip within these bounds, up to where one more doubling would be a rush.
_FIRST_PER_S = 5.0
_RUSH_PER_S = 150.0
_RUSH_GROWTH_PER_S2 = 150.0
# A server with shorter round trips than this may be asked faster at once.
NEARBY_S = 0.05
_RUSH_OVERSHOOT = 0.5
_SHORTEST_ROUND_TRIP_S = 0.02
_QUICKEST_DOUBLES_S = 0.02
_MOST_GROWTH = 3.0
# Where a limit is known, from a fifth of it, in a second.
_FIRST_SHARE = 0.2
_KNOWN_DOUBLES_S = 0.3
_BURST_S = 0.1
_CAREFUL_BURST_S = 0.04
_FORGOTTEN_DOUBLES_S = 1.0
_SEEKING_DOUBLES_S = 6.0
_SETTLING_DOUBLES_S = 350.0
_NEAR = 0.97
_AT = 0.99
_FIRST_HOLD_S = 40.0
_LONGEST_HOLD_S = 300.0
_WINDOW_HOLD_S = 120.0
_BEYOND_PER_S2 = 4e-4
_BEYOND_WINDOW_PER_S2 = 4e-5
_SAME = 0.05
_LEAST_PER_S = 1 / 60
# So far beyond what was taken for the limit without a refusal: it is not the limit.
_DISPROVED = 1.5
_LONGEST_STEP_S = 1.0


class Pace:
    """One searched rate, in requests or tokens per second. Without a start it is free until the first cut."""

    def __init__(self, starts_slowly: bool, now: float) -> None:
        self.rate_per_s = _FIRST_PER_S if starts_slowly else math.inf
        self._starting = starts_slowly
        self._bucket = Bucket(_FIRST_PER_S, _BURST_S * _FIRST_PER_S, now)
        self._plateau, self._doubles_s, self._hold_s, self._beyond_s = math.inf, _SEEKING_DOUBLES_S, 0.0, 0.0
        self._found, self._next_hold_s = 0.0, _FIRST_HOLD_S
        self._held, self._updated = False, now
        self._burst_s, self._beyond_per_s2 = _BURST_S, _BEYOND_PER_S2

    def wait_s(self, amount: float, now: float) -> float:
        return 0.0 if math.isinf(self.rate_per_s) else self._bucket.wait_s(amount, now)

    def holds(self) -> None:
        """Says that it is this rate that something now waits for: only then may it grow."""
        self._held = True

    def take(self, amount: float, now: float) -> None:
        if not math.isinf(self.rate_per_s):
            self._bucket.take(amount, now)

    def grow(self, may_grow: bool, round_trip_s: float, most_per_s: float, now: float) -> None:
        """Grows for the time since the last call, if it was held and nothing speaks against it."""
        # A slow rate is asked seldom: the time of two requests counts in full.
        most_s = max(_LONGEST_STEP_S, 2 / self.rate_per_s)
        passed_s, self._updated = max(0.0, min(now - self._updated, most_s)), now
        if self._held and may_grow and not math.isinf(self.rate_per_s):
            self._grow(passed_s, round_trip_s, most_per_s)
        self._held = False
        if self.rate_per_s > most_per_s:
            self._free(most_per_s)
        self._set_bucket(now)

    def found(self, limit_per_s: float, sure: bool, now: float, window: bool = False) -> None:
        """The server takes `limit_per_s` and not more. `sure`: measured, not guessed.

        `window`: it counts by the minute, so that it says only late that a rate is too high.
        """
        self._starting, self._beyond_s = False, 0.0
        self._burst_s, self._beyond_per_s2 = _CAREFUL_BURST_S, _BEYOND_WINDOW_PER_S2 if window else _BEYOND_PER_S2
        if sure:
            same = abs(limit_per_s - self._found) <= _SAME * self._found
            self._next_hold_s = min(2 * self._next_hold_s, _LONGEST_HOLD_S) if same else _FIRST_HOLD_S
            self._found, self._plateau = limit_per_s, _AT * limit_per_s
            self._doubles_s = _SETTLING_DOUBLES_S
            self._hold_s = max(self._next_hold_s, _WINDOW_HOLD_S if window else 0.0)
            self.rate_per_s = _NEAR * limit_per_s
        else:
            self._doubles_s, self._hold_s = _SEEKING_DOUBLES_S, 0.0
            self._plateau = _NEAR * min(self.rate_per_s, 4 * limit_per_s)
            self.rate_per_s = limit_per_s
        self.rate_per_s = max(self.rate_per_s, _LEAST_PER_S)
        self._set_bucket(now)

    def restart(self, now: float) -> None:
        """Turned away before anything was learned: begins anew at half the rate, as quickly as at first."""
        if not math.isinf(self.rate_per_s):
            self.rate_per_s = max(_FIRST_PER_S / 4, min(self.rate_per_s / 2, _FIRST_PER_S))
            self._set_bucket(now)

    def seek(self, now: float) -> None:
        """A refusal that no limit explains: goes on at this rate, and upwards, as if none had been found."""
        if not self._starting:
            self.forget(self.rate_per_s, now)

    def forget(self, rate_per_s: float, now: float) -> None:
        """The limit has become another one: what was found of it holds no longer."""
        self._starting, self._plateau, self._hold_s, self._beyond_s = False, math.inf, 0.0, 0.0
        self._doubles_s, self.rate_per_s = _FORGOTTEN_DOUBLES_S, max(rate_per_s, _LEAST_PER_S)
        self._set_bucket(now)

    def _grow(self, passed_s: float, round_trip_s: float, most_per_s: float) -> None:
        if self._starting and not math.isinf(most_per_s):
            self.rate_per_s = max(self.rate_per_s, _FIRST_SHARE * most_per_s) * 2 ** (passed_s / _KNOWN_DOUBLES_S)
        elif self._starting:
            growth, rush_per_s2 = 2 ** (passed_s / min(max(2 * round_trip_s, 0.15), 1.0)), _RUSH_GROWTH_PER_S2
            if round_trip_s < NEARBY_S:
                # A refusal is heard of after a round trip: where that is short, a quick climb overshoots by little.
                growth = min(2 ** (passed_s / max(2 * round_trip_s, _QUICKEST_DOUBLES_S)), _MOST_GROWTH)
                rush_per_s2 = _RUSH_OVERSHOOT / max(round_trip_s, _SHORTEST_ROUND_TRIP_S) ** 2
            doubled = self.rate_per_s * growth
            self.rate_per_s = min(doubled, max(_RUSH_PER_S, self.rate_per_s + rush_per_s2 * passed_s))
        elif self.rate_per_s < self._plateau:
            self.rate_per_s = min(self._plateau, self.rate_per_s * 2 ** (passed_s / self._doubles_s))
        elif self._hold_s > 0:
            self._hold_s -= passed_s
        else:
            self._beyond_s += passed_s
            self.rate_per_s = self._plateau * (1 + self._beyond_per_s2 * self._beyond_s**2)
            if self.rate_per_s > _DISPROVED * self._plateau:
                self._plateau, self._doubles_s, self._beyond_s = math.inf, _FORGOTTEN_DOUBLES_S, 0.0

    def _free(self, most_per_s: float) -> None:
        self._starting, self.rate_per_s, self._plateau = False, most_per_s, math.inf

    def _set_bucket(self, now: float) -> None:
        if not math.isinf(self.rate_per_s):
            rate = self.rate_per_s
            self._bucket.change(rate, self._burst_s * rate, now)
