"""Throwing paid replies away: only those asked for, and never the memory of what they cost."""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from sgv_data.api.cache import ReplyCache
from sgv_data.api.cache_file import connect
from sgv_data.api.cache_writer import Statement
from sgv_data.records import Outcome
from sgv_data.run_folder import utc_now

_MOST_IN_QUERY = 500
_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Choice:
    """Which replies go: those that satisfy every condition that is set.

    `before_utc`: stored before that time. `failures`: without a caption (unfinished or failed); stored failures of
    requests and pictures go with them. `used`: a reply to one of these requests stays.
    """

    before_utc: str | None = None
    model: str | None = None
    failures: bool = False
    used: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much goes; `num_captions` counts replies that are in order. `usd` is what all of them cost."""

    num_replies: int
    num_captions: int
    num_failures: int
    usd: float


def prune(cache: ReplyCache, choice: Choice, really: bool) -> Pruned:
    """Counts what goes and, if `really`, deletes it in one transaction and gives the room back to the disk."""
    if choice.failures:
        while cache.rejudge():
            pass
    ids: list[int] = []
    usd_by_run: defaultdict[str, float] = defaultdict(float)
    outcomes: Counter[bool] = Counter()
    for number, run, usd, is_caption in _chosen(cache, choice):
        ids.append(number)
        usd_by_run[run] += usd or 0.0
        outcomes[bool(is_caption)] += 1
    # Failures say nothing of models, and no request uses them any more than another.
    takes_failures = choice.failures and choice.model is None and choice.used is None
    before = choice.before_utc or "9999"
    num_failures = cache.query("SELECT count(*) FROM failures WHERE created_utc < ?", (before,))[0][0]
    if really:
        statements = list(_deleting(ids, usd_by_run))
        if takes_failures:
            statements.append(("DELETE FROM failures WHERE created_utc < ?", (before,)))
        cache.submit(statements).result()
        _give_back_room(cache)
    return Pruned(len(ids), outcomes[True], num_failures if takes_failures else 0, sum(usd_by_run.values()))


def _chosen(cache: ReplyCache, choice: Choice) -> Iterator[tuple[int, str, float | None, bool]]:
    conditions, values = ["id > ?"], list[object]()
    if choice.before_utc is not None:
        conditions.append("created_utc < ?")
        values.append(choice.before_utc)
    if choice.model is not None:
        conditions.append("model = ?")
        values.append(choice.model)
    if choice.failures:
        conditions.append("(NOT finished OR outcome = ?)")
        values.append(Outcome.FAILED.value)
    last = 0
    while rows := cache.query(
        f"SELECT id, request_key, run, cost_usd, outcome = 'ok' FROM replies WHERE {' AND '.join(conditions)}"
        f" ORDER BY id LIMIT {_ROWS_AT_ONCE}", (last, *values)
    ):
        for number, key, run, usd, is_caption in rows:
            if choice.used is None or key not in choice.used:
                yield number, run, usd, is_caption
        last = rows[-1][0]


def _deleting(ids: list[int], usd_by_run: dict[str, float]) -> Iterator[Statement]:
    for start in range(0, len(ids), _MOST_IN_QUERY):
        part = ids[start : start + _MOST_IN_QUERY]
        yield f"DELETE FROM replies WHERE id IN ({','.join('?' * len(part))})", part
    for run, usd in usd_by_run.items():
        if usd:
            yield (
                "INSERT INTO open_requests (id, worst_usd, created_utc, run) VALUES (?,?,?,?)",
                (f"pruned-{uuid.uuid4().hex}", usd, utc_now(), run),
            )


def _give_back_room(cache: ReplyCache) -> None:
    """Packs the file, if nobody else has it open; if somebody has, the room is used for replies to come."""
    with closing(connect(cache.path)) as connection:
        connection.execute("PRAGMA busy_timeout = 200")
        try:
            connection.execute("VACUUM")
        except sqlite3.OperationalError:
            return
