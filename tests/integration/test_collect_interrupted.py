"""`collect` stopped from outside, by a kill or politely, and told other limits while it runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sgv_data.collect.control import Tune, leave_tune
from tests.servers.collect_run import captions, collect, make_index, make_manifest
from tests.servers.fault_server import OK, Act, FaultServer, always, caption_of, error


def start(folder: Path, server: FaultServer, **teacher: object) -> subprocess.Popen[bytes]:
    arguments = json.dumps({"folder": str(folder), "base_url": server.base_url, "teacher": teacher})
    return subprocess.Popen(
        [sys.executable, "-m", "tests.servers.collect_run", arguments], start_new_session=True, stderr=subprocess.PIPE
    )


def wait_until_asked(server: FaultServer, number: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while len(server.times) < number:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.002)


def no_process_left(session: int) -> bool:
    """Whether the process group of a child is empty."""
    # A process that was just being started ends once it has loaded what it needs.
    for _ in range(750):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_killed_anywhere_it_goes_on_and_pays_only_for_what_was_in_the_air(tmp_path: Path, server: FaultServer) -> None:
    server.latency_s = 0.004
    rows = make_index(tmp_path, 60)
    rng, num_kills, in_flight = random.Random(1), 2, 4
    for kill in range(num_kills):
        child = start(tmp_path, server)
        wait_until_asked(server, 25 * kill + rng.randrange(1, 20), child)
        child.send_signal(signal.SIGKILL)
        child.wait()
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    found = captions(tmp_path)
    assert {row.image_id: row.text for row in found.values()} == {row.image_id: caption_of(row.sha256) for row in rows}
    assert sum(server.answered.values()) <= len(rows) + num_kills * in_flight


def test_an_interrupted_run_gives_the_rows_of_an_undisturbed_one(tmp_path: Path, server: FaultServer) -> None:
    rows = make_index(tmp_path / "a", 70)
    make_index(tmp_path / "b", 70)
    bad = rows[7].sha256
    server.script = lambda sha256, _: error(400, "image_too_large") if sha256 == bad else Act(sleep_s=0.005)
    child = start(tmp_path / "a", server)
    wait_until_asked(server, 25, child)
    child.kill()
    child.wait()
    assert no_process_left(child.pid)
    plain = {}
    for name in ("a", "b"):
        collect(make_manifest(tmp_path / name, server.base_url), tmp_path / name)
        plain[name] = [
            replace(row, created_utc="", latency_s=0.0, request_id=None, attempts=1)
            for row in captions(tmp_path / name).values()
        ]
    assert plain["a"] == plain["b"]


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_it_ends_within_two_seconds_and_leaves_no_process(
    tmp_path: Path, server: FaultServer, word: signal.Signals
) -> None:
    server.script = lambda _, __: Act(sleep_s=30) if len(server.times) > 20 else OK
    make_index(tmp_path, 80)
    child = start(tmp_path, server)
    wait_until_asked(server, 23, child)
    began = time.monotonic()
    os.killpg(child.pid, word)
    child.wait(10)
    assert time.monotonic() - began < 2
    assert no_process_left(child.pid)
    server.script = always(OK)
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    assert set(server.answered.values()) == {1}


def test_what_is_about_to_be_answered_when_told_to_end_is_kept(tmp_path: Path, server: FaultServer) -> None:
    server.script = lambda _, __: Act(sleep_s=0.2) if len(server.times) > 10 else OK
    make_index(tmp_path, 80)
    child = start(tmp_path, server)
    wait_until_asked(server, 14, child)
    child.send_signal(signal.SIGINT)
    child.wait(10)
    server.script = always(OK)
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    assert set(server.answered.values()) == {1}


def test_limits_given_while_it_runs_hold_from_then_on(tmp_path: Path, server: FaultServer) -> None:
    server.latency_s = 0.05
    make_index(tmp_path, 90)
    child = start(tmp_path, server, limits={"in_flight": 1})
    wait_until_asked(server, 3, child)
    assert server.most_in_flight == 1
    leave_tune(tmp_path / "run" / "collect", Tune(in_flight=6))
    assert child.wait(20) == 0, child.stderr.read() if child.stderr else ""
    assert server.most_in_flight > 1
