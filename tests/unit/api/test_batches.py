"""Files and Batches: patience with faults, and nothing made twice."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from sgv_data.api.batch_words import RemoteBatch, batch_limits, wire_line
from sgv_data.api.batches import BatchClient
from sgv_data.api.client import ChatClient, Endpoint
from sgv_data.errors import ProviderError
from sgv_data.manifest import Retry
from sgv_data.run_folder import utc_now
from tests.servers.batch_server import BatchServer, Fate, Trouble
from tests.servers.fault_server import Act, error


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s


def use(server: BatchServer, work: Callable[[BatchClient], Awaitable[Any]], time: Time | None = None) -> Any:
    """Does something with a client whose waiting takes no time."""
    told = time or Time()

    async def run() -> Any:
        async with ChatClient(Endpoint(server.base_url, "sk-secret-key-1"), 5.0) as chat:
            return await work(BatchClient(
                chat, server.base_url, 5.0, Retry(attempts=3, max_wait_s=60), patience_s=100.0, sleep=told.sleep,
                clock=told.clock,
            ))  # fmt: skip

    return asyncio.run(run())


async def make(client: BatchClient, intent: str = "intent") -> RemoteBatch:
    line = wire_line("key", b'{"messages":[]}')
    file_id = await client.upload(io.BytesIO(line), f"sgv-{intent}.jsonl", len(line), utc_now())
    return await client.create(file_id, intent, "run", utc_now())


def test_a_line_is_what_the_provider_expects() -> None:
    line = wire_line('odd "key"', b'{"model":"m"}')
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "custom_id": 'odd "key"', "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"},
    }  # fmt: skip


def test_limits_are_dated_and_a_request_key_fits_as_custom_id() -> None:
    limits = batch_limits()
    assert (limits.max_requests_per_file, limits.max_bytes_per_file, limits.max_batches_per_hour) == (
        50_000, 200_000_000, 2_000,
    )  # fmt: skip
    assert limits.dated.startswith("20")
    assert limits.max_custom_id_chars >= 64


def test_a_batch_is_found_by_its_intent_pages_away(server: BatchServer) -> None:
    async def work(client: BatchClient) -> tuple[RemoteBatch | None, RemoteBatch | None]:
        made = [await make(client, f"intent {number}") for number in range(8)]
        found = await client.find("intent 0", utc_now())
        assert found is not None
        assert found.id == made[0].id
        return found, await client.find("nobody's", utc_now())

    found, missing = use(server, work)
    assert (found.intent, missing) == ("intent 0", None)


def test_a_file_that_arrived_in_part_is_not_taken_for_the_whole(server: BatchServer) -> None:
    async def work(client: BatchClient) -> list[bool]:
        await client.upload(io.BytesIO(b"12345"), "name", 5, utc_now())
        return [await client.find_file("name", size, utc_now()) is not None for size in (5, 6)]

    assert use(server, work) == [True, False]


class Pieces(io.BytesIO):
    """Remembers how much was read at once."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.read_at_once: list[int] = []

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_at_once.append(len(data))
        return data


def test_a_file_is_never_read_whole(server: BatchServer) -> None:
    file = Pieces(b"x" * 5_000_000)
    use(server, lambda client: client.upload(file, "name", 5_000_000, utc_now()))
    assert server.uploads == [file.getvalue()]
    assert max(file.read_at_once) <= 1 << 20


@pytest.mark.parametrize("call", ["upload", "create"])
def test_what_worked_although_its_answer_was_lost_is_not_done_again(server: BatchServer, call: str) -> None:
    server.trouble = lambda name, number: Trouble(after=True, cut=0) if (name, number) == (call, 1) else None
    use(server, make)
    assert (len(server.uploads), len(server.batches)) == (1, 1)


def test_a_download_that_breaks_off_starts_anew(server: BatchServer) -> None:
    server.trouble = lambda name, number: Trouble(after=True, cut=30) if (name, number) == ("download", 1) else None
    target = io.BytesIO()

    async def work(client: BatchClient) -> bool:
        file_id = await client.upload(io.BytesIO(b"x" * 100), "name", 100, utc_now())
        return await client.download(file_id, target)

    assert use(server, work)
    assert target.getvalue() == b"x" * 100


def test_a_server_that_is_down_after_it_once_worked_is_waited_for(server: BatchServer) -> None:
    server.trouble = lambda name, number: Trouble() if name == "look" and number <= 6 else None
    server.fate = lambda _: Fate(looks=9)
    time = Time()

    async def work(client: BatchClient) -> RemoteBatch:
        return await client.look((await make(client)).id)

    assert use(server, work, time).status == "in_progress"
    assert len(time.slept_s) == 6
    assert time.slept_s[5] > 4 * time.slept_s[0]


def test_patience_has_an_end(server: BatchServer) -> None:
    server.trouble = lambda name, _: Trouble() if name == "look" else None
    time = Time()

    async def work(client: BatchClient) -> RemoteBatch:
        return await client.look((await make(client)).id)

    with pytest.raises(ProviderError, match="run the same command again"):
        use(server, work, time)
    assert 100 <= time.now_s < 200


def test_a_server_that_never_answered_is_given_up_soon(server: BatchServer) -> None:
    server.trouble = lambda *_: Trouble()
    with pytest.raises(ProviderError):
        use(server, make)
    assert server.calls["upload"] <= 3


def test_a_pause_the_provider_asks_for_is_kept(server: BatchServer) -> None:
    busy = Trouble(error(429, "rate_limit_exceeded", retry_after="33"))
    server.trouble = lambda name, number: busy if (name, number) == ("create", 1) else None
    time = Time()
    use(server, make, time)
    assert time.slept_s == [33.0]


@pytest.mark.parametrize("fault", [error(401, "invalid_api_key"), error(429, "insufficient_quota"), error(400, "odd")])
def test_what_no_further_try_will_help_ends_at_once_without_the_key(server: BatchServer, fault: Act) -> None:
    body = (fault.body or b"").replace(b"scripted", b"sk-secret-key-1")
    server.trouble = lambda name, _: Trouble(Act(fault.status, body)) if name == "create" else None
    with pytest.raises(ProviderError, match="cannot create a batch") as caught:
        use(server, make)
    assert server.calls["create"] == 1
    assert "sk-secret-key-1" not in str(caught.value)


def test_deleting_a_file_never_stops_a_run(server: BatchServer) -> None:
    server.trouble = lambda name, _: Trouble() if name == "delete" else None
    use(server, lambda client: client.forget_file("file-1"))
    assert server.calls["delete"] == 3
