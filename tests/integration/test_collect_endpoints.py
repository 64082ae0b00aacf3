"""`collect` with several keys or servers: work flows to whichever has room, and around those that are out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgv_data.errors import ProviderError
from tests.servers.collect_run import captions, collect, make_index, make_manifest
from tests.servers.fault_server import OK, Act, FaultServer, always, caption_of, error


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        monkeypatch.setenv(f"KEY_{name.upper()}", f"key-of-{name}")


@pytest.fixture
def other() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def endpoint(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "api_key_env": f"KEY_{name.upper()}", "limits": {"in_flight": 2}, **more}


def test_all_keys_work_and_every_picture_is_asked_about_once(tmp_path: Path, server: FaultServer) -> None:
    server.latency_s = 0.01
    rows = make_index(tmp_path, 60)
    endpoints = [endpoint("a"), endpoint("b"), endpoint("c")]
    collect(make_manifest(tmp_path, server.base_url, endpoints=endpoints), tmp_path)
    assert set(server.keys) == {"key-of-a", "key-of-b", "key-of-c"}
    assert min(server.keys.values()) >= 5
    assert set(server.answered.values()) == {1}
    assert {row.image_id: row.text for row in captions(tmp_path).values()} == {
        row.image_id: caption_of(row.sha256) for row in rows
    }


OUT = {
    "wrong key": error(401, "invalid_api_key"),
    "no credit": error(429, "insufficient_quota"),
    "unknown model": error(404, "model_not_found"),
    "down": Act(500, b"<html></html>"),
    "broken": Act(200, b"{}", cut=1),
}


@pytest.mark.parametrize("name", OUT)
def test_a_key_that_is_out_is_left_out_and_costs_no_picture(tmp_path: Path, server: FaultServer, name: str) -> None:
    server.latency_s = 0.005
    server.script_by_key["key-of-a"] = always(OUT[name])
    make_index(tmp_path, 60)
    endpoints = [endpoint("a"), endpoint("b")]
    report = collect(make_manifest(tmp_path, server.base_url, endpoints=endpoints), tmp_path)
    assert report.num_out == 60
    assert server.keys["key-of-a"] <= 20


def test_an_address_where_nobody_is_costs_no_picture(tmp_path: Path, server: FaultServer) -> None:
    make_index(tmp_path, 30)
    endpoints = [endpoint("a", base_url="http://127.0.0.1:9/v1"), endpoint("b")]
    assert collect(make_manifest(tmp_path, server.base_url, endpoints=endpoints), tmp_path).num_out == 30


def test_each_endpoint_keeps_to_limits_of_its_own(tmp_path: Path, server: FaultServer, other: FaultServer) -> None:
    server.latency_s = other.latency_s = 0.03
    make_index(tmp_path, 90)
    endpoints = [
        endpoint("a", limits={"in_flight": 1}), endpoint("b", base_url=other.base_url, limits={"in_flight": 4})
    ]  # fmt: skip
    collect(make_manifest(tmp_path, server.base_url, endpoints=endpoints), tmp_path)
    assert server.most_in_flight == 1
    assert 1 < other.most_in_flight <= 4
    assert len(other.times) > len(server.times)


def test_one_that_asks_to_wait_leaves_its_work_to_the_other(tmp_path: Path, server: FaultServer) -> None:
    server.script_by_key["key-of-a"] = always(error(429, "rate_limit_exceeded", "requests", Retry_After="300"))
    make_index(tmp_path, 30)
    endpoints = [endpoint("a"), endpoint("b")]
    assert collect(make_manifest(tmp_path, server.base_url, endpoints=endpoints), tmp_path).num_out == 30
    assert server.keys["key-of-a"] <= 2


def test_when_all_are_out_the_run_stops_and_nothing_is_lost(tmp_path: Path, server: FaultServer) -> None:
    bad = lambda _, __: error(401, "invalid_api_key") if len(server.times) > 20 else OK  # noqa: E731
    server.script_by_key = {"key-of-a": bad, "key-of-b": bad}
    make_index(tmp_path, 60)
    manifest = make_manifest(tmp_path, server.base_url, endpoints=[endpoint("a"), endpoint("b")])
    with pytest.raises(ProviderError, match="refuses the key"):
        collect(manifest, tmp_path)
    server.script_by_key.clear()
    collect(manifest, tmp_path)
    assert set(server.answered.values()) == {1}
