"""The first pictures do not wait for processes to start; the others are prepared by these."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sgv_data.collect.prepare import Prepared
from sgv_data.collect.workshop import FEW_PICTURES, Workshop
from sgv_data.records import ImageRow
from tests.servers.collect_run import make_index, make_manifest


async def _until_started(workshop: Workshop, rows: list[ImageRow]) -> float:
    """Has pictures prepared until processes do it; returns how long that took."""
    begun, thread = time.monotonic(), workshop._thread
    while workshop._pool() is thread and time.monotonic() < begun + 60:
        assert all(isinstance(each, Prepared) for each in await workshop.prepare(rows))
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


def test_the_first_pictures_are_prepared_before_any_process_has_started(tmp_path: Path) -> None:
    rows = make_index(tmp_path, 3)

    async def first() -> list[object]:
        with Workshop(make_manifest(tmp_path, "http://127.0.0.1:9/v1"), FEW_PICTURES + 1) as workshop:
            found = await workshop.prepare(rows)
            assert workshop._starting is None
            return list(found)

    assert [type(each) for each in asyncio.run(first())] == [Prepared] * 3


def test_the_processes_take_over_and_prepare_the_same(tmp_path: Path) -> None:
    rows = make_index(tmp_path, 3)

    async def both() -> None:
        with Workshop(make_manifest(tmp_path, "http://127.0.0.1:9/v1"), FEW_PICTURES + 1) as workshop:
            before = await workshop.prepare(rows)
            await _until_started(workshop, rows)
            assert workshop._pool() is workshop._workers
            assert await workshop.prepare(rows) == before

    asyncio.run(both())


def test_a_few_pictures_need_no_process(tmp_path: Path) -> None:
    rows = make_index(tmp_path, 1)

    async def few() -> None:
        with Workshop(make_manifest(tmp_path, "http://127.0.0.1:9/v1"), FEW_PICTURES) as workshop:
            for _ in range(5):
                await workshop.prepare(rows)
            assert workshop._workers is None

    asyncio.run(few())
