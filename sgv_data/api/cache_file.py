"""The file of the reply cache: its tables, its format and how an older format becomes the present one.

Format 1 had no runs and no batch lane. Format 2 is format 1 plus `_UPGRADES[1]`: a new file is made that way too, so
that both have the same tables. An upgrade is one transaction: after a crash the file has the old format or the new one.

How it is written: write-ahead log and `synchronous = FULL`, so that a commit returns only once the log is synced to the
disk. `NORMAL` would leave the last commits to the operating system: safe against `kill -9`, not against power loss.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sgv_data.api.batch_ledger import BATCH_SCHEMA
from sgv_data.api.cache_errors import damaged
from sgv_data.errors import DiskError, RunFolderError
from sgv_data.run_folder import sync_folder

FORMAT = 2
APPLICATION_ID = 0x53475631
# What a run spent on replies that were pruned stays in `open_requests`, so that its budget goes on counting it.
PRUNED = "(substr(id, 1, 7) = 'pruned-')"
_BUSY_S = 10.0
_CACHE_KIB = 32_768

_FORMAT_1 = """
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
"""

# `key16` costs nothing in a row; with it the index of all finished requests takes 30 bytes for each. `run` is '' for
# what format 1 held: the first run that opens the file takes it over (`runs.adopts`).
_UPGRADES = {
    1: """
ALTER TABLE replies ADD COLUMN run TEXT NOT NULL DEFAULT '';
ALTER TABLE replies ADD COLUMN lane TEXT NOT NULL DEFAULT 'live';
ALTER TABLE replies ADD COLUMN served_model TEXT NOT NULL DEFAULT '';
ALTER TABLE replies ADD COLUMN key16 TEXT GENERATED ALWAYS AS (substr(request_key, 1, 16)) VIRTUAL;
CREATE INDEX replies_judged ON replies (parser, finished, key16);
CREATE INDEX replies_money ON replies (run, cost_usd, prompt_tokens, completion_tokens);
CREATE TABLE failures_2 (
    subject TEXT NOT NULL, session TEXT NOT NULL, failure TEXT NOT NULL, detail TEXT NOT NULL,
    attempts INTEGER NOT NULL, created_utc TEXT NOT NULL, PRIMARY KEY (session, subject)) WITHOUT ROWID;
INSERT INTO failures_2 SELECT subject, session, failure, detail, attempts, created_utc FROM failures;
DROP TABLE failures;
ALTER TABLE failures_2 RENAME TO failures;
ALTER TABLE open_requests ADD COLUMN run TEXT NOT NULL DEFAULT '';
CREATE TABLE runs (
    run TEXT PRIMARY KEY, name TEXT NOT NULL, created_utc TEXT NOT NULL, adopts INTEGER NOT NULL) WITHOUT ROWID;
"""
    + BATCH_SCHEMA,
}


def connect(path: Path) -> sqlite3.Connection:
    """A connection that may be used from any thread, by one at a time."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def prepare(path: Path) -> None:
    """Makes the tables in a new file, upgrades an older one, sees that any other is of this format.

    Raises:
        RunFolderError: of a newer version, no reply cache, or its first part is gone.
        DiskError: the file system cannot hold a write-ahead log.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _refuse_lost_file(path)
    connection = connect(path)
    try:
        if _found_format(path, connection) == FORMAT:
            return
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise DiskError(f"{path}: this file system cannot hold a write-ahead log; put the cache on a local disk")
        _bring_up_to_date(path, connection)
    finally:
        connection.close()
    sync_folder(path.parent)


def found_format(path: Path) -> int:
    """The format of an existing reply cache, as `prepare` would find it; changes nothing."""
    connection = connect(path)
    try:
        return _found_format(path, connection)
    finally:
        connection.close()


def _refuse_lost_file(path: Path) -> None:
    """SQLite throws the log away when the file it belongs to is missing or empty: here that would be paid replies."""
    log = path.with_name(path.name + "-wal")
    gone = not path.exists() or not path.stat().st_size
    if gone and log.exists() and log.stat().st_size:
        raise damaged(path, f"it is missing or empty, but its log {log.name} is not")


def _found_format(path: Path, connection: sqlite3.Connection) -> int:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not found and not num_tables:
        return 0
    if application != APPLICATION_ID:
        raise RunFolderError(f"{path} is an SQLite file, but no reply cache of sgv_data; move it away")
    if found > FORMAT:
        raise RunFolderError(
            f"{path} was written by a newer sgv_data (format {found}, this one knows {FORMAT}); update sgv_data"
        )
    return int(found)


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Looked at again: another process may have been faster.
        found = _found_format(path, connection)
        steps = ([_FORMAT_1] if not found else []) + [_UPGRADES[old] for old in range(max(found, 1), FORMAT)]
        for step in steps:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Reserve:
    """A file beside the cache that only takes up room: it is given up first when the disk is full."""

    _NUM_BYTES = 4 << 20

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + "-reserve")

    def keep(self) -> None:
        """Makes the file if it is missing and there is plenty of room. Never raises."""
        try:
            room = os.statvfs(self._path.parent)
            if self._path.exists() or room.f_bavail * room.f_frsize < 16 * self._NUM_BYTES:
                return
            with self._path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._NUM_BYTES)
                else:
                    file.write(b"\0" * self._NUM_BYTES)
        except OSError:
            self.give_up()

    def give_up(self) -> None:
        """Removes the file. Never raises."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return
