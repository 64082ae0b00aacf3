"""Sending batches so that no crash loses one or sends it twice.

What is about to be sent is written down first, under a name made here. The file carries that name at the provider, the
batch carries it in its metadata: whatever a crash, or a lost answer, left open is found again by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from sgv_data.api.batch_ledger import Batch, BatchState, Ledger, RowState, new_intent
from sgv_data.api.batch_words import RemoteBatch, batch_limits
from sgv_data.api.batches import BatchClient
from sgv_data.api.cache import stored
from sgv_data.collect.batch_draft import Draft
from sgv_data.run_folder import utc_now

LIST_LAG_S = 5.0
"""A batch made just before a crash may take so long to appear in the provider's list."""
_HOUR_S = 3600.0


class Sender:
    """Sends the batches of one run to one endpoint."""

    def __init__(
        self,
        client: BatchClient,
        ledger: Ledger,
        run: str,
        base_url: str,
        list_lag_s: float = LIST_LAG_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._ledger, self._run, self._base_url = client, ledger, run, base_url
        self._list_lag_s, self._sleep = list_lag_s, sleep

    @property
    def may_begin(self) -> bool:
        """Whether the provider's limit on batches per hour leaves room for one more."""
        return self._ledger.num_begun_within(_HOUR_S) < batch_limits().max_batches_per_hour

    async def send(self, draft: Draft) -> Batch:
        """Writes the draft down, uploads it and has its batch made."""
        now = utc_now()
        batch = Batch(
            new_intent(), self._run, self._base_url, draft.model, BatchState.INTENDED, len(draft), draft.num_bytes,
            draft.prompt_tokens, draft.worst_usd, now, now,
        )  # fmt: skip
        await stored(self._ledger.intend(batch, draft.rows()))
        draft.file.flush()
        file_id = await self._client.upload(draft.file, batch.file_name, batch.num_bytes, batch.created_utc)
        return await self._create(await self._uploaded(batch, file_id))

    async def recover(self) -> tuple[list[Batch], int]:
        """Finds out what became of batches whose sending was broken off, and goes on from there.

        Returns those that are now with the provider, and the number of those that never got that far.
        """
        found, num_dropped = [], 0
        for batch in self._ledger.batches(BatchState.INTENDED, BatchState.UPLOADED):
            recovered = await self._recover(batch)
            if recovered is None:
                num_dropped += 1
            else:
                found.append(recovered)
        return found, num_dropped

    async def _recover(self, batch: Batch) -> Batch | None:
        if batch.state is BatchState.INTENDED:
            # No batch can have been asked for: that comes after `UPLOADED` is on the disk.
            file = await self._client.find_file(batch.file_name, batch.num_bytes, batch.created_utc)
            if file is None:
                await stored(self._ledger.end(batch, BatchState.DROPPED, RowState.UNDONE))
                return None
            return await self._create(await self._uploaded(batch, file.id))
        remote = await self._client.find(batch.intent, batch.created_utc)
        if remote is None:
            await self._sleep(max(0.0, self._list_lag_s - _age_s(batch.changed_utc)))
            remote = await self._client.find(batch.intent, batch.created_utc)
        return await self._create(batch) if remote is None else await self._submitted(batch, remote)

    async def _create(self, batch: Batch) -> Batch:
        assert batch.file_id is not None
        remote = await self._client.create(batch.file_id, batch.intent, batch.run, batch.created_utc)
        return await self._submitted(batch, remote)

    async def _uploaded(self, batch: Batch, file_id: str) -> Batch:
        changed, written = self._ledger.change(batch, state=BatchState.UPLOADED, file_id=file_id)
        await stored(written)
        return changed

    async def _submitted(self, batch: Batch, remote: RemoteBatch) -> Batch:
        changed, written = self._ledger.change(
            batch, state=BatchState.SUBMITTED, batch_id=remote.id, status=remote.status
        )
        await stored(written)
        return changed


def _age_s(utc: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(utc)).total_seconds()
