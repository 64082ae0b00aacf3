"""What a reply cache holds, in numbers, and its replies as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgv_data.api.cache import ReplyCache
from sgv_data.api.cache_errors import damaged
from sgv_data.api.cache_file import PRUNED
from sgv_data.api.reply import PARSER_VERSION, parse_reply
from sgv_data.errors import RunFolderError


@dataclass(frozen=True, slots=True)
class ReplyGroup:
    """Replies of one model that ended alike. `usd` leaves out replies whose price was not known."""

    model: str
    lane: str
    outcome: str
    num_replies: int
    usd: float


@dataclass(frozen=True, slots=True)
class RunShare:
    """What one run paid for. `open_usd`: the most that requests without a known end may have cost."""

    run: str
    name: str
    since_utc: str
    num_replies: int
    usd: float
    num_open: int
    open_usd: float
    pruned_usd: float


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """`num_unjudged`: replies that the present parser reads anew at the next run."""

    num_bytes: int
    groups: tuple[ReplyGroup, ...]
    runs: tuple[RunShare, ...]
    num_unjudged: int
    num_pictures: int
    num_failures: int


def facts_of(cache: ReplyCache) -> CacheFacts:
    """Counts everything."""
    groups = cache.query(
        "SELECT model, lane, CASE WHEN finished THEN outcome ELSE 'unfinished' END AS ended, count(*),"
        " coalesce(sum(cost_usd), 0) FROM replies GROUP BY model, lane, ended ORDER BY model, lane, ended")
    count = {
        name: cache.query(f"SELECT count(*) FROM {table}", values)[0][0]
        for name, table, values in (
            ("unjudged", "replies WHERE parser <> ?", (PARSER_VERSION,)), ("pictures", "sent_images", ()),
            ("failures", "failures", ()))
    }  # fmt: skip
    beside = [cache.path, *(cache.path.with_name(cache.path.name + end) for end in ("-wal", "-shm"))]
    return CacheFacts(
        num_bytes=sum(path.stat().st_size for path in beside if path.exists()),
        groups=tuple(ReplyGroup(*row) for row in groups),
        runs=tuple(_runs(cache)),
        num_unjudged=count["unjudged"],
        num_pictures=count["pictures"],
        num_failures=count["failures"],
    )


def _runs(cache: ReplyCache) -> Iterator[RunShare]:
    known = {run: (name, since) for run, name, since in cache.query("SELECT run, name, created_utc FROM runs")}
    paid = {run: (number, usd) for run, number, usd in cache.query(
        "SELECT run, count(*), coalesce(sum(cost_usd), 0) FROM replies GROUP BY run")}  # fmt: skip
    pending = {run: row for run, *row in cache.query(
        f"SELECT run, sum(NOT {PRUNED}), sum(worst_usd * NOT {PRUNED}), sum(worst_usd * {PRUNED})"
        " FROM open_requests GROUP BY run")}  # fmt: skip
    for run in sorted({*known, *paid, *pending}):
        name, since = known.get(run, ("before runs were counted", ""))
        yield RunShare(run, name, since, *paid.get(run, (0, 0.0)), *pending.get(run, (0, 0.0, 0.0)))


def check_whole_file(cache: ReplyCache) -> int:
    """Reads every page and every reply; returns how many replies there are.

    Raises:
        RunFolderError: naming the first thing that is not as it was written.
    """
    (found,) = cache.query("PRAGMA integrity_check(1)")[0]
    if found != "ok":
        raise damaged(cache.path, str(found))
    return sum(1 for _ in cache.iterate())


def export_lines(cache: ReplyCache, parsed: bool) -> Iterator[str]:
    """One JSON object per reply, oldest first: as it came, or with `parsed` what it says."""
    for reply in cache.iterate():
        line: dict[str, object] = {
            "request_key": reply.request_key, "model": reply.model, "created_utc": reply.created_utc,
            "lane": str(reply.lane), "run": reply.run, "cost_usd": reply.cost_usd,
        }  # fmt: skip
        if parsed:
            judged = parse_reply(reply.body)
            line |= {
                "outcome": str(judged.outcome), "finished": judged.finished, "text": judged.text,
                "finish_reason": judged.finish_reason, "refusal": judged.refusal, "served_model": judged.model,
                "prompt_tokens": judged.prompt_tokens, "completion_tokens": judged.completion_tokens,
            }  # fmt: skip
        else:
            line |= {
                "request_id": reply.request_id, "attempts": reply.attempts, "latency_s": reply.latency_s,
                "body": reply.body.decode("utf-8", "backslashreplace"),
            }  # fmt: skip
        yield json.dumps(line, ensure_ascii=True)


def require_cache(path: Path) -> Path:
    """The path itself, if a file is there.

    Raises:
        RunFolderError: otherwise, so that looking at a cache never makes one.
    """
    if not path.is_file():
        raise RunFolderError(f"{path}: there is no reply cache; it is made by the first sgv collect")
    return path
