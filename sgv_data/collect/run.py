"""Wires the stage `collect`: what is pending is asked, then the table is made from the cache."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from sgv_data.api.cache import ReplyCache
from sgv_data.api.prices import TokenPrice, price_of
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan import Tally, pending_rows, tally
from sgv_data.collect.table import CaptionTable, sampling_of
from sgv_data.errors import ManifestError
from sgv_data.manifest import Manifest, Teacher
from sgv_data.records import CaptionRow, ImageRow, Outcome, StageReport, counted
from sgv_data.run_folder import write_durably
from sgv_data.stage import StageContext
from sgv_data.tables import write_table

VERSION = 1
KEEP = ("replies.sqlite", "replies.sqlite-*")

_DEMO_TEACHER = "sgv:demo-teacher"
_SESSION = ".session"


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """What changes the captions: model, prompts, sampling and how pictures are sent. Not limits, money or addresses."""
    teacher, questions = manifest.teacher, Questions(manifest)
    return {
        "model": teacher.model,
        "sampling": sampling_of(teacher),
        "image": {"recipe": recipe_name(teacher.image), "detail": teacher.image.detail},
        "token_limit_name": teacher.token_limit_name,
        "seed": manifest.seed,
        "prompts": {
            source.name: [
                {"id": prompt.prompt_id, "version": prompt.version, "sha256": prompt.sha256}
                for prompt in questions.prompts_of(source.name)
            ]
            for source in manifest.images
        },
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Asks about every picture that has no answer yet, then writes `captions-*.parquet`."""
    index, questions, price = context.input("index"), Questions(manifest), price_of(manifest.teacher)
    _check_budget(manifest.teacher, price)
    count, session = tally(index, questions, price), _session(context.folder)
    with ReplyCache(context.folder / "replies.sqlite") as cache:
        pending = pending_rows(index, manifest, questions, cache, session)
        num_new = 0
        if (first := next(pending, None)) is not None:
            _announce(context, manifest.teacher, count, price, cache.spent_usd(price))
            num_new = _ask(manifest, context, questions, cache, session, count, chain([first], pending))
        table = CaptionTable(manifest, questions, cache, session)
        num_rows = write_table(context.folder, "captions", CaptionRow, table.rows(index))
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


def _check_budget(teacher: Teacher, price: TokenPrice | None) -> None:
    if teacher.budget_usd is not None and price is None:
        raise ManifestError(
            f"teacher.budget_usd is set, but the price of {teacher.model!r} is not known; set teacher.price, "
            "e.g. --set teacher.price.input_usd=2.5 --set teacher.price.output_usd=10 (per million tokens)"
        )


def _session(folder: Path) -> str:
    """Names this attempt at the stage: it outlives a crash, not a --redo. Failures count within one session only."""
    marker = folder / _SESSION
    if not marker.is_file():
        write_durably(marker, secrets.token_hex(8))
    return marker.read_text(encoding="ascii")


def _announce(
    context: StageContext, teacher: Teacher, count: Tally, price: TokenPrice | None, spent_usd: float
) -> None:
    line = f"collect: {count.num_asked} pictures for {teacher.model}"
    if price is None:
        line += "; its price is not known, so money is not counted"
    else:
        dated = f" at prices of {price.dated}" if price.dated else ""
        line += f"; all of them cost at most ${count.worst_usd:.2f}{dated}, spent so far ${spent_usd:.2f}"
    if teacher.budget_usd is not None:
        line += f", cap ${teacher.budget_usd:.2f}"
    context.progress.say(line)


def _ask(
    manifest: Manifest,
    context: StageContext,
    questions: Questions,
    cache: ReplyCache,
    session: str,
    count: Tally,
    pending: Iterator[list[ImageRow]],
) -> int:
    """Asks about all pending pictures; returns how many there were."""
    # Here, since an HTTP client takes a second to load and a finished stage does not need one.
    from sgv_data.collect.live import ask_all

    context.progress.begin("asking the teacher", count.num_asked)
    with _server(manifest.teacher) as base_url:
        return asyncio.run(
            ask_all(manifest, base_url, questions, cache, session, count.num_asked, pending, context.progress)
        )


def _server(teacher: Teacher) -> AbstractContextManager[str | None]:
    """The address to ask; starts the demo's teacher if that is the one."""
    if teacher.base_url != _DEMO_TEACHER:
        return nullcontext(teacher.base_url)
    from sgv_data.demo.teacher import running_teacher

    return running_teacher()
