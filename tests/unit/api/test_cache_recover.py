"""Whatever is done to the file, every reply that can still be read comes into the new one, and none that never was."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sgv_data.api.cache import ReplyCache, StoredReply
from sgv_data.api.cache_recover import recover
from sgv_data.api.reply import parse_reply
from sgv_data.errors import RunFolderError, SgvError
from tests.servers.fault_server import answer

NUM_REPLIES = 150


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def body_of(number: int) -> bytes:
    """Some fit in a page, some do not."""
    noise = random.Random(number).randbytes(200 if number % 10 else 9000).hex()
    return answer(f"{number} {noise}")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    with ReplyCache(path, "run", "name") as cache:
        for number in range(NUM_REPLIES):
            reply = StoredReply(key_of(number), body_of(number), "m", None, 1, 0.1, "2026-01-01T00:00:00Z", 0.5)
            cache.put(reply, parse_reply(reply.body))
        cache.open_request("lost", 2.0, "2026-01-01T00:00:00Z").result(5)
    return path


def flip(data: bytearray) -> None:
    rng = random.Random(5)
    for _ in range(12):
        data[rng.randrange(4096, len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray) -> None:
    del data[len(data) // 2 + 77 :]


def lose_the_head(data: bytearray) -> None:
    data[:4096] = bytes(4096)


def overwrite(data: bytearray) -> None:
    data[40_000:60_000] = random.Random(6).randbytes(20_000)


# What is surely still there, of NUM_REPLIES.
DAMAGE: list[tuple[Callable[[bytearray], None], int]] = [
    (flip, NUM_REPLIES - 14), (cut, NUM_REPLIES // 4), (lose_the_head, NUM_REPLIES), (overwrite, NUM_REPLIES - 60),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "at_least"), DAMAGE, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_readable_is_saved(whole: Path, damage: Callable[[bytearray], None], at_least: int) -> None:
    data = bytearray(whole.read_bytes())
    damage(data)
    whole.write_bytes(data)
    with pytest.raises(RunFolderError, match="sgv cache recover"), ReplyCache(whole, "run") as cache:
        list(cache.iterate())
    whole.write_bytes(data)
    found = recover(whole, whole.with_name("new.sqlite"))
    assert whole.read_bytes() == data
    assert not found.was_sound
    assert found.num_replies >= at_least
    bodies = {key_of(number): body_of(number) for number in range(NUM_REPLIES)}
    with ReplyCache(whole.with_name("new.sqlite"), "run") as cache:
        saved = {reply.request_key: reply.body for reply in cache.iterate()}
        assert len(saved) == found.num_replies
        assert sum(bodies.get(key) == body for key, body in saved.items()) >= at_least
        assert cache.answered(bodies) == {key for key in bodies if key in saved}


def test_a_sound_file_is_copied_with_all_it_holds(whole: Path) -> None:
    new = whole.with_name("new.sqlite")
    found = recover(whole, new)
    assert (found.num_replies, found.was_sound) == (NUM_REPLIES, True)
    with ReplyCache(new, "run") as cache:
        assert cache.spent_usd(None) == NUM_REPLIES * 0.5 + 2.0
    assert sorted(path.name for path in whole.parent.iterdir() if path.name.startswith(".")) == []


def test_money_of_requests_without_an_end_is_saved_too(whole: Path) -> None:
    data = bytearray(whole.read_bytes())
    place = data.index(b"\x78\x9c")
    data[place + 20 : place + 40] = bytes(20)
    whole.write_bytes(data)
    recover(whole, whole.with_name("new.sqlite"))
    with ReplyCache(whole.with_name("new.sqlite"), "run") as cache:
        assert cache.spent_usd(None) == (NUM_REPLIES - 1) * 0.5 + 2.0


def test_replies_that_are_only_in_the_log_are_saved(tmp_path: Path) -> None:
    """The process is killed, so the log is never moved into the file; then the file's first page is lost."""
    path = tmp_path / "old.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_HANG, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd(), text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "stored\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    data = bytearray(path.read_bytes())
    data[:200] = bytes(200)
    path.write_bytes(data)
    assert recover(path, tmp_path / "new.sqlite").num_replies == 20


_WRITE_AND_HANG = """
import sys, time
from pathlib import Path
from sgv_data.api.cache import ReplyCache, StoredReply
from sgv_data.api.reply import parse_reply
from tests.servers.fault_server import answer
cache = ReplyCache(Path(sys.argv[1]))
for number in range(20):
    body = answer(f"caption {number}")
    cache.put(StoredReply(f"{number:064x}", body, "m", None, 1, 0.1, "2026", 0.5), parse_reply(body)).result(5)
print("stored", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000, bytes(20_000)])
def test_nothing_is_made_of_a_file_without_replies(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "old").write_bytes(content)
    (tmp_path / "old-wal").write_bytes(content)
    with pytest.raises(SgvError, match="no reply"):
        recover(tmp_path / "old", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "old-wal"]


def test_an_existing_file_is_never_written_over(whole: Path) -> None:
    (whole.parent / "new").write_text("mine")
    with pytest.raises(RunFolderError, match="exists"):
        recover(whole, whole.parent / "new")
    assert (whole.parent / "new").read_text() == "mine"
