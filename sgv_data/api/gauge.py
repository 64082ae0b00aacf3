"""One limit of one endpoint, of requests or of tokens: as configured, as announced, as found."""

from __future__ import annotations

import math

from sgv_data.api.bucket import MINUTE_S, Bucket, Ledger
from sgv_data.api.chance import Chance, Stretch
from sgv_data.api.limit_headers import Reading
from sgv_data.api.pace import Pace

# Of a known limit so much is used: what is left over hides the unevenness of clocks and networks.
_SHARE = 0.99
_MOST_SHARE = 0.998
_BURST_S = 0.5
_CATCH_UP = 1.5
# A block longer than this is the end of a counted minute; what the minute held is believed for a while.
_WINDOW_BLOCK_S = 2.5
_TRUSTED_S = 10.0
# Before a minute has passed, a shorter one may as well be a passing fault.
_SURE_BLOCK_S = 15.0
# Before so many were taken, or by one or two refusals, nothing is learned about a limit that nobody named.
_FEW_TAKEN = 10
_BURST_REFUSED = 3


class Gauge:
    """Says when an amount may be sent, and learns from what is turned away."""

    def __init__(self, starts_slowly: bool, now: float) -> None:
        self.pace = Pace(starts_slowly, now)
        self._configured: float | None = None
        self._announced: float | None = None
        self._ceiling: Bucket | None = None
        self._known_since = self._born_at = now
        self._sent, self._taken = Ledger(), Ledger()
        self._exhausted_at: float | None = None
        self._opened_at = self._window_opened_at = -math.inf
        self._blocked_s = 0.0
        self._chance, self._num_refused = Chance(), 0

    @property
    def per_minute(self) -> float | None:
        """The limit as far as it was told."""
        return min((limit for limit in (self._configured, self._announced) if limit is not None), default=None)

    @property
    def rate_per_s(self) -> float:
        """What may be sent now, in the long run; inf: all."""
        return min(self.pace.rate_per_s, self._ceiling.per_s if self._ceiling else math.inf)

    def taken_in(self, seconds: float, now: float) -> float:
        """What was sent in the last seconds and not turned away."""
        return self._taken.since(now - seconds)

    def opens_at(self, now: float) -> float:
        """When it will probably take something again, should it count by the minute; not before `now`."""
        if math.isfinite(self._window_opened_at):
            return self._window_opened_at + MINUTE_S * math.ceil((now - self._window_opened_at) / MINUTE_S)
        first = self._taken.first_since(now - MINUTE_S)
        return (now if first is None else first) + MINUTE_S

    def configure(self, per_minute: float | None, now: float) -> None:
        before = self.per_minute
        self._configured = per_minute
        self._limit_changed(before, now)

    def read(self, reading: Reading, now: float) -> None:
        """Learns what a reply says about the limit."""
        if reading.limit is not None and reading.limit != self._announced:
            before = self.per_minute
            self._announced = reading.limit
            self._limit_changed(before, now)

    def wait_s(self, amount: float, now: float) -> float:
        pace_s, ceiling_s = self.pace.wait_s(amount, now), self._ceiling_wait_s(amount, now)
        if pace_s > ceiling_s:
            self.pace.holds()
        return max(pace_s, ceiling_s)

    def take(self, amount: float, may_grow: bool, round_trip_s: float, now: float) -> None:
        self.pace.grow(may_grow, round_trip_s, _CATCH_UP * self._ceiling.per_s if self._ceiling else math.inf, now)
        self.pace.take(amount, now)
        self._sent.add(amount, now)
        self._taken.add(amount, now)
        if self._ceiling:
            self._ceiling.take(amount, now)

    def owe(self, amount: float, now: float) -> None:
        """So much more was used than was taken."""
        self._sent.add(amount, now)
        if self._ceiling:
            self._ceiling.take(amount, now)

    def turned_away(self, amount: float, now: float) -> None:
        self._taken.add(-amount, now)
        self._num_refused += 1

    def reopened(self, exhausted_at: float, gap_s: float, now: float) -> None:
        """The server was exhausted from then until now: sets the rate by what it took.

        `gap_s`: so long before now it may have opened again without being asked.
        """
        before, self._exhausted_at = self._exhausted_at, exhausted_at
        num_refused, self._num_refused = self._num_refused, 0
        blocked_s, opened_at = now - exhausted_at, self._opened_at
        self._opened_at = now
        rate = self._rate_before(exhausted_at, opened_at)
        old_enough = blocked_s > _SURE_BLOCK_S or exhausted_at - self._born_at > MINUTE_S
        if blocked_s > max(_WINDOW_BLOCK_S, 4 / rate) and old_enough:
            # It opens when a counted minute is over: what lies in the last minute is what a minute may hold.
            taken = self._taken.since(now - gap_s / 2 - MINUTE_S)
            self.pace.found(max(taken, 1.0) / MINUTE_S, True, now, window=self.per_minute is None)
            self._exhausted_at = self._window_opened_at = now
            self._blocked_s = 0.0
        elif exhausted_at < self._window_opened_at + _TRUSTED_S:
            self._blocked_s += blocked_s
            self._exhausted_at = before
        else:
            if self.per_minute is not None or not self._may_be_chance(num_refused, before, exhausted_at, now):
                self._found_too_fast(rate, before, exhausted_at, now)
            self._blocked_s = blocked_s

    def _may_be_chance(self, num_refused: int, before: float | None, exhausted_at: float, now: float) -> bool:
        """Whether no limit is seen behind the refusals; if so, the pace seeks on."""
        if before is None and self._taken.since(self._born_at) < _FEW_TAKEN:
            self.pace.restart(now)
            return True
        if before is None:
            explained = num_refused < _BURST_REFUSED
        else:
            taken, passed_s = self._taken.between(before, exhausted_at), max(exhausted_at - before, 1e-3)
            explained = self._chance.explains(Stretch(max(taken, 0.0), num_refused, passed_s, self.rate_per_s))
        if explained:
            self.pace.seek(now)
        return explained

    def _found_too_fast(self, rate: float, before: float | None, exhausted_at: float, now: float) -> None:
        if self._chance.limit_per_s is not None:
            # Soon after a pause there was little time to be asked at the full rate.
            rate = min(self.rate_per_s, max(rate, self._chance.limit_per_s))
        if before is None or exhausted_at - before > 2 * MINUTE_S:
            self.pace.found(rate / 2, False, now)
        else:
            self._between_bursts(rate, before, exhausted_at, now)

    def _rate_before(self, exhausted_at: float, opened_at: float) -> float:
        """At what rate the server was asked when it had nothing left."""
        span_s = min(max(exhausted_at - opened_at, 0.2), 2.0)
        realized = max(self._sent.between(exhausted_at - span_s, exhausted_at), 1.0) / span_s
        return min(self.rate_per_s, 1.25 * realized)

    def _between_bursts(self, rate: float, before: float, exhausted_at: float, now: float) -> None:
        """Between two moments at which nothing was left, what was taken is what came in."""
        taken, passed_s = self._taken.between(before, exhausted_at), exhausted_at - before
        least = max(taken / passed_s, self._chance.limit_per_s or 0.0)
        most = taken / max(passed_s - self._blocked_s, 1e-3)
        if passed_s >= 4.0 and taken >= 10 and most < 1.04 * least and rate < 1.08 * least:
            self.pace.found(least, True, now)
            return
        # Below its limit a server may have let go unused what it had; then only a try shows where the limit is.
        cut = 0.9 if passed_s >= 4.0 else 0.75
        if rate > 2 * least and taken >= 5:
            cut = 0.85 * math.sqrt(least / rate)
        self.pace.found(min(max(cut * rate, 0.97 * least), 0.97 * rate), False, now)

    def _limit_changed(self, before: float | None, now: float) -> None:
        limit = self.per_minute
        if limit == before:
            return
        if limit is None:
            self._ceiling = None
            self.pace.forget(self.pace.rate_per_s, now)
            return
        self._known_since = now
        if before is not None:
            self.pace.forget(min(self.pace.rate_per_s, limit / MINUTE_S), now)
        self._set_ceiling(now)

    def _set_ceiling(self, now: float) -> None:
        per_s = _SHARE * (self.per_minute or 0.0) / MINUTE_S
        capacity = _BURST_S * per_s
        if self._ceiling:
            self._ceiling.change(per_s, capacity, now)
        else:
            self._ceiling = Bucket(per_s, capacity, now)

    def _ceiling_wait_s(self, amount: float, now: float) -> float:
        if self._ceiling is None or self.per_minute is None:
            return 0.0
        since = max(now - MINUTE_S, self._known_since)
        free_s = self._sent.free_at(max(0.0, _MOST_SHARE * self.per_minute - amount), since) - since
        return max(self._ceiling.wait_s(amount, now), free_s)
