"""The reply cache: every answer that was paid for, kept once and for ever in one SQLite file.

Key: see `keys.py`. A key may have several answers (a cut-off one, asked again later): all are kept, the newest finished
one counts. Raw bodies are stored compressed and without the picture; what they mean is decided anew by `reply.py`
whenever they are read. `outcome` and `parser` in the table are that decision remembered, and only trusted while the
parser is the same.

Safe against `kill -9` and power loss: write-ahead log, full sync, one writer, acknowledged after the commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgv_data.api.cache_writer import CacheWriter, Statement, cache_error
from sgv_data.api.keys import SentImage
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import PARSER_VERSION, ParsedReply, parse_reply
from sgv_data.errors import RunFolderError
from sgv_data.records import FailureClass

FORMAT = 1
_APPLICATION_ID = 0x53475631
_BUSY_S = 10.0
_MOST_IN_QUERY = 500

_SCHEMA = f"""
CREATE TABLE replies (
    id INTEGER PRIMARY KEY, request_key TEXT NOT NULL, body BLOB NOT NULL, outcome TEXT NOT NULL,
    finished INTEGER NOT NULL, parser INTEGER NOT NULL, model TEXT NOT NULL, request_id TEXT, attempts INTEGER NOT NULL,
    latency_s REAL NOT NULL, created_utc TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, cost_usd REAL);
CREATE INDEX replies_by_key ON replies (request_key, finished, parser);
CREATE TABLE failures (
    subject TEXT PRIMARY KEY, session TEXT NOT NULL, failure TEXT NOT NULL, detail TEXT NOT NULL,
    attempts INTEGER NOT NULL, created_utc TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sent_images (
    image_sha256 TEXT, recipe TEXT, sha256 TEXT NOT NULL, media_type TEXT NOT NULL, width_px INTEGER NOT NULL,
    height_px INTEGER NOT NULL, num_bytes INTEGER NOT NULL, PRIMARY KEY (image_sha256, recipe)) WITHOUT ROWID;
CREATE TABLE open_requests (id TEXT PRIMARY KEY, worst_usd REAL NOT NULL, created_utc TEXT NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One paid answer. `cost_usd` None: the price was unknown when it came."""

    request_key: str
    body: bytes
    model: str
    request_id: str | None
    attempts: int
    latency_s: float
    created_utc: str
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """A request, or a picture, that ended without an answer. Counts in its session only: a new one asks again."""

    subject: str
    failure: FailureClass
    detail: str
    attempts: int
    created_utc: str


class ReplyCache:
    """The cache at `path`, made if it is not there. Use as a context manager; reads are safe from any thread.

    Raises:
        RunFolderError: the file is damaged, of a newer version, or no reply cache.
        DiskError: no space or no permission.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            _prepare(path)
            self._reader = _connect(path)
            self._writer = CacheWriter(path, _connect)
        except sqlite3.Error as exc:
            raise cache_error(path, exc) from exc

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes what is still queued, then closes."""
        self._writer.close()
        self._reader.close()

    # --- replies ---

    def put(self, reply: StoredReply, parsed: ParsedReply, closes: str | None = None) -> Future[None]:
        """Stores one answer and ends the open request `closes` in the same transaction. Done when it is on the disk."""
        insert = (
            "INSERT INTO replies (request_key, body, outcome, finished, parser, model, request_id, attempts, latency_s,"
            " created_utc, prompt_tokens, completion_tokens, cost_usd) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (reply.request_key, zlib.compress(reply.body, 6), parsed.outcome.value, parsed.finished, PARSER_VERSION,
             reply.model, reply.request_id, reply.attempts, reply.latency_s, reply.created_utc, parsed.prompt_tokens,
             parsed.completion_tokens, reply.cost_usd),
        )
        return self._writer.submit([insert, *([_closing(closes)] if closes else [])])

    def get(self, key: str) -> tuple[StoredReply, ParsedReply] | None:
        """The newest finished answer to a request, or None."""
        rows = self._query(f"SELECT {_REPLY_COLUMNS} FROM replies WHERE request_key = ? ORDER BY id DESC", (key,))
        for row in rows:
            stored = self._stored(row)
            parsed = parse_reply(stored.body)
            if parsed.finished:
                return stored, parsed
        return None

    def answered(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that have a finished answer."""
        found: set[str] = set()
        for part in _parts(list(keys)):
            marks = ",".join("?" * len(part))
            rows = self._query(
                f"SELECT request_key, max(finished AND parser = {PARSER_VERSION}) FROM replies"
                f" WHERE request_key IN ({marks}) GROUP BY request_key", part)
            found.update(key for key, known in rows if known or self.get(key) is not None)
        return found

    def iterate(self) -> Iterator[StoredReply]:
        """Every answer, oldest first."""
        last = 0
        while rows := self._query(
            f"SELECT id, {_REPLY_COLUMNS} FROM replies WHERE id > ? ORDER BY id LIMIT {_MOST_IN_QUERY}", (last,)
        ):
            yield from (self._stored(row[1:]) for row in rows)
            last = rows[-1][0]

    # --- failures ---

    def put_failure(self, session: str, failure: StoredFailure) -> Future[None]:
        """Stores how asking about a subject ended; a later failure of the same subject replaces it."""
        detail = failure.detail.encode("utf-8", "replace").decode()
        return self._writer.submit([(
            "INSERT OR REPLACE INTO failures VALUES (?,?,?,?,?,?)",
            (failure.subject, session, failure.failure.value, detail, failure.attempts, failure.created_utc),
        )])

    def failures(self, session: str, subjects: Iterable[str]) -> dict[str, StoredFailure]:
        """The failures of `subjects` in this session, by subject."""
        found = {}
        for part in _parts(list(subjects)):
            marks = ",".join("?" * len(part))
            for subject, failure, detail, attempts, created_utc in self._query(
                "SELECT subject, failure, detail, attempts, created_utc FROM failures"
                f" WHERE session = ? AND subject IN ({marks})", [session, *part]
            ):
                found[subject] = StoredFailure(subject, FailureClass(failure), detail, attempts, created_utc)
        return found

    # --- pictures as sent ---

    def put_sent(self, image_sha256: str, recipe: str, image: SentImage) -> Future[None]:
        """Remembers what a picture became under a recipe, so that a finished picture is never decoded again."""
        return self._writer.submit([(
            "INSERT OR REPLACE INTO sent_images VALUES (?,?,?,?,?,?,?)",
            (image_sha256, recipe, image.sha256, image.media_type, image.width_px, image.height_px, image.num_bytes),
        )])

    def sent(self, recipe: str, image_sha256s: Iterable[str]) -> dict[str, SentImage]:
        """What is remembered of pictures under a recipe, by the picture's own sha256."""
        found = {}
        for part in _parts(list(image_sha256s)):
            marks = ",".join("?" * len(part))
            for image_sha256, *values in self._query(
                "SELECT image_sha256, sha256, media_type, width_px, height_px, num_bytes FROM sent_images"
                f" WHERE recipe = ? AND image_sha256 IN ({marks})", [recipe, *part]
            ):
                found[image_sha256] = SentImage(*values)
        return found

    # --- money ---

    def open_request(self, request: str, worst_usd: float, created_utc: str) -> Future[None]:
        """Notes that a request is about to leave. If no answer is ever stored, it counts as billed at its worst."""
        return self._writer.submit([("INSERT INTO open_requests VALUES (?,?,?)", (request, worst_usd, created_utc))])

    def close_request(self, request: str) -> Future[None]:
        """Notes that a request was certainly not billed."""
        return self._writer.submit([_closing(request)])

    def spent_usd(self, price: TokenPrice | None) -> float:
        """What all answers cost, and what requests without a known end may have cost.

        `price` is for answers that came when no price was known; without one they count as free.
        """
        ((known,),) = self._query("SELECT coalesce(sum(cost_usd), 0) FROM replies", ())
        ((lost,),) = self._query("SELECT coalesce(sum(worst_usd), 0) FROM open_requests", ())
        ((prompt, completion),) = self._query(
            "SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM replies"
            " WHERE cost_usd IS NULL", ())
        return float(known + lost) + (price.cost_usd(prompt, completion) if price else 0.0)

    def _query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise cache_error(self._path, exc) from exc

    def _stored(self, row: Sequence[Any]) -> StoredReply:
        key, body, *rest = row
        try:
            return StoredReply(key, zlib.decompress(body), *rest)
        except zlib.error as exc:
            raise cache_error(self._path, exc) from exc


async def stored(done: Future[None]) -> None:
    """Waits until a write is on the disk."""
    await asyncio.wrap_future(done)


_REPLY_COLUMNS = "request_key, body, model, request_id, attempts, latency_s, created_utc, cost_usd"


def _closing(request: str) -> Statement:
    return "DELETE FROM open_requests WHERE id = ?", (request,)


def _parts(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _MOST_IN_QUERY):
        yield items[start : start + _MOST_IN_QUERY]


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _prepare(path: Path) -> None:
    """Makes the tables in a new file; sees that an old one is of this format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _connect(path)
    try:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not found and not num_tables:
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        elif application != _APPLICATION_ID:
            raise RunFolderError(f"{path} is an SQLite file, but no reply cache of sgv_data; move it away")
        elif found > FORMAT:
            raise RunFolderError(
                f"{path} was written by a newer sgv_data (format {found}, this one knows {FORMAT}); update sgv_data"
            )
    finally:
        connection.close()
