"""What only several faults together tell: that nobody is there, that the settings are wrong, that the server is down.

A row that runs out of tries is not written off at once. Its failure is held back until something is answered; when
instead one failure follows another, the run stops and these rows stay pending.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from sgv_data.api.outcomes import EndRow, Fault, FaultKind, Stop, Wait
from sgv_data.records import FailureClass

Held = TypeVar("Held")

SAME_CONFIG_FAULTS = 5
FAILURES_IN_A_ROW = 10
TRIES_BEFORE_FIRST_ANSWER = 3
PATIENCE_S = 900.0


class Health(Generic[Held]):
    """Watches the faults of one run against one endpoint."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address, self._clock = address, clock
        self._num_answered = 0
        self._held: list[Held] = []
        self._same_fault, self._num_same = "", 0
        self._refused_since: float | None = None

    @property
    def max_tries(self) -> int | None:
        """An upper bound on tries while nothing was ever answered and nobody may be there at all."""
        return None if self._num_answered else TRIES_BEFORE_FIRST_ANSWER

    def answered(self) -> list[Held]:
        """A whole answer came; returns the failures held back."""
        self._num_answered += 1
        self._num_same, self._refused_since = 0, None
        return self.release()

    def waits(self, decision: Wait) -> Stop | None:
        """The provider asked for a pause: Stop when that has been all it says for too long."""
        now = self._clock()
        self._refused_since = now if self._refused_since is None else self._refused_since
        asked_s = decision.seconds or 0.0
        if asked_s > PATIENCE_S:
            return Stop(f"{self._address} asks to wait for {asked_s / 60:.0f} minutes ({decision.detail}); run the "
                        "same command again later")
        if now - self._refused_since > PATIENCE_S:
            return Stop(f"{self._address} has answered nothing but 'too many requests' for "
                        f"{PATIENCE_S / 60:.0f} minutes ({decision.detail}); lower teacher.limits and run the "
                        "same command again")
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

    def gave_up(self, fault: Fault, failure: Held) -> Stop | None:
        """A request used up its tries. Holds its failure back; Stop when the server is not there or down."""
        self._held.append(failure)
        if fault.kind is FaultKind.UNREACHABLE and not self._num_answered:
            return Stop(f"no server answers at {self._address} ({fault.detail}). Check teacher.base_url and that the "
                        "server is running")
        if len(self._held) >= FAILURES_IN_A_ROW:
            return Stop(f"{self._address} has failed {len(self._held)} requests in a row, each several times; the "
                        f"last: {fault.detail}. Nothing is lost; run the same command again when it is well")
        return None

    def release(self) -> list[Held]:
        """The failures held back, to be recorded because the run is over or the server is well."""
        held, self._held = self._held, []
        return held
