"""On a Ray cluster the same units come out, also when a worker is killed on the way. Slow: run by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.integration.test_expand_work import copied, table, trained, undisturbed  # noqa: F401

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow


def engine_pids() -> list[int]:
    """The processes of actors at work."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::EngineActor" in line]


@pytest.fixture
def _cluster(monkeypatch: pytest.MonkeyPatch) -> object:
    """Several worker processes: room for two engines, each with a process that decodes."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize("kill", [False, True])
def test_a_cluster_gives_what_one_process_gives(
    trained, undisturbed, tmp_path: Path, kill: bool  # type: ignore[no-untyped-def] # noqa: F811
) -> None:
    manifest, run = copied(trained, tmp_path, on="ray", unit_size=1)
    captioner = manifest.captioner.model_copy(update={"precision": "float32"})
    manifest = manifest.model_copy(update={"captioner": captioner})
    units = run.stage("expand") / "units"
    killed: list[int] = []

    def kill_one() -> None:
        while len(list(units.glob("*.parquet"))) < 3:
            time.sleep(0.01)
        killed.extend(engine_pids()[:1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one if kill else lambda: None)
    killer.start()
    report = run_expand(manifest, run)
    killer.join()

    assert table(run) == undisturbed
    assert report.notes["engines"] == 2
    assert bool(report.notes["calls_lost"]) == kill


def run_expand(manifest, run):  # type: ignore[no-untyped-def]
    """The stage alone: precision was changed behind the trained captioner's back, which changes no weight."""
    from sgv_data.expand.run import run as expand
    from sgv_data.progress import Silent
    from sgv_data.stage import StageContext

    run.stage("expand").mkdir(exist_ok=True)
    return expand(manifest, StageContext(run, "expand", (), Silent()))
