"""What is seen of `collect` while it works against a real server: the log, the panel, the alarms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgv_data.collect.progress_log import read_latest
from sgv_data.errors import AlarmRaised
from tests.servers.collect_run import PRICE, captions, collect, make_index, make_manifest
from tests.servers.fault_server import OK, Act, FaultServer, answer, error

REFUSAL = Act(body=answer("I'm sorry, but I can't help with that. \x1b[31mKey: sk-abcdefghijklmn"))
IN_FLIGHT = 4


def manifest(folder: Path, server: FaultServer, **teacher: Any) -> Any:
    return make_manifest(folder, server.base_url, price=PRICE, limits={"in_flight": IN_FLIGHT}, **teacher)


def log_of(folder: Path) -> Path:
    return folder / "run" / "collect" / "progress.jsonl"


def test_the_last_line_of_the_log_tells_how_it_ended(tmp_path: Path) -> None:
    def script(_: str, asked: int) -> Act:
        return error(500, "\x1b[31mboom\u202e") if asked == 0 else OK

    make_index(tmp_path, 12)
    with FaultServer(script) as server:
        collect(manifest(tmp_path, server), tmp_path)
    latest = read_latest(log_of(tmp_path))
    assert latest is not None
    assert (latest.num_done, latest.num_total, latest.in_flight) == (12, 12, 0)
    assert latest.outcomes == {"ok": 12}
    assert latest.faults == {"boom": 12}
    assert latest.spent_usd == pytest.approx(12 * (100 * 1.0 + 20 * 2.0) / 1e6)
    assert latest.eta_s == 0.0


def test_a_spike_of_refusals_stops_spending_with_everything_stored(tmp_path: Path) -> None:
    make_index(tmp_path, 60)
    with FaultServer(lambda *_: REFUSAL) as server:
        guarded = manifest(tmp_path, server, alarms={"over": 20})
        with pytest.raises(AlarmRaised, match=r"20 of the last 20 answers are refusals.*“I'm sorry, but") as raised:
            collect(guarded, tmp_path)
        first = server.answered.total()
        assert 20 <= first <= 20 + IN_FLIGHT
        assert [part for part in ("\x1b", "sk-abc") if part in str(raised.value)] == []
        server.script = lambda *_: OK
        collect(guarded, tmp_path)
    assert set(server.answered.values()) == {1}
    outcomes = [row.outcome for row in captions(tmp_path).values()]
    assert outcomes.count("refused") == first
    assert outcomes.count("ok") == 60 - first


def test_a_stopped_run_goes_on_when_the_alarm_is_switched_off(tmp_path: Path) -> None:
    make_index(tmp_path, 40)
    with FaultServer(lambda *_: REFUSAL) as server:
        with pytest.raises(AlarmRaised):
            collect(manifest(tmp_path, server, alarms={"over": 10}), tmp_path)
        collect(manifest(tmp_path, server, alarms={"over": 10, "refused_share": None}), tmp_path)
    assert server.answered.total() == 40


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (Act(body=answer("The same words.")), "say the same words"),
        (Act(body=answer("It shows", "length")), "are cut off at the token limit"),
        (error(400, "invalid_image_format"), "failed with bad_image"),
    ],
)
def test_every_other_spike_stops_spending_too(tmp_path: Path, act: Act, says: str) -> None:
    make_index(tmp_path, 60)
    with FaultServer(lambda *_: act) as server, pytest.raises(AlarmRaised, match=says):
        collect(manifest(tmp_path, server, alarms={"over": 10}), tmp_path)
    assert server.asked.total() <= 10 + IN_FLIGHT


def test_a_log_of_two_commands_holds_both(tmp_path: Path) -> None:
    make_index(tmp_path, 40)
    with FaultServer(lambda *_: REFUSAL) as server:
        with pytest.raises(AlarmRaised):
            collect(manifest(tmp_path, server, alarms={"over": 10}), tmp_path)
        num_before = len(log_of(tmp_path).read_text().splitlines())
        collect(manifest(tmp_path, server, alarms={"over": 10, "refused_share": None}), tmp_path)
    lines = [json.loads(line) for line in log_of(tmp_path).read_text().splitlines()]
    assert len(lines) > num_before > 0
    assert lines[-1]["num_done"] == 40
    assert lines[-1]["num_done_now"] < 40
