"""How fast one endpoint may be asked: limits that are configured, announced or found, and every signal that comes back.

Pure logic: it never waits and knows no network. Whoever sends asks `wait_s`, says `sent`, and then, once for each
request, one of `answered`, `slowed`, `failed`, with the ticket that `sent` gave.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sgv_data.api.block import Block
from sgv_data.api.bucket import MINUTE_S
from sgv_data.api.circuit import Circuit
from sgv_data.api.gauge import Gauge
from sgv_data.api.limit_headers import requests_reading, tokens_reading
from sgv_data.api.pace import NEARBY_S
from sgv_data.api.ramp import Ramp, RampRule
from sgv_data.manifest import Limits

# A block of unknown length is probed so often that the probes are this share of what the server takes.
_PROBES = 0.004
_PROBE_PAUSE_S = (5.0, 15.0)
_PROBED_S = 1.0
_BELIEVED_S = 10.0
# While more than this share of the latest requests ended in a fault of the server, no rate grows.
_FAULTY = 0.2
_FAULT_WEIGHT = 0.05
_BINDING_S = 2.0
# A shorter wait is the clock's rounding.
_ROUNDING_S = 1e-6
_USED = 0.85
# Under a known limit the start need not wait for answers.
_QUICK_START_S = 0.15
_SLOW_DOWN = RampRule(above_tokens_per_minute=0.0, growth=1.5, period_s=900.0)


class Binding(StrEnum):
    """What keeps an endpoint from being asked faster; `work`: nothing but too little to do."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    IN_FLIGHT = "in_flight"
    PAUSE = "pause"
    RAMP = "ramp"
    WORK = "work"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request under way: when it was sent, on the controller's clock, and the tokens reserved for it."""

    at_s: float
    num_tokens: float


@dataclass(frozen=True, slots=True)
class State:
    """A controller at one moment; the fields are those of `collect.snapshot.EndpointState`."""

    name: str
    in_flight: int
    may_be_in_flight: int
    requests_per_minute: float | None
    tokens_per_minute: float | None
    binding: str
    paused_s: float
    out: bool


class Controller:
    """One per endpoint. `ramp`: the provider's ramp rule, see `ramp.ramp_rule`."""

    def __init__(
        self, limits: Limits, clock: Callable[[], float], rng: random.Random, ramp: RampRule | None = None
    ) -> None:
        now = clock()
        self._clock = clock
        self._requests, self._tokens = Gauge(True, now), Gauge(False, now)
        self._block, self._circuit = Block(rng), Circuit()
        self._ramp = Ramp(ramp, now) if ramp else None
        self._in_flight = 0
        self._round_trip_s, self._num_answers = 0.5, 0
        self._share_faulty = 0.0
        self._held: tuple[Binding, float] = (Binding.WORK, now)
        self._blamed = self._requests
        self.change(limits)

    def change(self, limits: Limits) -> None:
        """Goes on under other limits."""
        now = self._clock()
        self._most_in_flight = limits.in_flight
        self._requests.configure(limits.requests_per_minute, now)
        self._tokens.configure(limits.tokens_per_minute, now)

    def wait_s(self, num_tokens: float) -> float:
        """How long before a request of `num_tokens` may be sent. 0.0: now; inf: not before something in flight ends."""
        now = self._clock()
        paused_s = max(self._block.wait_s(now), self._circuit.wait_s(now))
        self._learn_from_block(now)
        waits = [
            (paused_s, Binding.PAUSE),
            (math.inf if self._in_flight >= self._most_in_flight else 0.0, Binding.IN_FLIGHT),
            (self._requests.wait_s(1.0, now), Binding.REQUESTS),
            (self._tokens.wait_s(num_tokens, now), Binding.TOKENS),
            (self._ramp.wait_s(num_tokens, now) if self._ramp else 0.0, Binding.RAMP),
        ]
        wait_s, binding = max(waits, key=lambda wait: wait[0])
        if wait_s < _ROUNDING_S:
            return 0.0
        self._held = binding, now
        if binding is Binding.RAMP and self._ramp:
            self._ramp.holds()
        return wait_s

    def sent(self, num_tokens: float) -> Ticket:
        """Notes a request that leaves now."""
        now = self._clock()
        may_grow = self._share_faulty < _FAULTY
        known = self._requests.per_minute is not None or self._tokens.per_minute is not None
        round_trip_s = _QUICK_START_S if known else self._round_trip_s
        self._in_flight += 1
        self._requests.take(1.0, may_grow, round_trip_s, now)
        self._tokens.take(num_tokens, may_grow, round_trip_s, now)
        if self._ramp:
            self._ramp.take(num_tokens, now)
        self._block.sent(now)
        self._circuit.sent(now)
        return Ticket(now, num_tokens)

    def answered(
        self, headers: Mapping[str, str], reserved_tokens: float, used_tokens: int | None, ticket: Ticket | None = None
    ) -> None:
        """A request got its answer.

        Tokens that were reserved and not used are not given back: providers charge what a request may cost at most
        when it comes in. Tokens used beyond the reservation are owed.
        """
        now = self._clock()
        ticket = self._ended(ticket, now)
        self._share_faulty -= _FAULT_WEIGHT * self._share_faulty
        if used_tokens is not None and used_tokens > reserved_tokens:
            self._tokens.owe(used_tokens - reserved_tokens, now)
        self._num_answers += 1
        round_trip_s = now - ticket.at_s
        # Of a server nearby the first answers say more than what was assumed before them.
        weight = max(0.1, 1 / self._num_answers) if round_trip_s < NEARBY_S else 0.1
        self._round_trip_s += weight * (round_trip_s - self._round_trip_s)
        self._circuit.answered()
        self._block.accepted(ticket.at_s)
        self._learn_from_block(now)
        self._read(headers, now)

    def slowed(
        self, wait_s: float | None, headers: Mapping[str, str], ticket: Ticket | None = None, slow_down: bool = False
    ) -> None:
        """A request was turned away for coming too fast.

        `wait_s`: for how long the server asks to wait; None: it does not say. `slow_down`: it says that the rate grew
        too fast, so from now on it grows by the ramp rule.
        """
        now = self._clock()
        ticket = self._ended(ticket, now)
        self._circuit.answered()
        self._requests.turned_away(1.0, now)
        self._tokens.turned_away(ticket.num_tokens, now)
        self._read(headers, now)
        if not self._block.refused(ticket.at_s, now):
            if wait_s is not None and _is_told(headers):
                self._block.pause(wait_s, now)
            return
        self._blamed = self._to_blame(headers, ticket.num_tokens, now)
        if wait_s is not None and _is_told(headers):
            self._block.pause(wait_s, now)
        else:
            self._back_off(wait_s, now)
        if slow_down:
            self._ramp = Ramp(_SLOW_DOWN, now, max(self._tokens.taken_in(MINUTE_S, now) / 2, ticket.num_tokens))

    def failed(self, unreachable: bool = False, ticket: Ticket | None = None) -> None:
        """A request ended in any other way. `unreachable`: nothing came back at all: no connection, reset, time-out."""
        now = self._clock()
        ticket = self._ended(ticket, now)
        self._share_faulty += _FAULT_WEIGHT * (1 - self._share_faulty)
        if unreachable:
            self._circuit.failed(ticket.at_s, now)
        else:
            self._circuit.answered()

    def pause(self, seconds: float) -> None:
        """Sends nothing for so long and a little more. A pause is never shortened."""
        self._block.pause(seconds, self._clock())

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def out(self) -> bool:
        """Nothing comes back from it: only one request at a time finds out whether it is there again."""
        return self._circuit.open

    @property
    def binding(self) -> Binding:
        """What was waited for last, if that was not long ago."""
        now, (binding, when) = self._clock(), self._held
        if self._block.paused_s(now):
            return Binding.PAUSE
        return binding if now < when + _BINDING_S else Binding.WORK

    def state(self, name: str) -> State:
        now = self._clock()
        return State(
            name=name,
            in_flight=self._in_flight,
            may_be_in_flight=self._most_in_flight,
            requests_per_minute=_per_minute(self._requests.rate_per_s),
            tokens_per_minute=_per_minute(self._tokens.rate_per_s),
            binding=self.binding,
            paused_s=self._block.paused_s(now),
            out=self.out,
        )

    def _ended(self, ticket: Ticket | None, now: float) -> Ticket:
        self._in_flight = max(0, self._in_flight - 1)
        return ticket or Ticket(now - self._round_trip_s, 0.0)

    def _read(self, headers: Mapping[str, str], now: float) -> None:
        self._requests.read(requests_reading(headers), now)
        self._tokens.read(tokens_reading(headers), now)

    def _learn_from_block(self, now: float) -> None:
        if (over := self._block.reopened()) is not None:
            self._blamed.reopened(over.began_at, over.guessed_s, over.ended_at)

    def _back_off(self, at_most_s: float | None, now: float) -> None:
        """Pauses by our own rule. `at_most_s`: when the limit is wholly fresh again, which may be long after it takes
        the next request; that is believed when earlier tries were turned away.
        """
        if at_most_s is not None and self._block.lasts_s(now) > _PROBED_S:
            self._block.pause(min(at_most_s, _BELIEVED_S), now)
            return
        taken = max(self._requests.taken_in(MINUTE_S, now), 1.0)
        least_s, most_s = _PROBE_PAUSE_S
        open_at = now + at_most_s if at_most_s is not None else self._blamed.opens_at(now)
        self._block.back_off(
            1.5 / min(self._requests.rate_per_s, taken),
            min(max(MINUTE_S / (_PROBES * taken), least_s), most_s),
            open_at,
            now,
        )

    def _to_blame(self, headers: Mapping[str, str], num_tokens: float, now: float) -> Gauge:
        """The limit that was hit: the one the server says is used up, else the known one that is used most."""
        for gauge, reading, amount in (
            (self._tokens, tokens_reading(headers), num_tokens),
            (self._requests, requests_reading(headers), 1.0),
        ):
            if reading.remaining is not None and reading.remaining < amount:
                return gauge
        used = self._used(self._tokens, now)
        return self._tokens if used >= _USED and used >= self._used(self._requests, now) else self._requests

    def _used(self, gauge: Gauge, now: float) -> float:
        if gauge.per_minute is None:
            return 0.0
        over_s = 2.0
        return gauge.taken_in(over_s, now) / over_s * MINUTE_S / gauge.per_minute


def _is_told(headers: Mapping[str, str]) -> bool:
    """A wait is the server's word, unless it was concluded from when a limit will be fresh again."""
    return "retry-after" in headers or "retry-after-ms" in headers or not any("reset" in name for name in headers)


def _per_minute(per_s: float) -> float | None:
    return None if math.isinf(per_s) else per_s * MINUTE_S
