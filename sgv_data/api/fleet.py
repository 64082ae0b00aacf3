"""Several endpoints or keys that share the work: each request goes to one that has room, first come, first served.

An endpoint that turns everything down (wrong key, no credit, not there) is left out, which is said; where it may come
back it is looked at again later. When none is left, the run ends with what the last one said.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sgv_data.api.backlog import Bell
from sgv_data.api.client import ChatClient
from sgv_data.api.controller import Controller, State, Ticket
from sgv_data.api.health import Health
from sgv_data.api.outcomes import Stop
from sgv_data.errors import ProviderError
from sgv_data.manifest import Limits

_FIRST_ABSENCE_S = 60.0
_LONGEST_ABSENCE_S = 600.0
_DETOUR_S = 1.0


@dataclass(slots=True)
class Member:
    """One endpoint: its client, what it may be sent, and how well it is."""

    name: str
    client: ChatClient
    controller: Controller
    health: Health
    limits: Limits
    out_until: float = -math.inf
    num_absences: int = 0

    def is_out(self, now: float) -> bool:
        """Whether it is left out."""
        return now < self.out_until

    def wait_s(self, num_tokens: float, now: float) -> float:
        """How long before it takes a request; inf: not before something else happens."""
        if self.is_out(now):
            return self.out_until - now
        if not self.health.is_well and self.controller.in_flight:
            return math.inf
        return max(self.health.rest_s(), self.controller.wait_s(num_tokens))

    @property
    def load(self) -> float:
        """Requests under way as a share of what is allowed."""
        return self.controller.in_flight / self.limits.in_flight


@dataclass(slots=True)
class Passage:
    """Leave to send one request to one endpoint. Ends once, by `answered`, `slowed` or `failed`."""

    member: Member
    num_tokens: float
    is_look: bool
    _ticket: Ticket
    _bell: Bell = field(repr=False)
    _is_over: bool = False

    def answered(self, headers: Mapping[str, str], used_tokens: int | None) -> None:
        """A whole answer came, be it a refusal of the request."""
        if self._ends():
            self.member.controller.answered(headers, self.num_tokens, used_tokens, self._ticket)

    def slowed(self, wait_s: float | None, headers: Mapping[str, str], slow_down: bool = False) -> None:
        """It came too early; `slow_down`: the rate grew too fast."""
        if self._ends():
            self.member.controller.slowed(wait_s, headers, self._ticket, slow_down)

    def failed(self) -> None:
        """Anything else; does nothing when it is over already.

        What a run of failures means is for `Health` to say, so that there is one such judgement and not two.
        """
        if self._ends():
            self.member.controller.failed(ticket=self._ticket)

    def _ends(self) -> bool:
        if self._is_over:
            return False
        self._is_over = True
        self._bell.ring()
        return True


class Fleet:
    """The endpoints of one run. `say` tells the user that one is left out or back."""

    def __init__(
        self,
        members: Sequence[Member],
        bell: Bell,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = tuple(members)
        self._bell, self._say, self._clock = bell, say, clock

    @property
    def num_in_flight(self) -> int:
        return sum(member.controller.in_flight for member in self.members)

    async def take(self, num_tokens: float, avoid: str = "") -> Passage:
        """Waits until an endpoint has room; of several the one with the least to do. For one reader at a time.

        `avoid`: where the request failed last; it goes elsewhere if another has room soon.
        """
        while True:
            member, wait_s = self._with_room(num_tokens, avoid)
            if wait_s <= 0:
                is_look = not member.health.is_well
                return Passage(member, num_tokens, is_look, member.controller.sent(num_tokens), self._bell)
            await self._bell.wait(wait_s)

    def leave_out(self, member: Member, stop: Stop) -> None:
        """Sends nothing more to an endpoint, for a while or for good.

        Raises:
            ProviderError: it was the last one.
        """
        now = self._clock()
        if member.is_out(now):
            return
        member.num_absences += 1
        absence_s = min(_FIRST_ABSENCE_S * 2.0 ** (member.num_absences - 1), _LONGEST_ABSENCE_S)
        member.out_until = now + absence_s if stop.comes_back else math.inf
        member.health.looks_again()
        others = [other for other in self.members if not other.is_out(now)]
        if not others:
            raise ProviderError(stop.message)
        later = f"; it is looked at again in {absence_s:.0f} s" if stop.comes_back else ""
        self._say(f"endpoint {member.name} is left out: {stop.message} ({len(others)} left{later})")

    def came_back(self, member: Member) -> None:
        """To be called at each whole answer of an endpoint."""
        if member.num_absences:
            member.num_absences, member.out_until = 0, -math.inf
            self._say(f"endpoint {member.name} is back")

    def limits(self) -> dict[str, Limits]:
        """The limits of each endpoint now."""
        return {member.name: member.limits for member in self.members}

    def change(self, name: str, limits: Limits) -> None:
        """Goes on under other limits at one endpoint."""
        for member in self.members:
            if member.name == name:
                member.limits = limits
                member.controller.change(limits)
        self._bell.ring()

    def states(self) -> Iterable[State]:
        """All endpoints at this moment."""
        now = self._clock()
        for member in self.members:
            state = member.controller.state(member.name)
            rest_s = max(state.paused_s, member.health.rest_s())
            binding = "rest" if rest_s > state.paused_s else state.binding
            yield State(
                state.name, state.in_flight, state.may_be_in_flight, state.requests_per_minute,
                state.tokens_per_minute, binding, rest_s, state.out or member.is_out(now),
            )  # fmt: skip

    def _with_room(self, num_tokens: float, avoid: str) -> tuple[Member, float]:
        now = self._clock()
        waits = [(member.wait_s(num_tokens, now), member.load, number) for number, member in enumerate(self.members)]
        elsewhere = [wait for wait in waits if self.members[wait[2]].name != avoid]
        wait_s, _, number = min(elsewhere, default=min(waits))
        if wait_s > _DETOUR_S:
            wait_s, _, number = min(waits)
        return self.members[number], wait_s
