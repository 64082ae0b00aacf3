"""The live lane: everything that asking needs, put together."""

from __future__ import annotations

from collections.abc import Iterator

from sgv_data.api.asking import Asker
from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache
from sgv_data.api.client import ChatClient, find_endpoint
from sgv_data.api.health import Health
from sgv_data.api.limiter import Limiter
from sgv_data.api.prices import price_of
from sgv_data.collect.crew import Crew
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.workshop import Workshop
from sgv_data.manifest import Manifest
from sgv_data.progress import Progress
from sgv_data.records import ImageRow


async def ask_all(
    manifest: Manifest,
    base_url: str | None,
    questions: Questions,
    cache: ReplyCache,
    session: str,
    num_pictures: int,
    pending: Iterator[list[ImageRow]],
    progress: Progress,
) -> int:
    """Asks about every pending picture; returns how many ended.

    Raises:
        ProviderError: no key, or the provider turns the run down.
        BudgetReached: the cap is reached.
        DiskError: an answer could not be stored.
    """
    teacher = manifest.teacher
    endpoint = find_endpoint(base_url, teacher.api_key_env)
    price = price_of(teacher)
    limits = teacher.limits
    limiter = Limiter(limits.requests_per_minute, limits.tokens_per_minute, teacher.retry.max_wait_s)
    budget = Budget(teacher.budget_usd, cache.spent_usd(price))
    # No more workers than pictures: a handful needs no thousand connections.
    in_flight = max(1, min(limits.in_flight, num_pictures))
    with Workshop(manifest, num_pictures) as workshop:
        async with ChatClient(endpoint, teacher.timeout_s, in_flight) as client:
            asker = Asker(
                client, cache, limiter, budget, Health(endpoint.base_url), teacher.retry, price, session,
                capped=teacher.budget_usd is not None,
            )
            crew = Crew(
                asker, cache, questions, workshop, limiter, budget, progress, session,
                recipe_name(teacher.image), in_flight,
            )
            await crew.work(pending)
    return sum(crew.counts.outcomes.values())
