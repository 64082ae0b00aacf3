from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgv_data.errors import SgvError
from sgv_data.index.workers import CHUNK, FEW, in_chunks


def process_and_double(items: list[int]) -> list[tuple[int, int]]:
    return [(os.getpid(), 2 * item) for item in items]


def die(items: list[int]) -> list[int]:
    if os.environ.get("PARENT_OF_THE_TEST") != str(os.getpid()):
        os.kill(os.getpid(), signal.SIGKILL)
    return items


def fail(items: list[int]) -> list[int]:
    raise KeyError(items[0])


def test_few_items_need_no_processes() -> None:
    done = [each for some in in_chunks(process_and_double, range(FEW), 4) for each in some]
    assert done == [(os.getpid(), 2 * item) for item in range(FEW)]


def test_many_items_are_all_done_in_other_processes() -> None:
    num_items = FEW + 5 * CHUNK + 3
    done = [each for some in in_chunks(process_and_double, range(num_items), 2) for each in some]
    assert sorted(value for _, value in done) == [2 * item for item in range(num_items)]
    assert os.getpid() not in {process for process, _ in done}


def test_items_are_taken_only_as_needed() -> None:
    taken = []

    def items() -> object:
        for item in range(10_000):
            taken.append(item)
            yield item

    results = in_chunks(process_and_double, items(), 2)  # type: ignore[arg-type]
    next(results)
    assert len(taken) < 1_000
    results.close()  # type: ignore[attr-defined]


def test_a_killed_worker_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARENT_OF_THE_TEST", str(os.getpid()))
    with pytest.raises(SgvError, match="worker process was killed"):
        list(in_chunks(die, range(1000), 2))


def test_a_mistake_in_the_work_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        list(in_chunks(fail, range(1000), 2))


SCRIPT = """
import os, sys, time
from sgv_data.index.workers import in_chunks

def slow(items):
    os.write(1, b"%d\\n" % os.getpid())  # one write, so that lines of two processes do not mix
    time.sleep(0.05)
    return items

if __name__ == "__main__":
    try:
        for _ in in_chunks(slow, range(100_000), 2):
            pass
    except KeyboardInterrupt:
        sys.exit(130)
"""


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_a_run_that_is_stopped(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(tmp_path / "script.py")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(command, **pipes, env=environment, start_new_session=True)  # type: ignore[call-overload]
    workers = {int(run.stdout.readline()) for _ in range(6)}
    if how is signal.SIGINT:
        os.killpg(run.pid, how)  # as a terminal does: to all processes at once
    else:
        run.send_signal(how)
    _, errors = run.communicate(timeout=30)
    deadline_s = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not any(map(is_running, workers))
    if how is signal.SIGINT:
        assert (run.returncode, errors) == (130, "")
