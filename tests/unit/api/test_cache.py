from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgv_data.api.cache import FORMAT, ReplyCache, StoredFailure, StoredReply, stored
from sgv_data.api.keys import SentImage
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import parse_reply
from sgv_data.errors import DiskError, RunFolderError
from sgv_data.records import FailureClass
from tests.servers.fault_server import answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replies.sqlite"


def put(cache: ReplyCache, key: str, body: bytes, cost_usd: float | None = 0.5, closes: str | None = None) -> None:
    reply = StoredReply(key, body, "fake", "req-1", 2, 0.25, "2026-01-01T00:00:00Z", cost_usd)
    cache.put(reply, parse_reply(body), closes).result(5)


def test_an_answer_comes_back_as_it_was(path: Path) -> None:
    with ReplyCache(path) as cache:
        put(cache, "k", answer("A dog."))
    with ReplyCache(path) as cache:
        found = cache.get("k")
    assert found is not None
    reply, parsed = found
    assert reply == StoredReply("k", answer("A dog."), "fake", "req-1", 2, 0.25, "2026-01-01T00:00:00Z", 0.5)
    assert parsed.text == "A dog."


def test_the_newest_finished_answer_counts_and_all_are_kept(path: Path) -> None:
    bodies = [answer("cut", "length"), answer("whole"), answer("later")[:30]]
    with ReplyCache(path) as cache:
        for body in bodies:
            put(cache, "k", body)
        found = cache.get("k")
        assert found is not None
        assert found[1].text == "whole"
        assert [reply.body for reply in cache.iterate()] == bodies


def test_only_finished_answers_count_as_answered(path: Path) -> None:
    with ReplyCache(path) as cache:
        put(cache, "whole", answer("x"))
        put(cache, "refused", answer(None, "stop", "no"))
        put(cache, "cut", answer("x")[:20])
        assert cache.answered(["whole", "refused", "cut", "never"]) == {"whole", "refused"}


def test_many_keys_are_looked_up_at_once(path: Path) -> None:
    keys = [f"key-{number}" for number in range(1300)]
    with ReplyCache(path) as cache:
        for key in keys[::2]:
            put(cache, key, answer("x"))
        assert cache.answered(keys) == set(keys[::2])


def test_a_reply_judged_by_an_older_parser_is_judged_again(path: Path) -> None:
    with ReplyCache(path) as cache:
        put(cache, "whole", answer("x"))
        put(cache, "cut", answer("x")[:20])
    with sqlite3.connect(path) as old:
        old.execute("UPDATE replies SET parser = 0, finished = 1 - finished")
    with ReplyCache(path) as cache:
        assert cache.answered(["whole", "cut"]) == {"whole"}


def test_a_row_is_small(path: Path) -> None:
    with ReplyCache(path) as cache:
        for number in range(300):
            put(cache, f"{number:064d}", answer(f"A long caption, number {number}. " * 40))
    assert path.stat().st_size / 300 < 4096


def test_failures_count_in_their_session_only(path: Path) -> None:
    failure = StoredFailure("subject", FailureClass.BLOCKED, "why?", 1, "2026-01-01T00:00:00Z")
    with ReplyCache(path) as cache:
        cache.put_failure("first", replace(failure, detail="why\ud800")).result(5)
        assert cache.failures("first", ["subject", "other"]) == {"subject": failure}
        assert cache.failures("second", ["subject"]) == {}


def test_what_a_picture_became_is_remembered_by_recipe(path: Path) -> None:
    image = SentImage("f" * 64, "image/jpeg", 3, 4, 5)
    with ReplyCache(path) as cache:
        cache.put_sent("a" * 64, "small", image).result(5)
        assert cache.sent("small", ["a" * 64, "b" * 64]) == {"a" * 64: image}
        assert cache.sent("large", ["a" * 64]) == {}


def test_spending_counts_answers_and_requests_of_unknown_end(path: Path) -> None:
    with ReplyCache(path) as cache:
        for request in ("answered", "refused", "lost"):
            cache.open_request(request, 0.3, "2026-01-01T00:00:00Z").result(5)
        put(cache, "k", answer("x"), 0.5, closes="answered")
        put(cache, "price was unknown", answer("x"), None)
        cache.close_request("refused").result(5)
    with ReplyCache(path) as cache:
        assert cache.spent_usd(None) == pytest.approx(0.8)
        assert cache.spent_usd(TokenPrice(1e6, 0.0)) == pytest.approx(100.8)


def test_a_newer_format_is_refused_and_left_alone(path: Path) -> None:
    with ReplyCache(path) as cache:
        put(cache, "k", answer("x"))
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(RunFolderError, match="newer"):
        ReplyCache(path)
    with sqlite3.connect(path) as same:
        assert same.execute("SELECT count(*) FROM replies").fetchone() == (1,)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 5000])
def test_a_file_of_another_kind_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"replies\.sqlite"):
        ReplyCache(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(RunFolderError, match="no reply cache"):
        ReplyCache(path)


def test_a_damaged_page_is_an_error_of_ours(path: Path) -> None:
    with ReplyCache(path) as cache:
        for number in range(200):
            put(cache, f"key-{number}", answer("A caption. " * 200))
    data = bytearray(path.read_bytes())
    data[8192 : len(data) - 4096] = b"\xa5" * (len(data) - 12288)
    path.write_bytes(data)
    with ReplyCache(path) as cache, pytest.raises(RunFolderError, match="paid replies"):
        list(cache.iterate())


def test_a_full_disk_is_told_and_what_was_acknowledged_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sgv_data.api.cache as module

    connect = module._connect

    def small(where: Path) -> sqlite3.Connection:
        connection = connect(where)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    monkeypatch.setattr(module, "_connect", small)
    num_stored = 0
    with ReplyCache(path) as cache:
        while num_stored < 10_000:
            try:
                put(cache, f"key-{num_stored}", answer(f"{num_stored} " * 300))
            except DiskError as exc:
                assert "no space" in str(exc)  # noqa: PT017
                break
            num_stored += 1
    monkeypatch.undo()
    with ReplyCache(path) as cache:
        assert len(list(cache.iterate())) == num_stored
    assert 0 < num_stored < 10_000


def test_who_stops_waiting_does_not_stop_the_write(path: Path) -> None:
    body = answer("x")

    async def give_up(cache: ReplyCache) -> None:
        for number in range(50):
            reply = StoredReply(f"{number}", body, "fake", None, 1, 0.1, "2026-01-01T00:00:00Z", None)
            waiting = asyncio.create_task(stored(cache.put(reply, parse_reply(body))))
            await asyncio.sleep(0)
            waiting.cancel()

    with ReplyCache(path) as cache:
        asyncio.run(give_up(cache))
        put(cache, "after", body)
    with ReplyCache(path) as cache:
        assert sum(1 for _ in cache.iterate()) == 51


def test_closing_writes_what_is_still_queued(path: Path) -> None:
    body: Any = answer("x")
    with ReplyCache(path) as cache:
        for number in range(500):
            reply = StoredReply(f"{number}", body, "fake", None, 1, 0.1, "2026-01-01T00:00:00Z", None)
            cache.put(reply, parse_reply(body))
    with ReplyCache(path) as cache:
        assert sum(1 for _ in cache.iterate()) == 500
