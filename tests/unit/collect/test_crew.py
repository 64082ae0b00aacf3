from __future__ import annotations

import asyncio
from typing import Any

from sgv_data.collect.crew import Crew


def test_the_first_error_stops_the_sender_before_anybody_else_wakes() -> None:
    async def fail() -> None:
        raise OSError("disk full")

    async def main() -> bool:
        nothing: Any = None
        crew = Crew(nothing, nothing, nothing, nothing, nothing, nothing, "", "", lambda _: None)
        crew._end = asyncio.get_running_loop().create_future()
        sender = asyncio.create_task(asyncio.sleep(60))
        crew._at_work = [sender]  # type: ignore[list-item]
        crew._start(fail())
        await asyncio.wait([crew._end])
        crew._end.exception()
        await asyncio.sleep(0)
        stopped = sender.cancelled()
        sender.cancel()
        return stopped

    assert asyncio.run(main())
