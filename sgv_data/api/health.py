"""What only several faults together tell of an endpoint: nobody is there, it is down, the settings are wrong.

An endpoint that fails one request after the other is left to rest, then looked at with one request at a time, in ever
longer intervals. A fault that is the server's does not use up a try of the request that met it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sgv_data.api.outcomes import EndRow, Fault, FaultKind, Retry, Stop, Wait
from sgv_data.records import FailureClass

SAME_CONFIG_FAULTS = 5
FAILURES_IN_A_ROW = 10
TRIES_BEFORE_FIRST_ANSWER = 3
LOOKS_PER_TRY = 2
FIRST_REST_S = 1.0
PATIENCE_S = 900.0


class Health:
    """Watches the faults of one endpoint. `tries` is how often one request is tried, `longest_rest_s` the most between
    two looks at a server that is down."""

    def __init__(
        self, address: str, tries: int, longest_rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address, self._clock = address, clock
        self._most_looks, self._longest_rest_s = LOOKS_PER_TRY * tries, longest_rest_s
        self._num_answered = 0
        self._failing: set[str] = set()
        self._num_failed, self._num_rests, self._rest_until = 0, 0, 0.0
        self._same_fault, self._num_same = "", 0
        self._waiting_since: float | None = None

    @property
    def is_well(self) -> bool:
        """Whether it may get more than one request at a time."""
        return not self._num_rests

    def rest_s(self) -> float:
        """How long it is still to be left alone."""
        return max(0.0, self._rest_until - self._clock()) if self._num_rests else 0.0

    def answered(self) -> None:
        """A whole answer came."""
        self._num_answered += 1
        self._failing.clear()
        self._num_failed = self._num_rests = self._num_same = 0
        self._waiting_since = None

    def waits(self, decision: Wait) -> Stop | None:
        """The provider asked for a pause: Stop when that has been all it says for too long."""
        now = self._clock()
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        asked_s = decision.seconds or 0.0
        if asked_s > PATIENCE_S:
            return Stop(f"{self._address} asks to wait for {asked_s / 60:.0f} minutes ({decision.detail}); run the "
                        "same command again later", comes_back=True)
        if now - self._waiting_since > PATIENCE_S:
            return Stop(f"{self._address} has answered nothing but 'too many requests' for "
                        f"{PATIENCE_S / 60:.0f} minutes ({decision.detail}); lower teacher.limits and run the "
                        "same command again", comes_back=True)
        return None

    def refused(self, fault: Fault, decision: EndRow) -> Stop | None:
        """A request was turned down for good: Stop when the same fault meets every request."""
        if decision.failure is not FailureClass.BAD_REQUEST:
            return None
        self._num_same = self._num_same + 1 if fault.name == self._same_fault else 1
        self._same_fault = fault.name
        if self._num_same < SAME_CONFIG_FAULTS:
            return None
        return Stop(f"{self._address} turns down every request ({fault.name}): {decision.detail}. Check teacher.model, "
                    "teacher.token_limit_name, teacher.temperature and teacher.max_completion_tokens")

    def failed(self, subject: str, fault: Fault, decision: Retry, was_look: bool) -> Stop | None:
        """A try failed. `was_look`: it was sent to see whether the endpoint is well again.

        Requests of several subjects that fail in a row open a rest; a look that fails, a longer one; Stop when there
        were too many.
        """
        if self._num_rests and not was_look:
            return None  # it left before the rest began
        nobody = fault.kind is FaultKind.UNREACHABLE and not self._num_answered
        self._num_failed += 1
        if not self._num_rests:
            self._failing.add(subject)
            if len(self._failing) < FAILURES_IN_A_ROW and not nobody:
                return None
        self._num_rests += 1
        if self._num_rests > (TRIES_BEFORE_FIRST_ANSWER - 1 if nobody else self._most_looks):
            return self._down(fault, nobody)
        rest_s = min(FIRST_REST_S * 2.0 ** (self._num_rests - 1), self._longest_rest_s)
        self._rest_until = self._clock() + max(rest_s, decision.min_wait_s)
        return None

    def looks_again(self) -> None:
        """After a Stop: the next request is one look, and if it fails there is another Stop."""
        self._num_rests, self._rest_until = self._most_looks, 0.0
        self._waiting_since = None
        self._num_same = max(0, SAME_CONFIG_FAULTS - 1) if self._num_same else 0

    def _down(self, fault: Fault, nobody: bool) -> Stop:
        if nobody:
            return Stop(f"no server answers at {self._address} ({fault.detail.rstrip('.')}). Check teacher.base_url "
                        "and that the server is running", comes_back=True)
        return Stop(f"{self._address} has failed {self._num_failed} requests in a row, the last ones some time apart; "
                    f"the last: {fault.detail.rstrip('.')}. Nothing is lost; run the same command again when it is "
                    "well",
                    comes_back=True)
