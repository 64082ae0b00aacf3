"""`sgv collect --retry` as a user types it: against a scripted server, killed, repeated, and what comes after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sgv_data.errors import RunFolderError
from sgv_data.manifest import Manifest
from sgv_data.manifest_file import load_manifest
from sgv_data.pipeline import find_stage, run_stage
from sgv_data.progress import Silent
from sgv_data.records import CaptionRow, Outcome
from sgv_data.run_folder import AGAIN, RunFolder
from sgv_data.tables import read_table
from tests.servers.collect_run import draw
from tests.servers.fault_server import OK, Act, FaultServer, answer, caption_of

REFUSAL = Act(200, answer("I'm sorry, but I can't help with that."))
CUT = Act(200, answer("It shows", "length"))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def write_manifest(folder: Path, server: FaultServer, num_pictures: int, **teacher: Any) -> Path:
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "prompts").mkdir(exist_ok=True)
    for name in ("asked", "neutral"):
        (folder / "prompts" / f"{name}.md").write_text(f"---\nid: {name}\nversion: 1\nfor: tests\n---\nAsk {name}.\n")
    for number in range(num_pictures):
        draw(number).save(folder / "pictures" / f"{number:05d}.png")
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump({
        "name": "t", "prompts": str(folder / "prompts"), "pictures": {"duplicate_bits": -1},
        "images": [{"kind": "folder", "name": "n", "path": str(folder / "pictures"), "prompt": "asked"}],
        "teacher": {
            "model": "fake", "base_url": server.base_url, "timeout_s": 5.0, "price": {"input_usd": 0, "output_usd": 0},
            "retry": {"attempts": 3, "max_wait_s": 0.01}, "limits": {"in_flight": 4},
            "alarms": {"refused_share": None, "truncated_share": None, "same_text_share": None}, **teacher,
        },
    }))  # fmt: skip
    return path


def load(path: Path) -> tuple[Manifest, RunFolder]:
    return load_manifest(path, ()), RunFolder(path.parent / "runs" / "t")


def run(path: Path, stage: str, *again: str) -> bool:
    """Runs one stage; says whether it was skipped."""
    manifest, folder = load(path)
    with folder.lock():
        return run_stage(find_stage(manifest, stage), manifest, folder, Silent(), again=again).skipped


def rows_of(path: Path) -> dict[str, CaptionRow]:
    folder = load(path)[1].stage("collect")
    return {row.image_id: row for row in read_table(folder, "captions", CaptionRow)}


def test_a_round_gets_the_captions_and_what_follows_is_stale(tmp_path: Path, server: FaultServer) -> None:
    path = write_manifest(tmp_path, server, 12)
    server.script = lambda sha256, asked: REFUSAL if int(sha256, 16) % 3 == 0 and asked == 0 else OK
    for stage in ("index", "collect", "filter-teacher"):
        run(path, stage)
    refused = {name for name, row in rows_of(path).items() if row.outcome is Outcome.REFUSED}
    assert refused
    assert not run(path, "collect", "refused")
    assert sum(server.asked.values()) == 12 + len(refused)
    after = rows_of(path)
    assert {row.outcome for row in after.values()} == {Outcome.OK}
    assert {name for name, row in after.items() if row.asked_again_for is Outcome.REFUSED} == refused
    assert all(row.text == caption_of(row.sent_sha256) for row in after.values())
    with pytest.raises(RunFolderError, match="its input collect was made anew"):
        run(path, "filter-teacher")
    assert run(path, "collect")


def test_a_rung_changes_the_request(tmp_path: Path, server: FaultServer) -> None:
    rung = {"prompt": "neutral", "model": "other", "max_completion_tokens": 77}
    path = write_manifest(tmp_path, server, 1, retry={"attempts": 3, "max_wait_s": 0.01, "truncated": rung})
    server.script = lambda _, asked: CUT if asked == 0 else OK
    run(path, "index")
    run(path, "collect")
    run(path, "collect", "truncated")
    ((_, second),) = server.bodies.values()
    asked = json.loads(second) if isinstance(second, str | bytes) else second
    assert (asked["model"], asked["max_completion_tokens"]) == ("other", 77)
    assert asked["messages"][0]["content"][0]["text"] == "Ask neutral."
    (row,) = rows_of(path).values()
    assert (row.prompt_id, row.model, row.asked_again_for) == ("neutral", "other", Outcome.TRUNCATED)


def test_a_round_that_brings_nothing_leaves_what_follows_alone(tmp_path: Path, server: FaultServer) -> None:
    path = write_manifest(tmp_path, server, 3)
    server.script = lambda _, __: REFUSAL
    for stage in ("index", "collect", "filter-teacher"):
        run(path, stage)
    run(path, "collect", "refused")
    assert sum(server.asked.values()) == 6
    assert run(path, "filter-teacher")


def test_adding_a_rung_does_not_refuse_a_finished_folder(tmp_path: Path, server: FaultServer) -> None:
    path = write_manifest(tmp_path, server, 2)
    for stage in ("index", "collect", "filter-teacher"):
        run(path, stage)
    write_manifest(tmp_path, server, 2, retry={"attempts": 2, "refused": {"prompt": "neutral"}})
    assert run(path, "collect")
    assert run(path, "filter-teacher")


def test_killed_in_the_middle_a_round_goes_on_and_pays_no_row_twice(tmp_path: Path, server: FaultServer) -> None:
    num_pictures = 60
    path = write_manifest(tmp_path, server, num_pictures)
    server.script = lambda _, asked: REFUSAL if asked == 0 else Act(200, OK.body, sleep_s=0.02)
    run(path, "index")
    run(path, "collect")
    command = [sys.executable, "-m", "sgv_data", "collect", str(path), "--runs", str(tmp_path / "runs"), "-q",
               "--retry", "refused"]  # fmt: skip
    marker = load(path)[1].stage("collect") / AGAIN
    kills = 0
    for _ in range(2):
        before = sum(server.answered.values())
        child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
        deadline = time.monotonic() + 20
        while sum(server.answered.values()) < before + 10 and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.005)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            kills += 1
        child.wait()
    assert kills
    assert marker.is_file()
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False).returncode == 0
    assert not marker.exists()
    assert {row.outcome for row in rows_of(path).values()} == {Outcome.OK}
    assert sum(server.asked.values()) <= 2 * num_pictures + kills * 4
