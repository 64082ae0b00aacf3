"""The live lane: everything that asking needs, put together."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache as remembered

from sgv_data.api.asking import Asker
from sgv_data.api.backlog import Backlog, Bell
from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache
from sgv_data.api.client import ChatClient, find_endpoint
from sgv_data.api.controller import Controller
from sgv_data.api.fleet import Fleet, Member
from sgv_data.api.health import Health
from sgv_data.api.prices import TokenPrice, price_of
from sgv_data.api.ramp import ramp_rule
from sgv_data.collect.control import ONLY_ENDPOINT, Control
from sgv_data.collect.crew import Crew, Job
from sgv_data.collect.phases import Phase
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.snapshot import EndpointState
from sgv_data.collect.watch import Watch
from sgv_data.collect.workshop import Workshop
from sgv_data.manifest import Endpoint, Teacher
from sgv_data.progress import Progress
from sgv_data.records import ImageRow, Lane

_MOST_QUEUED = 128
_FEWEST_PAUSING = 64


@dataclass(frozen=True, slots=True)
class Desk:
    """What all asking of one command shares."""

    cache: ReplyCache
    session: str
    budget: Budget
    watch: Watch
    control: Control
    progress: Progress


async def ask_live(desk: Desk, phase: Phase, pending: Iterator[list[ImageRow]], num_pictures: int) -> int:
    """Asks about every pending picture; returns how many ended. `num_pictures`: about how many there are.

    Raises:
        ProviderError: no key, or every endpoint turns the run down.
        BudgetReached: the cap is reached.
        AlarmRaised: the answers look wrong.
        DiskError: an answer could not be stored.
    """
    teacher, bell = phase.manifest.teacher, Bell()
    desk.budget.spent_usd = desk.cache.spent_usd(price_of(teacher, Lane.LIVE))
    with Workshop(phase.manifest, num_pictures) as workshop:
        async with AsyncExitStack() as stack:
            members = [
                _member(endpoint, teacher, await stack.enter_async_context(_client(endpoint, teacher)))
                for endpoint in endpoints_of(teacher)
            ]
            fleet = Fleet(members, bell, desk.progress.say)
            most = max(1, min(sum(member.limits.in_flight for member in members), num_pictures))
            backlog: Backlog[Job] = Backlog(min(most, _MOST_QUEUED), max(most, _FEWEST_PAUSING), bell)
            asker = Asker(
                fleet, desk.cache, desk.budget, teacher.retry, _prices(teacher), desk.session, desk.watch.faulted,
                random.Random(),
            )  # fmt: skip
            crew = Crew(
                asker, desk.cache, phase.questions, workshop, backlog, desk.watch, desk.session, recipe_name(teacher),
                _looking(desk, fleet, backlog),
            )  # fmt: skip
            try:
                await crew.work(pending)
            finally:
                _tell(desk.watch, fleet, backlog, last=True)
    return crew.num_ended


def endpoints_of(teacher: Teacher) -> tuple[Endpoint, ...]:
    """The endpoints with all that they take over from the teacher filled in."""
    if not teacher.endpoints:
        return (
            Endpoint(
                name=ONLY_ENDPOINT, base_url=teacher.base_url, api_key_env=teacher.api_key_env,
                api_key_file=teacher.api_key_file, limits=teacher.limits,
            ),
        )  # fmt: skip
    return tuple(
        endpoint.model_copy(
            update={
                "base_url": endpoint.base_url or teacher.base_url,
                "api_key_env": endpoint.api_key_env or teacher.api_key_env,
                # A variable of its own says that the common file is not meant.
                "api_key_file": endpoint.api_key_file or (None if endpoint.api_key_env else teacher.api_key_file),
            }
        )
        for endpoint in teacher.endpoints
    )


def _client(endpoint: Endpoint, teacher: Teacher) -> ChatClient:
    assert endpoint.api_key_env is not None
    found = find_endpoint(endpoint.base_url, endpoint.api_key_env, api_key_file=endpoint.api_key_file)
    return ChatClient(found, teacher.timeout_s)


def _member(endpoint: Endpoint, teacher: Teacher, client: ChatClient) -> Member:
    controller = Controller(endpoint.limits, time.monotonic, random.Random(), ramp_rule(client.base_url))
    health = Health(client.base_url, teacher.retry.attempts, teacher.retry.max_wait_s)
    return Member(endpoint.name, client, controller, health, endpoint.limits)


def _prices(teacher: Teacher) -> Callable[[str], TokenPrice | None]:
    """The price of the teacher's model, and of others that the ladder names."""
    return remembered(lambda model: price_of(teacher.model_copy(update={"model": model}), Lane.LIVE))


def _looking(desk: Desk, fleet: Fleet, backlog: Backlog[Job]) -> Callable[[bool], None]:
    def look(waits_for_pictures: bool) -> None:
        desk.control.look(fleet)
        _tell(desk.watch, fleet, backlog, "pictures" if waits_for_pictures else None)

    return look


def _tell(watch: Watch, fleet: Fleet, backlog: Backlog[Job], binding: str | None = None, last: bool = False) -> None:
    states = [
        EndpointState(
            name=state.name, in_flight=state.in_flight, may_be_in_flight=state.may_be_in_flight,
            requests_per_minute=state.requests_per_minute, tokens_per_minute=state.tokens_per_minute,
            binding=state.binding, paused_s=round(state.paused_s, 1), out=state.out,
        )
        for state in fleet.states()
    ]  # fmt: skip
    watch.tick(states, fleet.num_in_flight, backlog.num_pausing, binding, last)
