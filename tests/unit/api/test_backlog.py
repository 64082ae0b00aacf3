from __future__ import annotations

import asyncio

import pytest

from sgv_data.api.backlog import Backlog, Bell


def backlog(most_fresh: int = 9, most_pausing: int = 9) -> Backlog[str]:
    return Backlog(most_fresh, most_pausing, Bell())


def test_fresh_items_come_in_their_order_and_none_after_the_last_has_ended() -> None:
    async def main() -> list[str | None]:
        items = backlog()
        await items.put("a")
        await items.put("b")
        items.complete()
        taken = [await items.take(), await items.take()]
        for _ in taken:
            items.ended()
        return [*taken, await items.take()]

    assert asyncio.run(main()) == ["a", "b", None]


def test_nothing_is_over_while_something_taken_may_come_back() -> None:
    async def main() -> list[str | None]:
        items = backlog()
        await items.put("a")
        items.complete()
        first = await items.take()
        asyncio.get_running_loop().call_later(0.01, items.put_back, "a")
        second = await items.take()
        items.ended()
        return [first, second, await items.take()]

    assert asyncio.run(main()) == ["a", "a", None]


def test_what_comes_back_at_once_goes_before_fresh_ones_and_what_pauses_after() -> None:
    async def main() -> list[str | None]:
        items = backlog()
        for name in "abc":
            await items.put(name)
        taken = [await items.take(), await items.take()]
        items.put_back("a", 0.01)
        items.put_back("b")
        assert items.num_pausing == 2
        return [*taken, await items.take(), await items.take(), await items.take()]

    assert asyncio.run(main()) == ["a", "b", "b", "c", "a"]


def test_a_full_backlog_lets_the_feeder_wait() -> None:
    async def main() -> list[int]:
        items = backlog(most_fresh=2)
        put: list[int] = []

        async def feed() -> None:
            for number in range(4):
                await items.put(str(number))
                put.append(number)

        feeder = asyncio.create_task(feed())
        await asyncio.sleep(0)
        before = len(put)
        await items.take()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        after = len(put)
        feeder.cancel()
        return [before, after]

    assert asyncio.run(main()) == [2, 3]


def test_while_too_many_pause_no_fresh_one_is_begun() -> None:
    async def main() -> None:
        items = backlog(most_pausing=2)
        for name in "abc":
            await items.put(name)
        for name in "ab":
            await items.take()
            items.put_back(name, 60.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(items.take(), 0.01)

    asyncio.run(main())


def test_a_ring_before_the_wait_is_not_lost() -> None:
    async def main() -> None:
        bell = Bell()
        bell.ring()
        await asyncio.wait_for(bell.wait(), 1.0)

    asyncio.run(main())
