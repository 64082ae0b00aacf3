from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgv_data.collect.progress_log import read_latest
from sgv_data.collect.snapshot import EndpointState, Snapshot
from sgv_data.collect.watch import Watch
from sgv_data.errors import AlarmRaised
from sgv_data.manifest import Manifest
from sgv_data.progress import Panel, Silent
from sgv_data.records import FailureClass, Outcome


class Clock:
    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


class Purse:
    spent_usd = 0.0


class Shown(Silent):
    def __init__(self) -> None:
        self.panels: list[Panel] = []
        self.lines: list[str] = []

    def show(self, panel: Panel) -> None:
        self.panels.append(panel)

    def say(self, line: str) -> None:
        self.lines.append(line)


class Scene:
    """A watch with everything around it in a test's hands."""

    def __init__(self, folder: Path, num_total: int = 1000, before: int = 0, **teacher: Any) -> None:
        self.clock, self.purse, self.shown = Clock(), Purse(), Shown()
        self.log = folder / "progress.jsonl"
        self.manifest = Manifest.model_validate({
            "name": "test", "images": [{"kind": "scenes", "name": "s", "count": 1, "prompt": "detailed"}],
            "teacher": {"model": "fake", "price": {"input_usd": 1, "output_usd": 2}, **teacher},
        })  # fmt: skip
        self._sizes = num_total, before
        self.watch = self.restart()

    def restart(self) -> Watch:
        num_total, before = self._sizes
        return Watch(self.manifest, num_total, before, self.purse, self.shown, self.log, self.clock)

    def answers(self, count: int, outcome: Outcome = Outcome.OK, cost_usd: float = 0.0, over_s: float = 0.0) -> None:
        for number in range(count):
            self.clock.now_s += over_s / count
            self.purse.spent_usd += cost_usd
            failure = FailureClass.SERVER_ERROR if outcome is Outcome.FAILED else None
            self.watch.ended(outcome, failure, f"{outcome} {self.clock.now_s} {number}", 100)

    def tick(self, *endpoints: EndpointState, **more: Any) -> Snapshot:
        return self.watch.tick(endpoints, sum(each.in_flight for each in endpoints), 0, **more)


def endpoint(name: str, binding: str, out: bool = False) -> EndpointState:
    return EndpointState(
        name=name, in_flight=2, may_be_in_flight=8, requests_per_minute=None, tokens_per_minute=None, binding=binding,
        out=out,
    )  # fmt: skip


def test_counts_are_by_outcome_and_class_and_include_what_was_done_before(tmp_path: Path) -> None:
    scene = Scene(tmp_path, num_total=100, before=40)
    scene.answers(5)
    scene.answers(2, Outcome.FAILED)
    scene.watch.shared(3)
    seen = scene.tick()
    assert (seen.num_done, seen.num_done_now, seen.num_total) == (50, 7, 100)
    assert (seen.outcomes, seen.failures) == ({"failed": 2, "ok": 5}, {"server_error": 2})


def test_money_is_projected_from_what_a_picture_cost_failures_included(tmp_path: Path) -> None:
    scene = Scene(tmp_path, num_total=1000, before=500, budget_usd=9.0)
    scene.purse.spent_usd = 7.0
    scene.watch = scene.restart()
    scene.answers(30, cost_usd=0.01)
    scene.answers(10, Outcome.FAILED)
    seen = scene.tick()
    assert seen.spent_usd == pytest.approx(7.3)
    assert seen.projected_usd == pytest.approx(7.3 + 460 * 0.3 / 40)
    assert seen.budget_usd == 9.0


def test_nothing_is_projected_from_a_handful(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.answers(5, cost_usd=0.01)
    assert scene.tick().projected_usd is None


def test_without_a_price_no_money_is_told(tmp_path: Path) -> None:
    scene = Scene(tmp_path, price=None, model="nobody-knows-it")
    scene.answers(50)
    seen = scene.tick()
    assert (seen.spent_usd, seen.projected_usd) == (None, None)
    assert ("money", "not counted: the price is not known") in scene.shown.panels[-1].rows


def test_rate_and_time_left_come_from_the_clock(tmp_path: Path) -> None:
    scene = Scene(tmp_path, num_total=1000)
    assert scene.tick().eta_s is None
    scene.answers(200, over_s=40.0)
    seen = scene.tick()
    assert seen.per_s == pytest.approx(5.0, rel=0.03)
    assert seen.tokens_per_minute == pytest.approx(30_000, rel=0.03)
    assert seen.eta_s == pytest.approx(160, rel=0.05)


def test_panel_and_log_are_told_at_most_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for _ in range(40):
        scene.clock.now_s += 0.1
        scene.tick()
    assert len(scene.shown.panels) == len(scene.log.read_text().splitlines()) == 4
    scene.answers(1)
    scene.tick(last=True)
    assert len(scene.shown.panels) == 5
    latest = read_latest(scene.log)
    assert latest is not None
    assert latest.num_done_now == 1


@pytest.mark.parametrize(
    ("endpoints", "binding"),
    [
        ([], "work"),
        ([endpoint("a", "tokens")], "tokens"),
        ([endpoint("a", "tokens"), endpoint("b", "tokens")], "tokens"),
        ([endpoint("a", "tokens"), endpoint("b", "pause"), endpoint("c", "tokens")], "tokens at a and c, pause at b"),
        ([endpoint("a", "tokens"), endpoint("b", "work", out=True)], "tokens"),
        ([endpoint("a", "work", out=True)], "no endpoint answers"),
    ],
)
def test_what_binds_names_the_endpoint_where_there_are_several(
    tmp_path: Path, endpoints: list[EndpointState], binding: str
) -> None:
    assert Scene(tmp_path).tick(*endpoints).binding == binding


def test_a_servers_words_reach_neither_panel_nor_log_as_they_are(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.watch.faulted("\x1b[31msk-abcdefghijkl \u202e[red]quota[/red]\ud800\n" + "x" * 500)
    (name,) = scene.tick().faults
    assert name.startswith("*** [red]quota[/red] x")
    assert len(name) <= 40
    assert not {"\x1b", "\u202e"} & set(scene.log.read_text())
    assert json.loads(scene.log.read_text())["faults"] == {name: 1}


def test_a_server_that_invents_names_does_not_fill_the_log(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for number in range(1000):
        scene.watch.faulted(f"code {number}")
    faults = scene.tick().faults
    assert len(faults) <= 41
    assert sum(faults.values()) == 1000


def test_an_alarm_stops_and_a_restart_judges_afresh(tmp_path: Path) -> None:
    scene = Scene(tmp_path, alarms={"over": 10})
    with pytest.raises(AlarmRaised, match="10 of the last 10"):
        scene.answers(10, Outcome.REFUSED)
    assert scene.tick().outcomes == {"refused": 10}
    scene.watch = scene.restart()
    scene.answers(9, Outcome.REFUSED)
    with pytest.raises(AlarmRaised):
        scene.answers(1, Outcome.REFUSED)


def test_a_log_that_cannot_be_written_is_said_and_nothing_else_happens(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "missing")
    scene.tick()
    assert "going on without it" in scene.shown.lines[0]


def test_pictures_that_are_asked_again_are_counted_in_the_total(tmp_path: Path) -> None:
    scene = Scene(tmp_path, num_total=10, before=10)
    scene.watch.asked_again(4)
    scene.answers(4)
    snapshot = scene.watch.tick((), 0, 0)
    assert (snapshot.num_done, snapshot.num_total) == (14, 14)


def test_money_that_was_set_aside_and_not_spent_never_leads_below_what_was_spent(tmp_path: Path) -> None:
    scene = Scene(tmp_path, num_total=1000)
    scene.purse.spent_usd = 0.56
    scene.watch = scene.restart()
    scene.answers(40)
    scene.purse.spent_usd = 0.15
    assert scene.watch.tick((), 0, 0).projected_usd == 0.15
