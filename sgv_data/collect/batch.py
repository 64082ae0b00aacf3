"""The batch lane: pending pictures go out in files, and come back within a day at a lower price.

Everything that a later command needs lies in the ledger: a run may be stopped at any moment and collected the next day.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache as memoized

from sgv_data.api.batch_ledger import Batch, Ledger
from sgv_data.api.batch_words import RemoteBatch
from sgv_data.api.batches import BatchClient
from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache
from sgv_data.api.client import ChatClient, Endpoint, find_endpoint
from sgv_data.api.prices import TokenPrice, price_of
from sgv_data.collect.batch_fill import Filler
from sgv_data.collect.batch_queue import Queue, Shown, still_waiting
from sgv_data.collect.batch_send import LIST_LAG_S, Sender
from sgv_data.collect.batch_take import Desk
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.workshop import Workshop
from sgv_data.errors import StillWaiting
from sgv_data.manifest import Manifest, Teacher
from sgv_data.progress import Progress
from sgv_data.records import ImageRow, Lane


async def ask_in_batches(
    manifest: Manifest,
    base_url: str | None,
    questions: Questions,
    cache: ReplyCache,
    session: str,
    count: int,
    pending: Iterator[list[ImageRow]],
    progress: Progress,
    watch: Shown,
    budget: Budget | None = None,
) -> int:
    """Takes what earlier commands sent, sends every pending picture and waits for the results; returns how many ended.

    Pictures whose batch ended without them stay pending: a further call sends them again. `budget` is told what was
    spent; the cap itself is kept by the ledger.

    Raises:
        StillWaiting: teacher.batch.wait is false and batches are under way.
        BudgetReached: the cap leaves no room; nothing is under way any more.
        ProviderError: the provider turns the run, or a batch as a whole, down.
        AlarmRaised: the answers look wrong.
        DiskError: a file or an answer could not be stored.
    """
    async with _queue(manifest, base_url, cache, session, progress, watch, budget) as (desk, queue):
        try:
            await queue.begin()
            with Workshop(manifest, count) as workshop, Filler(desk, queue, questions, manifest.teacher) as filler:
                await filler.fill(workshop, pending)
            await queue.finish()
        except asyncio.CancelledError:
            if queue.open:
                progress.say(f"collect: stopped. {still_waiting(queue.open)}")
            raise
        return queue.num_ended + filler.num_failed


async def take_batches(
    manifest: Manifest,
    base_url: str | None,
    cache: ReplyCache,
    session: str,
    progress: Progress,
    watch: Shown,
    budget: Budget | None = None,
) -> int:
    """Takes what the run's batches have brought so far, and sends and awaits nothing; returns how many pictures ended.

    For the live lane after the batch lane: what is paid for is not asked about again.
    """
    if not has_batches(cache):
        return 0
    async with _queue(manifest, base_url, cache, session, progress, watch, budget) as (_, queue):
        await queue.begin()
        return queue.num_ended


def has_batches(cache: ReplyCache) -> bool:
    """Whether the run has batches whose results are not taken yet."""
    return bool(Ledger(cache, cache.run).unfinished())


def without_waiting(
    parts: Iterator[list[ImageRow]], questions: Questions, cache: ReplyCache, teacher: Teacher, session: str = ""
) -> Iterator[list[ImageRow]]:
    """The pictures that neither wait in a batch nor have ended meanwhile, in lists that are never empty.

    Failures count within `session`.
    """
    recipe, ledger = recipe_name(teacher), Ledger(cache, cache.run)
    for part in parts:
        sent = cache.sent(recipe, {row.sha256 for row in part})
        keys = {row.image_id: questions.key(row, sent[row.sha256]) for row in part if row.sha256 in sent}
        taken = ledger.waiting(keys.values()) | cache.answered(keys.values())
        taken |= cache.failures(session, keys.values()).keys()
        if free := [row for row in part if keys.get(row.image_id) not in taken]:
            yield free


def check_none_waiting(cache: ReplyCache) -> None:
    """Sees, before a table is made in the live lane, that no picture of it is still in a batch.

    Raises:
        StillWaiting: some are; says how to collect or cancel them.
    """
    if unfinished := Ledger(cache, cache.run).unfinished():
        raise StillWaiting(
            f"{still_waiting(unfinished)}, and `sgv batches MANIFEST --cancel` asks the provider to stop them. "
            "Until then the live lane leaves their pictures out, since they would be paid for twice"
        )


async def cancel_batches(
    manifest: Manifest, base_url: str | None, batches: list[Batch]
) -> list[RemoteBatch]:
    """Asks the provider to stop these batches; returns how each is doing. `collect` takes what they have finished."""
    teacher = manifest.teacher
    endpoint = batch_endpoint(teacher, base_url)
    async with ChatClient(endpoint, teacher.timeout_s) as chat:
        client = BatchClient(chat, endpoint.base_url, teacher.timeout_s, teacher.retry)
        remotes = []
        for batch in batches:
            if batch.batch_id is None:
                continue
            remote = await client.look(batch.batch_id)
            if not remote.is_over and remote.status != "cancelling":
                remote = await client.cancel(batch.batch_id)
            remotes.append(remote)
        return remotes


def batch_endpoint(teacher: Teacher, base_url: str | None) -> Endpoint:
    """Where batches go: to the first of the teacher's endpoints, since a batch belongs to the account that made it."""
    if not teacher.endpoints:
        return find_endpoint(base_url, teacher.api_key_env, api_key_file=teacher.api_key_file)
    first = teacher.endpoints[0]
    key_file = first.api_key_file or (None if first.api_key_env else teacher.api_key_file)
    return find_endpoint(first.base_url or base_url, first.api_key_env or teacher.api_key_env, api_key_file=key_file)


@asynccontextmanager
async def _queue(
    manifest: Manifest,
    base_url: str | None,
    cache: ReplyCache,
    session: str,
    progress: Progress,
    watch: Shown,
    budget: Budget | None,
) -> AsyncIterator[tuple[Desk, Queue]]:
    teacher, ledger, folder = manifest.teacher, Ledger(cache, cache.run), cache.path.parent
    endpoint = batch_endpoint(teacher, base_url)
    async with ChatClient(endpoint, teacher.timeout_s) as chat:
        client = BatchClient(chat, endpoint.base_url, teacher.timeout_s, teacher.retry, watch.faulted)
        desk = Desk(client, cache, ledger, session, _prices(teacher), teacher.retry.attempts, watch, folder)
        sender = Sender(client, ledger, cache.run, endpoint.base_url, min(LIST_LAG_S, teacher.batch.poll_s))

        def tell_spent(settled_only: bool = True) -> None:
            if budget is not None:
                open_usd = ledger.set_aside_usd() if settled_only else 0.0
                budget.spent_usd = cache.spent_usd(price_of(teacher, Lane.BATCH)) - open_usd

        queue = Queue(desk, sender, teacher.batch, watch, progress, tell_spent)
        try:
            yield desk, queue
        finally:
            tell_spent()
            queue.tick(last=True)
            # Whoever spends next must leave what batches under way may still cost.
            tell_spent(settled_only=False)


def _prices(teacher: Teacher) -> Callable[[str], TokenPrice | None]:
    """The batch price of a model; a manifest's own price is that of every model."""
    return memoized(lambda model: price_of(teacher.model_copy(update={"model": model}), Lane.BATCH))
