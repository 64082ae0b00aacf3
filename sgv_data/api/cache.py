"""The reply cache: every answer that was paid for, kept once and for ever in one SQLite file.

Key: see `keys.py`. A key may have several answers (a cut-off one, asked again later): all are kept; the newest that is
in order counts, else the newest finished one. Raw bodies are stored compressed and without the picture; what they mean
is decided anew by `reply.py` whenever they are read. `outcome`, `finished` and `parser` in the table are that decision
remembered, and only trusted while the parser is the same.

One file may serve several runs, also at the same time in several processes. Answers serve all of them; money and
requests in the air are counted for the run that caused them.

Safe against `kill -9` and power loss: write-ahead log, full sync, one writer, acknowledged after the commit (see
`cache_file.py` and `cache_writer.py`).
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgv_data.api.cache_errors import cache_error, damaged
from sgv_data.api.cache_file import FORMAT, PRUNED, connect, prepare
from sgv_data.api.cache_writer import PATIENCE_S, CacheWriter, Statement
from sgv_data.api.keys import SentImage
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import PARSER_VERSION, ParsedReply, parse_reply
from sgv_data.records import FailureClass, Lane, Outcome
from sgv_data.run_folder import utc_now

__all__ = ["FORMAT", "ReplyCache", "StoredFailure", "StoredReply", "stored"]

_MOST_IN_QUERY = 500
_HURRIED_S = 1.0
_LANES = frozenset(map(str, Lane))


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One paid answer. `cost_usd` None: the price was unknown when it came. `run` is filled in by the cache."""

    request_key: str
    body: bytes
    model: str
    request_id: str | None
    attempts: int
    latency_s: float
    created_utc: str
    cost_usd: float | None
    lane: Lane = Lane.LIVE
    run: str = ""


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """A request, or a picture, that ended without an answer. Counts in its session only: a new one asks again."""

    subject: str
    failure: FailureClass
    detail: str
    attempts: int
    created_utc: str


@dataclass(frozen=True, slots=True)
class _Counted:
    """What this run's replies up to `to_id` cost."""

    to_id: int = 0
    usd: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    num_pruned: int = 0


class ReplyCache:
    """The cache at `path`, made if it is not there. Use as a context manager; reads are safe from any thread.

    `run` names who pays: it stays the same for all attempts at a run. `name` is how the run is shown to people. For
    `patience_s` seconds a write that finds no room on the disk is kept in memory and tried again.

    Raises:
        RunFolderError: the file is damaged, of a newer version, or no reply cache.
        DiskError: no space or no permission.
    """

    def __init__(self, path: Path, run: str = "", name: str = "", patience_s: float = PATIENCE_S) -> None:
        self.path, self.run = path, run
        self._lock = threading.Lock()
        self._counted = _Counted()
        try:
            prepare(path)
            self._reader = connect(path)
            # Says at once, not after the first paid answer, that the file cannot be written.
            self._reader.execute("BEGIN IMMEDIATE")
            self._reader.execute("ROLLBACK")
            self._writer = CacheWriter(path, connect, patience_s)
        except sqlite3.Error as exc:
            raise cache_error(path, exc) from exc
        try:
            self._own_runs = self._register(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Whoever stops a run by hand does not wait until a full disk has room again.
        self.close(_HURRIED_S if kind is not None and issubclass(kind, KeyboardInterrupt) else math.inf)

    def close(self, patience_s: float = math.inf) -> None:
        """Writes what is still queued, for at most so long where the disk does not take it, then closes.

        Raises:
            SgvError: of a hurried close, if something could not be written.
        """
        try:
            self._writer.close(patience_s)
        finally:
            self._reader.close()

    # --- for modules that keep tables of their own in the same file ---

    def submit(self, statements: Sequence[Statement]) -> Future[None]:
        """Runs statements in one transaction; the future ends when they are on the disk."""
        return self._writer.submit(statements)

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT. Sees what was acknowledged."""
        try:
            with self._lock:
                return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise cache_error(self.path, exc) from exc

    # --- replies ---

    def put(
        self, reply: StoredReply, parsed: ParsedReply, closes: str | None = None, also: Sequence[Statement] = ()
    ) -> Future[None]:
        """Stores one answer. Done when it is on the disk.

        In the same transaction it ends the open request `closes` and runs the statements `also`.
        """
        values = (
            reply.request_key, zlib.compress(reply.body, 6), parsed.outcome.value, parsed.finished, PARSER_VERSION,
            reply.model, reply.request_id, reply.attempts, reply.latency_s, reply.created_utc, parsed.prompt_tokens,
            parsed.completion_tokens, reply.cost_usd, self.run, str(reply.lane), parsed.model,
        )  # fmt: skip
        return self.submit([(_INSERT, values), *([_closing(closes)] if closes else []), *also])

    def get(self, key: str) -> tuple[StoredReply, ParsedReply] | None:
        """The answer to a request that counts: the newest in order, else the newest finished, else None."""
        return _best(self._newest_first(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, tuple[StoredReply, ParsedReply]]:
        """`get` for many requests at once, by key; those without a finished answer are left out."""
        found: dict[str, list[StoredReply]] = {}
        for part in _parts(list(keys)):
            marks = ",".join("?" * len(part))
            for row in self.query(
                f"SELECT {_REPLY_COLUMNS} FROM replies WHERE request_key IN ({marks}) ORDER BY id DESC", part
            ):
                found.setdefault(row[0], []).append(self._stored(row))
        chosen = {key: _best((reply, parse_reply(reply.body)) for reply in replies) for key, replies in found.items()}
        return {key: best for key, best in chosen.items() if best is not None}

    def attempts(self, key: str) -> list[tuple[StoredReply, ParsedReply]]:
        """Every answer that a request ever got, oldest first, unfinished ones included."""
        return list(self._newest_first(key))[::-1]

    def answered(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that have a finished answer."""
        found: set[str] = set()
        for part in _parts(list(keys)):
            marks = ",".join("?" * len(part))
            rows = self.query(
                f"SELECT request_key, max(finished AND parser = {PARSER_VERSION}) FROM replies"
                f" WHERE request_key IN ({marks}) GROUP BY request_key", part)
            found.update(key for key, known in rows if known or self.get(key) is not None)
        return found

    def iterate(self) -> Iterator[StoredReply]:
        """Every answer, oldest first."""
        last = 0
        while rows := self.query(
            f"SELECT {_REPLY_COLUMNS}, id FROM replies WHERE id > ? ORDER BY id LIMIT {_MOST_IN_QUERY}", (last,)
        ):
            yield from (self._stored(row[:-1]) for row in rows)
            last = rows[-1][-1]

    def rejudge(self, most: int = _MOST_IN_QUERY) -> int:
        """Reads up to `most` answers anew that another parser judged, and remembers the verdict; returns how many."""
        rows: list[tuple[Any, ...]] = []
        for sign in "<>":
            rows += self.query(
                f"SELECT id, body, request_key FROM replies WHERE parser {sign} ? LIMIT ?",
                (PARSER_VERSION, most - len(rows)))
        statements: list[Statement] = []
        for number, body, key in rows:
            parsed = parse_reply(self._unpacked(body, key))
            statements.append((
                "UPDATE replies SET outcome = ?, finished = ?, parser = ? WHERE id = ?",
                (parsed.outcome.value, parsed.finished, PARSER_VERSION, number),
            ))
        if statements:
            self.submit(statements).result()
        return len(rows)

    def is_own(self, reply: StoredReply) -> bool:
        """Whether this run paid for the answer; if not, another run that shares the file did."""
        return reply.run in self._own_runs

    def _newest_first(self, key: str) -> Iterator[tuple[StoredReply, ParsedReply]]:
        rows = self.query(f"SELECT {_REPLY_COLUMNS} FROM replies WHERE request_key = ? ORDER BY id DESC", (key,))
        for row in rows:
            reply = self._stored(row)
            yield reply, parse_reply(reply.body)

    # --- failures ---

    def put_failure(self, session: str, failure: StoredFailure) -> Future[None]:
        """Stores how asking about a subject ended; a later failure of the same subject replaces it."""
        detail = failure.detail.encode("utf-8", "replace").decode()
        return self.submit([(
            "INSERT OR REPLACE INTO failures (subject, session, failure, detail, attempts, created_utc)"
            " VALUES (?,?,?,?,?,?)",
            (failure.subject, session, failure.failure.value, detail, failure.attempts, failure.created_utc),
        )])

    def failures(self, session: str, subjects: Iterable[str]) -> dict[str, StoredFailure]:
        """The failures of `subjects` in this session, by subject."""
        found = {}
        for part in _parts(list(subjects)):
            marks = ",".join("?" * len(part))
            for subject, failure, detail, attempts, created_utc in self.query(
                "SELECT subject, failure, detail, attempts, created_utc FROM failures"
                f" WHERE session = ? AND subject IN ({marks})", [session, *part]
            ):
                found[subject] = StoredFailure(subject, FailureClass(failure), detail, attempts, created_utc)
        return found

    # --- pictures as sent ---

    def put_sent(self, image_sha256: str, recipe: str, image: SentImage) -> Future[None]:
        """Remembers what a picture became under a recipe, so that a finished picture is never decoded again."""
        return self.submit([(
            "INSERT OR REPLACE INTO sent_images VALUES (?,?,?,?,?,?,?)",
            (image_sha256, recipe, image.sha256, image.media_type, image.width_px, image.height_px, image.num_bytes),
        )])

    def sent(self, recipe: str, image_sha256s: Iterable[str]) -> dict[str, SentImage]:
        """What is remembered of pictures under a recipe, by the picture's own sha256."""
        found = {}
        # In the order of the table, so that one page after the other is read.
        for part in _parts(sorted(image_sha256s)):
            marks = ",".join("?" * len(part))
            for image_sha256, *values in self.query(
                "SELECT image_sha256, sha256, media_type, width_px, height_px, num_bytes FROM sent_images"
                f" WHERE recipe = ? AND image_sha256 IN ({marks})", [recipe, *part]
            ):
                found[image_sha256] = SentImage(*values)
        return found

    # --- money: of this run only ---

    def open_request(self, request: str, worst_usd: float, created_utc: str) -> Future[None]:
        """Notes that a request is about to leave. If no answer is ever stored, it counts as billed at its worst."""
        return self.submit([(
            "INSERT INTO open_requests (id, worst_usd, created_utc, run) VALUES (?,?,?,?)",
            (request, worst_usd, created_utc, self.run),
        )])

    def close_request(self, request: str) -> Future[None]:
        """Notes that a request was certainly not billed."""
        return self.submit([_closing(request)])

    def spent_usd(self, price: TokenPrice | None) -> float:
        """What all answers to this run cost, and what its requests without a known end may have cost.

        `price` is for answers that came when no price was known; without one they count as free.
        """
        marks = ",".join("?" * len(self._own_runs))
        lost, num_pruned = self.query(
            f"SELECT coalesce(sum(worst_usd), 0), sum({PRUNED}) FROM open_requests WHERE run IN ({marks})",
            self._own_runs)[0]  # fmt: skip
        known, prompt, completion = self._bills(num_pruned or 0)
        return float(known + lost) + (price.cost_usd(prompt, completion) if price else 0.0)

    def _bills(self, num_pruned: int) -> tuple[float, int, int]:
        """The sum of known costs, and the tokens of replies of unknown cost.

        Replies are only ever added, or pruned, which `num_pruned` shows: later calls add up what is new.
        """
        if num_pruned != self._counted.num_pruned:
            self._counted = _Counted(num_pruned=num_pruned)
        counted, marks = self._counted, ",".join("?" * len(self._own_runs))
        query = self.query if counted.to_id else self._query_aside
        ((last,),) = query("SELECT coalesce(max(id), 0) FROM replies")
        # The plus keeps SQLite from going through the whole index for a few new rows.
        which = f"{'+' if counted.to_id else ''}run IN ({marks}) AND id > ? AND id <= ?"
        values = (*self._own_runs, counted.to_id, last)
        ((known,),) = query(f"SELECT coalesce(sum(cost_usd), 0) FROM replies WHERE {which}", values)
        ((prompt, completion),) = query(
            "SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM replies"
            f" WHERE {which} AND cost_usd IS NULL", values)
        known, prompt, completion = (
            counted.usd + known, counted.prompt_tokens + prompt, counted.completion_tokens + completion
        )  # fmt: skip
        self._counted = _Counted(last, known, prompt, completion, num_pruned)
        return known, prompt, completion

    def _query_aside(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """`query` for what takes long: nobody else has to wait for its end."""
        try:
            with closing(connect(self.path)) as connection:
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise cache_error(self.path, exc) from exc

    def _register(self, name: str) -> tuple[str, ...]:
        """Enters the run in the file; returns the names under which its money is found."""
        if not self.run:
            return ("",)
        known = self.query("SELECT adopts FROM runs WHERE run = ?", (self.run,))
        if not known:
            self.submit([("INSERT OR IGNORE INTO runs VALUES (?,?,?," + _IS_FIRST_HEIR + ")",
                          (self.run, name, utc_now()))]).result()  # fmt: skip
            known = self.query("SELECT adopts FROM runs WHERE run = ?", (self.run,))
        return (self.run, "") if known and known[0][0] else (self.run,)

    def _stored(self, row: Sequence[Any]) -> StoredReply:
        key, body, model, request_id, attempts, latency_s, created_utc, cost_usd, lane, run = row
        plain = self._unpacked(body, key)
        if lane not in _LANES:
            raise damaged(self.path, f"the reply {key[:16]}… came by a lane {lane!r}, which there is not")
        return StoredReply(key, plain, model, request_id, attempts, latency_s, created_utc, cost_usd, Lane(lane), run)

    def _unpacked(self, body: bytes, key: str) -> bytes:
        try:
            return zlib.decompress(body)
        except (zlib.error, TypeError) as exc:
            raise damaged(self.path, f"the reply {key[:16]}… does not have the checksum it was stored with") from exc


async def stored(done: Future[None]) -> None:
    """Waits until a write is on the disk."""
    await asyncio.wrap_future(done)


_REPLY_COLUMNS = "request_key, body, model, request_id, attempts, latency_s, created_utc, cost_usd, lane, run"
_INSERT = (
    "INSERT INTO replies (request_key, body, outcome, finished, parser, model, request_id, attempts, latency_s,"
    " created_utc, prompt_tokens, completion_tokens, cost_usd, run, lane, served_model)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
# What a file of format 1 holds was paid for by the run whose file it was: the first that opens it.
_IS_FIRST_HEIR = (
    "NOT EXISTS (SELECT 1 FROM runs WHERE adopts) AND (EXISTS (SELECT 1 FROM replies WHERE run = '')"
    " OR EXISTS (SELECT 1 FROM open_requests WHERE run = ''))"
)


def _best(newest_first: Iterable[tuple[StoredReply, ParsedReply]]) -> tuple[StoredReply, ParsedReply] | None:
    newest_finished = None
    for reply, parsed in newest_first:
        if parsed.finished and parsed.outcome is Outcome.OK:
            return reply, parsed
        if parsed.finished and newest_finished is None:
            newest_finished = (reply, parsed)
    return newest_finished


def _closing(request: str) -> Statement:
    return "DELETE FROM open_requests WHERE id = ?", (request,)


def _parts(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _MOST_IN_QUERY):
        yield items[start : start + _MOST_IN_QUERY]
