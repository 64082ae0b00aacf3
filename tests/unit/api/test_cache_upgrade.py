"""A reply cache of format 1 becomes one of format 2: all of it or, after a crash, none of it."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import pytest

from sgv_data.api import cache_file
from sgv_data.api.cache import ReplyCache, StoredReply
from sgv_data.api.reply import PARSER_VERSION, parse_reply
from sgv_data.records import FailureClass
from tests.servers.fault_server import answer

FORMAT_1 = """
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
PRAGMA application_id = 1397184049;
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "replies.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(FORMAT_1)
    for number in range(3):
        connection.execute(
            "INSERT INTO replies VALUES (NULL,?,?,'ok',1,?,'m',NULL,1,0.5,'2026-01-01T00:00:00Z',10,20,0.25)",
            (f"key-{number}", zlib.compress(answer(f"caption {number}")), PARSER_VERSION),
        )
    connection.execute("INSERT INTO failures VALUES ('s', 'session', 'blocked', 'why', 2, '2026')")
    connection.execute("INSERT INTO open_requests VALUES ('lost', 0.125, '2026')")
    connection.commit()
    connection.close()
    return path


def test_everything_is_there_after_the_upgrade(old: Path) -> None:
    with ReplyCache(old, "mine", "name") as cache:
        found = cache.get("key-1")
        assert found is not None
        assert (found[1].text, found[0].cost_usd) == ("caption 1", 0.25)
        assert cache.answered(["key-0", "key-1", "key-2", "key-3"]) == {"key-0", "key-1", "key-2"}
        assert cache.failures("session", ["s"])["s"].failure is FailureClass.BLOCKED
        assert cache.query("PRAGMA user_version") == [(cache_file.FORMAT,)]
        assert cache.query("PRAGMA integrity_check") == [("ok",)]


def test_the_first_run_takes_over_what_was_paid_and_no_later_one_does(old: Path) -> None:
    with ReplyCache(old, "mine") as first, ReplyCache(old, "other") as second:
        assert (first.spent_usd(None), second.spent_usd(None)) == (0.875, 0.0)
    with ReplyCache(old, "mine") as again:
        assert again.spent_usd(None) == 0.875


def test_an_upgraded_file_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple[object, ...]]:
        with ReplyCache(path) as cache:
            return cache.query("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")

    assert schema(old) == schema(tmp_path / "new.sqlite")


def test_a_crash_in_the_upgrade_leaves_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = cache_file._UPGRADES[1]
    with monkeypatch.context() as patched:
        patched.setitem(cache_file._UPGRADES, 1, steps + "; INSERT INTO nowhere VALUES (1)")
        with pytest.raises(Exception, match="nowhere"):
            ReplyCache(old)
    with sqlite3.connect(old) as unchanged:
        assert unchanged.execute("PRAGMA user_version").fetchone() == (1,)
        assert "run" not in str(unchanged.execute("SELECT sql FROM sqlite_master WHERE name = 'replies'").fetchone())
    body = answer("new")
    with ReplyCache(old) as cache:
        cache.put(StoredReply("new", body, "m", None, 1, 0.1, "2026", None), parse_reply(body)).result(5)
        assert cache.answered(["key-0", "new"]) == {"key-0", "new"}
