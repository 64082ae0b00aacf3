"""Worker processes that prepare pictures ahead of the sending, so that the network never waits for Pillow."""

from __future__ import annotations

import asyncio
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from types import TracebackType

from sgv_data.collect.prepare import Prepared, Unusable, filled, prepare_batch
from sgv_data.errors import SgvError
from sgv_data.manifest import Manifest
from sgv_data.processes import Workers, usable_cores
from sgv_data.records import ImageRow

FEW_PICTURES = 64
_MOST_PROCESSES = 8


class Workshop:
    """Prepares batches of pictures; for a few of them one thread does. Use as a context manager."""

    def __init__(self, manifest: Manifest, num_pictures: int) -> None:
        self._manifest_json = manifest.model_dump_json()
        self.num_workers = 1 if num_pictures <= FEW_PICTURES else min(usable_cores(), _MOST_PROCESSES)
        self._pool: Executor
        if num_pictures <= FEW_PICTURES:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        else:
            self._pool = Workers(self.num_workers)

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    def prepare(self, rows: list[ImageRow]) -> asyncio.Task[list[Prepared | Unusable]]:
        """Starts preparing; the result has one entry per row, in order, or is an `SgvError` if a process died."""
        started = asyncio.create_task(self._prepared(rows))
        # When the run stops, nobody asks for the results still under way.
        started.add_done_callback(lambda done: done.cancelled() or done.exception())
        return started

    async def _prepared(self, rows: list[ImageRow]) -> list[Prepared | Unusable]:
        loop = asyncio.get_running_loop()
        try:
            pictures = await loop.run_in_executor(self._pool, prepare_batch, self._manifest_json, rows)
        except BrokenExecutor as exc:
            raise SgvError(
                f"a process that prepares pictures died at {rows[0].image_id} or one of the next {len(rows) - 1}, "
                "perhaps for want of memory; everything answered is stored, run the same command again"
            ) from exc
        # The file is in the system's memory since it was hashed: reading it here blocks for tens of microseconds, less
        # than taking its bytes through a pipe (100 KB JPEGs on 2 cores: 3,900 per second instead of 2,900).
        return [filled(picture) for picture in pictures]
