"""Wires the stage `collect`: what is pending is asked, then the table is made from the cache."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sgv_data.api.batch_ledger import Ledger
from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache
from sgv_data.api.prices import TokenPrice, price_of
from sgv_data.collect.again import RETRIES, all_rounds, begin
from sgv_data.collect.control import Control, run_until_told
from sgv_data.collect.phases import Phase, phases_of
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions, prompt_identity
from sgv_data.collect.scan import KEYS, Tally, tally
from sgv_data.collect.table import CaptionTable, sampling_of
from sgv_data.collect.table_parts import Making, write_captions
from sgv_data.collect.watch import Watch
from sgv_data.errors import ManifestError
from sgv_data.manifest import Manifest, Teacher
from sgv_data.records import Outcome, StageReport, counted
from sgv_data.run_folder import write_durably
from sgv_data.stage import StageContext

VERSION = 1
KEEP = ("replies.sqlite", "replies.sqlite-*", "progress.jsonl", RETRIES, KEYS, ".payer")

_DEMO_TEACHER = "sgv:demo-teacher"
_SESSION = ".session"
_PAYER = ".payer"
_LOG = "progress.jsonl"
_LANES = "sgv_data.collect.lanes"


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """What changes the captions: model, prompts, sampling and how pictures are sent. Not limits, money or addresses."""
    teacher, questions = manifest.teacher, Questions(manifest)
    return {
        "model": teacher.model,
        "sampling": sampling_of(teacher),
        "image": {"recipe": recipe_name(teacher), "detail": teacher.image.detail},
        "token_limit_name": teacher.token_limit_name,
        "seed": manifest.seed,
        "prompts": prompt_identity(manifest, questions),
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Asks about every picture that has no answer yet, then writes `captions-*.parquet`."""
    index, questions, price = context.input("index"), Questions(manifest), price_of(manifest.teacher)
    session = _marker(context.folder / _SESSION)
    with _cache(manifest, context.folder) as cache:
        rounds = begin(context, manifest, cache, session)
        phases = phases_of(manifest, questions, rounds, context.folder, index, cache, session)
        with ThreadPoolExecutor(3, thread_name_prefix="start") as pool:
            # Much of each is spent outside of Python, so that two cores do them at once.
            counting = pool.submit(tally, index, questions, price)
            adding_up = pool.submit(cache.spent_usd, price)
            pool.submit(import_module, _LANES)
            is_pending = any(phase.has_parts() for phase in phases)
            count, _ = counting.result(), adding_up.result()
        num_new = _ask(manifest, context, cache, session, count, phases) if is_pending else 0
        table = CaptionTable(manifest, questions, cache, session, all_rounds(context.folder))
        num_rows = write_captions(table, Making.of(manifest, cache, session, context.folder), index)
        spent_usd = cache.spent_usd(price)
    num_failed = table.outcomes[Outcome.FAILED]
    return StageReport(
        stage=context.stage,
        num_in=count.num_usable,
        num_out=num_rows - num_failed,
        failed=counted(table.failures),
        skipped=count.num_usable - num_rows,
        from_cache=max(0, num_rows - num_new),
        notes={
            **{str(outcome): number for outcome, number in table.outcomes.items() if outcome is not Outcome.FAILED},
            "spent_usd": round(spent_usd, 6) if price else None,
        },
    )


def _cache(manifest: Manifest, folder: Path) -> ReplyCache:
    """The reply cache: the one that the manifest names, else one in the run folder."""
    shared = manifest.teacher.cache
    path = Path(shared).expanduser() if shared else folder / "replies.sqlite"
    return ReplyCache(path, run=_marker(folder / _PAYER), name=manifest.name)


def _marker(path: Path) -> str:
    """A name drawn once. `.session` names an attempt at the stage: it outlives a crash, not a --redo, and failures
    count within it only. `.payer` names the run folder: it outlives both, as money that was spent does."""
    if not path.is_file():
        write_durably(path, secrets.token_hex(8))
    return path.read_text(encoding="ascii")


def _ask(
    manifest: Manifest, context: StageContext, cache: ReplyCache, session: str, count: Tally, phases: list[Phase]
) -> int:
    """Asks about all that is pending; returns how many pictures ended."""
    for phase in phases:
        _require_price(phase.manifest.teacher)
    _announce(context, manifest.teacher, count, cache)
    # Here, since an HTTP client takes a second to load and a finished stage does not need one. `run` has begun it.
    from sgv_data.collect.lanes import ask_all
    from sgv_data.collect.live import Desk

    # What batches under way may cost is set aside, not spent.
    settled_usd = cache.spent_usd(price_of(manifest.teacher)) - Ledger(cache, cache.run).set_aside_usd()
    budget = Budget(manifest.teacher.budget_usd, max(0.0, settled_usd))
    watch = Watch(
        manifest, count.num_asked, phases[0].num_done_before, budget, context.progress, context.folder / _LOG
    )
    control = Control(context.folder, manifest, context.progress.say)
    desk = Desk(cache, session, budget, watch, control, context.progress)
    with _demo_teacher(phases):
        return run_until_told(ask_all(desk, phases, count.num_asked), control)


def _require_price(teacher: Teacher) -> None:
    """Unknown is not free.

    Raises:
        ManifestError: the price is not known and the manifest does not say that this is meant.
    """
    if price_of(teacher) is None and (teacher.price != "unknown" or teacher.budget_usd is not None):
        raise ManifestError(
            f"the price of {teacher.model!r} is not known, so money cannot be counted. Either give it, in US dollars "
            "per million tokens: --set teacher.price.input_usd=2.5 --set teacher.price.output_usd=10 (0 and 0 for a "
            "server of your own); or run without counting, and without a budget: --set teacher.price=unknown"
        )


def _announce(context: StageContext, teacher: Teacher, count: Tally, cache: ReplyCache) -> None:
    price: TokenPrice | None = price_of(teacher)
    line = f"collect: {count.num_asked} pictures for {teacher.model}"
    if price is None:
        line += "; its price is not known, so money is not counted"
    else:
        dated = f" at prices of {price.dated}" if price.dated else ""
        line += f"; all of them cost at most ${count.worst_usd:.2f}{dated}, spent so far ${cache.spent_usd(price):.2f}"
    if teacher.budget_usd is not None:
        line += f", cap ${teacher.budget_usd:.2f}"
    context.progress.say(line)


@contextmanager
def _demo_teacher(phases: list[Phase]) -> Iterator[None]:
    """Starts the demo's teacher if an endpoint means it, and puts its address in place of its name."""
    teacher = phases[0].manifest.teacher
    if _DEMO_TEACHER not in (teacher.base_url, *(endpoint.base_url for endpoint in teacher.endpoints)):
        yield
        return
    from sgv_data.demo.teacher import running_teacher

    with running_teacher() as base_url:
        for phase in phases:
            phase.at(_DEMO_TEACHER, base_url)
        yield
