"""Work in processes: in order, and over when the parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgv_data.processes import in_order, in_own_process

DEADLINE_S = 20.0


def square(number: int) -> int:
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def own_pid(_: int) -> int:
    return os.getpid()


def hang(folder: str) -> None:
    """Tells its process id, then never ends."""
    (Path(folder) / str(os.getpid())).touch()
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(num_processes: int) -> None:
    assert list(in_order(square, range(20), num_processes)) == [number * number for number in range(20)]


def test_an_error_of_a_task_arrives_after_the_results_before_it() -> None:
    results = in_order(fail_at_three, range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_tasks_are_not_drawn_far_ahead_of_their_results() -> None:
    drawn: list[int] = []
    results = in_order(square, (drawn.append(number) or number for number in range(1_000)), 2)
    next(results)
    assert len(drawn) <= 4
    results.close()  # type: ignore[attr-defined]


def test_a_task_can_have_a_process_of_its_own() -> None:
    assert in_own_process(own_pid, 0) != os.getpid()


def test_workers_of_a_killed_parent_end(tmp_path: Path) -> None:
    code = f"from sgv_data.processes import in_order; from tests.unit.test_processes import hang\n" \
           f"if __name__ == '__main__': list(in_order(hang, ['{tmp_path}'] * 2, 2))"  # fmt: skip
    script = tmp_path.parent / "parent.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    deadline = time.monotonic() + DEADLINE_S
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(map(_is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(workers) == 2
    assert not any(map(_is_running, workers))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def much(num_bytes: int) -> bytes:
    return bytes(num_bytes)


_STOPPED_WHILE_SENDING = """
import sys
from sgv_data.processes import Workers
from tests.unit.test_processes import much

if __name__ == "__main__":
    try:
        with Workers(2) as workers:
            workers.submit(much, 10).result()
            results = [workers.submit(much, 40_000_000) for _ in range(6)]
            results[0].result()
            raise KeyError
    except KeyError:
        print("ended")
"""


def test_a_stop_while_workers_send_large_results_does_not_wait_for_ever(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_STOPPED_WHILE_SENDING)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment
        )
        assert done.stdout == "ended\n", done.stderr
