from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sgv_data.cli.run_status import RunStatus, State, drawn, read_status
from sgv_data.collect.snapshot import Snapshot
from sgv_data.manifest import Manifest
from sgv_data.records import StageRecord, StageReport
from sgv_data.run_folder import RECORD, STARTED, RunFolder, utc_now

MANIFEST = Manifest.model_validate({
    "name": "test", "images": [{"kind": "scenes", "name": "s", "count": 1, "prompt": "detailed"}],
    "teacher": {"model": "fake"},
})  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "test")


def record(run: RunFolder, stage: str, name: str, **more: Any) -> None:
    values = StageRecord(
        stage=stage, fingerprint="", identity={}, inputs={}, code_version="", libraries={},
        started_utc="2026-01-01T10:00:00Z", **more,
    )  # fmt: skip
    run.stage(stage).mkdir(parents=True, exist_ok=True)
    (run.stage(stage) / name).write_text(values.model_dump_json())


def collecting(run: RunFolder, at_utc: str) -> None:
    """Index done, collect begun and seen at `at_utc`."""
    report = StageReport(stage="index", num_in=12, num_out=12)
    record(run, "index", RECORD, finished_utc="2026-01-01T11:00:00Z", report=report)
    record(run, "collect", STARTED)
    seen = Snapshot(
        at_utc=at_utc, lane="live", num_total=12, num_done=5, num_done_now=5, in_flight=2, backing_off=0, per_s=1.0,
        tokens_per_minute=100.0, binding="tokens", eta_s=7.0, spent_usd=0.5, projected_usd=1.2, budget_usd=2.0,
        outcomes={"ok": 5}, failures={}, faults={}, endpoints=(),
    )  # type: ignore[arg-type]  # fmt: skip
    (run.stage("collect") / "progress.jsonl").write_text(seen.model_dump_json() + "\n")


def text(look: RunStatus, width: int = 80, height: int = 24, terminal: bool = False) -> str:
    on = Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None)
    on.print(drawn(look))
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def states(look: RunStatus) -> dict[str, State]:
    return {stage.name: stage.state for stage in look.stages}


def test_a_run_that_never_began_has_everything_to_do(run: RunFolder) -> None:
    look = read_status(MANIFEST, run)
    assert set(states(look).values()) == {State.TO_DO}
    assert (look.alive, look.collect) == (False, None)


def test_while_a_process_holds_the_lock_a_begun_stage_is_under_way(run: RunFolder) -> None:
    collecting(run, utc_now())
    with run.lock():
        look = read_status(MANIFEST, run)
    assert (look.alive, look.process) == (True, os.getpid())
    assert states(look)["index"] is State.DONE
    assert states(look)["collect"] is State.UNDER_WAY
    assert look.collect is not None
    assert (look.collect.num_done, look.collect.num_total) == (5, 12)
    assert 0 <= (look.collect_age_s or 0) < 60
    assert f"process {os.getpid()} is at work" in text(look)


def test_without_a_process_a_begun_stage_is_interrupted_although_its_number_is_in_use(run: RunFolder) -> None:
    with run.lock():
        pass
    assert (run.root / ".lock").read_text() == str(os.getpid())
    collecting(run, "2026-01-01T12:00:00Z")
    look = read_status(MANIFEST, run)
    assert (look.alive, look.process) == (False, None)
    assert states(look)["collect"] is State.INTERRUPTED
    assert "no process is at work; the same command goes on" in text(look)
    assert "5 of 12" in text(look)


def test_looking_does_not_hold_the_lock(run: RunFolder) -> None:
    with run.lock():
        pass
    read_status(MANIFEST, run)
    with run.lock():
        pass


def test_a_finished_collect_shows_its_numbers_and_no_panel(run: RunFolder) -> None:
    collecting(run, utc_now())
    report = StageReport(stage="collect", num_in=12, num_out=11, failed={"bad_image": 1})
    record(run, "collect", RECORD, finished_utc="2026-01-01T12:00:00Z", report=report)
    shown = " ".join(text(read_status(MANIFEST, run), width=120).split())
    assert "11 out, failed 1 (bad_image 1)" in shown
    assert "asking the teacher" not in shown


def test_stages_and_panel_fit_a_small_terminal(run: RunFolder) -> None:
    collecting(run, utc_now())
    lines = text(read_status(MANIFEST, run), terminal=True).splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert any("5 of 12" in line for line in lines)


def test_json_is_one_line_that_a_machine_reads(run: RunFolder) -> None:
    collecting(run, utc_now())
    manifest = run.root.parent / "m.yaml"
    manifest.write_text(
        "name: test\nimages: [{kind: scenes, name: s, count: 1, prompt: detailed}]\nteacher: {model: fake}\n"
    )
    command = [sys.executable, "-m", "sgv_data", "status", str(manifest), "--runs", str(run.root.parent), "--json"]
    with run.lock():
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    look = json.loads(line)
    assert (look["alive"], look["process"], look["collect"]["spent_usd"]) == (True, os.getpid(), 0.5)
    assert {stage["name"]: stage["state"] for stage in look["stages"]}["collect"] == "under way"
