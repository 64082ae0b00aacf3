from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from sgv_data.collect import progress_log
from sgv_data.collect.progress_log import ProgressLog, read_latest
from sgv_data.collect.snapshot import EndpointState, Snapshot
from sgv_data.records import Lane

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def snapshot(at_s: float = 0.0, num_done: int = 0) -> Snapshot:
    endpoint = EndpointState(
        name="only", in_flight=3, may_be_in_flight=9, requests_per_minute=500.0, tokens_per_minute=None, binding="work"
    )
    return Snapshot(
        at_utc=(START + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%SZ"), lane=Lane.LIVE, num_total=100,
        num_done=num_done, num_done_now=num_done, in_flight=3, backing_off=1, per_s=1.5, tokens_per_minute=900.0,
        binding="work", eta_s=None, spent_usd=None, projected_usd=None, budget_usd=None, outcomes={"ok": num_done},
        failures={}, faults={"timed_out": 2}, endpoints=(endpoint,),
    )  # fmt: skip


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def drive(path: Path, seconds: int, every_s: float = 0.5) -> None:
    """A run that offers a snapshot twice a second."""
    clock = Clock()
    log = ProgressLog(path, clock)
    while clock.now_s < seconds:
        assert log.write(snapshot(clock.now_s, int(clock.now_s))) is None
        clock.now_s += every_s


def test_a_line_a_second_in_the_first_minute_then_one_every_five(tmp_path: Path) -> None:
    drive(tmp_path / "log", 60)
    assert len(lines(tmp_path / "log")) == 60
    drive(tmp_path / "longer", 360)
    assert len(lines(tmp_path / "longer")) == pytest.approx(60 + 300 / 5, abs=1)


def test_the_last_word_is_written_at_once(tmp_path: Path) -> None:
    log = ProgressLog(tmp_path / "log", Clock())
    log.write(snapshot(num_done=1))
    log.write(snapshot(num_done=2))
    log.write(snapshot(num_done=3), at_once=True)
    assert [line["num_done"] for line in lines(tmp_path / "log")] == [1, 3]


def test_what_is_written_reads_back_as_it_was(tmp_path: Path) -> None:
    ProgressLog(tmp_path / "log", Clock()).write(snapshot(num_done=7))
    assert read_latest(tmp_path / "log") == snapshot(num_done=7)


@pytest.mark.parametrize("torn", [b'{"at_utc":"2026', b'{"at_utc":"2026\n', b"\xff\x00", b"{}\n"])
def test_a_line_cut_off_by_a_crash_is_passed_over_and_harms_no_other(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log"
    ProgressLog(path, Clock()).write(snapshot(num_done=1))
    with path.open("ab") as file:
        file.write(torn)
    latest = read_latest(path)
    assert latest is not None
    assert latest.num_done == 1
    ProgressLog(path, Clock()).write(snapshot(num_done=2))
    latest = read_latest(path)
    assert latest is not None
    assert latest.num_done == 2


def test_no_log_or_an_empty_one_has_no_latest(tmp_path: Path) -> None:
    assert read_latest(tmp_path / "log") is None
    (tmp_path / "log").write_bytes(b"")
    assert read_latest(tmp_path / "log") is None


def test_a_long_run_stays_small_and_keeps_its_whole_course(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_log, "_MOST_BYTES", 60_000)
    monkeypatch.setattr(progress_log, "_THINNED_TO_BYTES", 40_000)
    monkeypatch.setattr(progress_log, "_NEWEST_KEPT", 10)
    path = tmp_path / "log"
    drive(path, 12_000, every_s=5.0)
    assert path.stat().st_size < 61_000
    at_s = [(datetime.fromisoformat(str(line["at_utc"])) - START).total_seconds() for line in lines(path)]
    assert at_s == sorted(at_s)
    assert at_s[0] == 0.0
    assert at_s[-1] == 12_000 - 5.0
    assert max(later - earlier for earlier, later in pairwise(at_s)) < 12_000 / 20


def test_a_log_that_cannot_be_written_is_said_once_and_the_work_goes_on(tmp_path: Path) -> None:
    log = ProgressLog(tmp_path / "no" / "folder" / "log", Clock())
    problem = log.write(snapshot())
    assert problem is not None
    assert "going on without it" in problem
    assert log.write(snapshot(), at_once=True) is None
