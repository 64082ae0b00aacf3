from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgv_data.api.cache import FORMAT, ReplyCache, StoredFailure, StoredReply, stored
from sgv_data.api.keys import SentImage
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import parse_reply
from sgv_data.errors import DiskError, RunFolderError
from sgv_data.records import FailureClass, Lane
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

    connect = module.connect

    def small(where: Path) -> sqlite3.Connection:
        connection = connect(where)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    monkeypatch.setattr(module, "connect", small)
    num_stored = 0
    with ReplyCache(path, patience_s=0) as cache:
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


def test_the_newest_answer_in_order_counts_before_newer_ones_that_are_not(path: Path) -> None:
    bodies = [answer("whole"), answer("cut", "length"), answer(None, "stop", "no")]
    with ReplyCache(path) as cache:
        for body in bodies:
            put(cache, "k", body)
            put(cache, "never whole", bodies[1])
        found, other = cache.get("k"), cache.get("never whole")
        assert found is not None and other is not None  # noqa: PT018
        assert (found[1].text, other[1].text) == ("whole", "cut")
        assert [reply.body for reply, _ in cache.attempts("k")] == bodies
        assert cache.get_many(["k", "never whole", "missing"]) == {"k": found, "never whole": other}


def test_money_is_counted_for_the_run_that_spent_it(path: Path) -> None:
    with ReplyCache(path, "one", "first") as one, ReplyCache(path, "two", "second") as two:
        put(one, "k", answer("x"), 0.5)
        two.open_request("in the air", 0.25, "2026-01-01T00:00:00Z").result(5)
        assert (one.spent_usd(None), two.spent_usd(None)) == (0.5, 0.25)
        found = two.get("k")
        assert found is not None
        assert (one.is_own(found[0]), two.is_own(found[0])) == (True, False)
    with ReplyCache(path, "one") as again:
        assert again.spent_usd(None) == 0.5


def test_failures_of_two_sessions_do_not_replace_each_other(path: Path) -> None:
    failure = StoredFailure("subject", FailureClass.BLOCKED, "why", 1, "2026-01-01T00:00:00Z")
    with ReplyCache(path) as cache:
        for session in ("first", "second"):
            cache.put_failure(session, replace(failure, detail=session)).result(5)
        assert cache.failures("first", ["subject"])["subject"].detail == "first"


def test_what_belongs_together_is_written_together(path: Path) -> None:
    reply = StoredReply("k", answer("x"), "fake", None, 1, 0.1, "2026-01-01T00:00:00Z", None, Lane.BATCH)
    with ReplyCache(path) as cache:
        failed = cache.put(reply, parse_reply(reply.body), also=[("INSERT INTO no_such_table VALUES (1)", ())])
        with pytest.raises(RunFolderError):
            failed.result(5)
        assert cache.get("k") is None
        also = [("UPDATE replies SET attempts = 7 WHERE request_key = ?", ("k",))]
        cache.put(reply, parse_reply(reply.body), also=also).result(5)
        found = cache.get("k")
        assert found is not None
        assert (found[0].attempts, found[0].lane) == (7, Lane.BATCH)


def test_a_write_that_cannot_be_does_not_take_its_neighbours_along(path: Path) -> None:
    with ReplyCache(path) as cache:
        # Held up, so that all of them wait for the same commit.
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            first = cache.put_sent("0" * 64, "r", SentImage("f" * 64, "image/jpeg", 3, 4, 5))
            time.sleep(0.05)
            bad = cache.submit([("INSERT INTO no_such_table VALUES (1)", ())])
            good = cache.put_sent("1" * 64, "r", SentImage("f" * 64, "image/jpeg", 3, 4, 5))
            other.execute("ROLLBACK")
        first.result(5)
        good.result(5)
        with pytest.raises(RunFolderError):
            bad.result(5)
        assert set(cache.sent("r", ["0" * 64, "1" * 64])) == {"0" * 64, "1" * 64}


def test_what_finds_no_room_is_kept_and_written_when_there_is_some(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sgv_data.api.cache as module

    connect, connections = module.connect, []

    def small(where: Path) -> sqlite3.Connection:
        connections.append(connect(where))
        connections[-1].execute("PRAGMA max_page_count = 60")
        return connections[-1]

    monkeypatch.setattr(module, "connect", small)
    body = answer("word " * 2000 + str(list(range(2000))))
    with ReplyCache(path, patience_s=30) as cache:
        reserve = path.with_name("replies.sqlite-reserve")
        assert reserve.exists()
        waiting = [
            cache.put(StoredReply(f"{n}", body, "m", None, 1, 0.1, "2026", 0.5), parse_reply(body)) for n in range(100)
        ]
        deadline = time.monotonic() + 5
        while reserve.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not reserve.exists()
        assert not waiting[-1].done()
        for connection in connections:
            connection.execute("PRAGMA max_page_count = 100000")
        for write in waiting:
            write.result(5)
        assert cache.spent_usd(None) == 50


def test_who_stops_a_run_by_hand_does_not_wait_for_room_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sgv_data.api.cache as module

    connect = module.connect

    def small(where: Path) -> sqlite3.Connection:
        connection = connect(where)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    monkeypatch.setattr(module, "connect", small)
    body = answer(str(list(range(20_000))))

    def stop() -> None:
        with ReplyCache(path, patience_s=60) as cache:
            for number in range(40):
                cache.put(StoredReply(f"{number}", body, "m", None, 1, 0.1, "2026", 0.5), parse_reply(body))
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(DiskError, match="no space"):
        stop()
    assert time.monotonic() - begun < 20


def test_a_log_without_its_file_is_not_thrown_away(path: Path) -> None:
    log = path.with_name("replies.sqlite-wal")
    log.write_bytes(b"paid replies")
    for main in (None, b""):
        if main is not None:
            path.write_bytes(main)
        with pytest.raises(RunFolderError, match="sgv cache recover"):
            ReplyCache(path)
        assert log.read_bytes() == b"paid replies"


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match="no reply cache"):
        ReplyCache(path)
    assert path.read_bytes() == before


def test_replies_of_an_older_parser_are_judged_once_and_the_verdict_is_kept(path: Path) -> None:
    with ReplyCache(path) as cache:
        for number in range(7):
            put(cache, f"{number}", answer("x"))
    with sqlite3.connect(path) as old:
        old.execute("UPDATE replies SET parser = parser + CASE WHEN id % 2 THEN 1 ELSE -1 END, finished = 0")
    with ReplyCache(path) as cache:
        assert [cache.rejudge(4), cache.rejudge(4), cache.rejudge(4)] == [4, 3, 0]
        assert cache.query("SELECT count(*) FROM replies WHERE finished AND outcome = 'ok'") == [(7,)]


def test_writes_of_several_processes_to_one_file_all_arrive(path: Path) -> None:
    def work(run: str) -> None:
        with ReplyCache(path, run) as cache:
            for number in range(40):
                put(cache, f"{run}-{number}", answer("x"))

    threads = [threading.Thread(target=work, args=(run,)) for run in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ReplyCache(path, "one") as cache:
        assert cache.query("SELECT run, count(*) FROM replies GROUP BY run ORDER BY run") == [
            ("one", 40), ("three", 40), ("two", 40),
        ]  # fmt: skip
