from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from sgv_data.api.backlog import Bell
from sgv_data.api.client import ChatClient, Endpoint
from sgv_data.api.controller import Controller
from sgv_data.api.fleet import Fleet, Member, Passage
from sgv_data.api.health import Health
from sgv_data.api.outcomes import Stop
from sgv_data.errors import ProviderError
from sgv_data.manifest import Limits


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Setup:
    """A fleet under a clock of its own; a minute has passed for the controllers between any two requests."""

    def __init__(self, **limits: Limits) -> None:
        self.clock, self.said = Clock(), list[str]()
        members = [self._member(name, each) for name, each in limits.items()]
        self.fleet = Fleet(members, Bell(), self.said.append, self.clock)

    def _member(self, name: str, limits: Limits) -> Member:
        client = ChatClient(Endpoint(f"http://{name}/v1", "none"), 1.0)
        health = Health(name, 3, 60.0, self.clock)
        return Member(name, client, Controller(limits, self.clock, random.Random(1)), health, limits)

    async def take(self, avoid: str = "") -> Passage:
        self.clock.now += 60.0
        return await asyncio.wait_for(self.fleet.take(10, avoid), 1.0)


def test_work_goes_where_most_room_is() -> None:
    async def main() -> Counter[str]:
        setup = Setup(small=Limits(in_flight=2), large=Limits(in_flight=6))
        return Counter([(await setup.take()).member.name for _ in range(8)])

    assert asyncio.run(main()) == {"small": 2, "large": 6}


def test_a_request_that_failed_somewhere_goes_elsewhere_if_there_is_another() -> None:
    async def main() -> list[str]:
        setup = Setup(a=Limits(), b=Limits())
        names = [(await setup.take(avoid="a")).member.name for _ in range(4)]
        setup.fleet.leave_out(setup.fleet.members[1], Stop("gone"))
        return [*names, (await setup.take(avoid="a")).member.name]

    assert asyncio.run(main()) == ["b", "b", "b", "b", "a"]


def test_when_all_are_busy_the_next_leaves_as_soon_as_one_ends() -> None:
    async def main() -> str:
        setup = Setup(a=Limits(in_flight=1), b=Limits(in_flight=1))
        passages = {passage.member.name: passage for passage in [await setup.take(), await setup.take()]}
        waiting = asyncio.create_task(setup.take())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        passages["b"].answered({}, 10)
        return (await waiting).member.name

    assert asyncio.run(main()) == "b"


def test_an_endpoint_that_is_left_out_gets_nothing_and_the_user_is_told() -> None:
    async def main() -> tuple[set[str], list[str]]:
        setup = Setup(a=Limits(), b=Limits())
        setup.fleet.leave_out(setup.fleet.members[0], Stop("the key is wrong"))
        return {(await setup.take()).member.name for _ in range(5)}, setup.said

    names, said = asyncio.run(main())
    assert names == {"b"}
    assert said == ["endpoint a is left out: the key is wrong (1 left)"]


def test_one_that_may_come_back_is_looked_at_later_with_one_request() -> None:
    async def main() -> None:
        setup = Setup(a=Limits(in_flight=9), b=Limits(in_flight=1))
        setup.fleet.leave_out(setup.fleet.members[0], Stop("no credit", comes_back=True))
        assert (await setup.fleet.take(10)).member.name == "b"
        look = await setup.take()
        assert (look.member.name, look.is_look) == ("a", True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(setup.fleet.take(10), 0.01)
        look.answered({}, 10)
        look.member.health.answered()
        setup.fleet.came_back(look.member)
        assert setup.said[-1] == "endpoint a is back"
        assert [(await setup.take()).is_look for _ in range(2)] == [False, False]

    asyncio.run(main())


def test_absences_grow() -> None:
    async def main() -> list[float]:
        setup = Setup(a=Limits(), b=Limits())
        member, absences = setup.fleet.members[0], []
        for _ in range(6):
            setup.fleet.leave_out(member, Stop("down", comes_back=True))
            absences.append(member.out_until - setup.clock.now)
            setup.clock.now = member.out_until
        return absences

    assert asyncio.run(main()) == [60, 120, 240, 480, 600, 600]


def test_when_the_last_is_left_out_the_run_ends_with_its_sentence() -> None:
    setup = Setup(a=Limits(), b=Limits())
    setup.fleet.leave_out(setup.fleet.members[1], Stop("no credit", comes_back=True))
    with pytest.raises(ProviderError, match="the key is wrong"):
        setup.fleet.leave_out(setup.fleet.members[0], Stop("the key is wrong"))


def test_limits_change_while_requests_wait_for_room() -> None:
    async def main() -> None:
        setup = Setup(a=Limits(in_flight=1))
        await setup.take()
        waiting = asyncio.create_task(setup.take())
        await asyncio.sleep(0.01)
        setup.fleet.change("a", Limits(in_flight=2))
        await waiting

    asyncio.run(main())


def test_a_passage_ends_once() -> None:
    async def main() -> int:
        setup = Setup(a=Limits())
        passage = await setup.take()
        await setup.take()
        passage.answered({}, 10)
        passage.failed()
        return setup.fleet.num_in_flight

    assert asyncio.run(main()) == 1
