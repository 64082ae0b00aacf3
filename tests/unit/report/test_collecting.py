from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sgv_data.api.calibration import Calibration
from sgv_data.api.prices import TokenPrice
from sgv_data.records import CaptionRow, CaptionSet, FailureClass, Lane, Outcome, StageReport, image_order
from sgv_data.report.charts import speed_chart
from sgv_data.report.collecting import Asking, Speed, read_asking, read_log
from sgv_data.tables import write_table

START = datetime(2026, 1, 1, tzinfo=UTC)


def line(at_s: float, num_done_now: int, per_s: float = 1.0, binding: str = "work", **faults: int) -> str:
    at_utc = (START + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps({
        "at_utc": at_utc, "num_done_now": num_done_now, "per_s": per_s, "binding": binding, "faults": faults,
        "of_a_later_version": 1,
    })  # fmt: skip


def caption(number: int, **more: Any) -> CaptionRow:
    values: dict[str, Any] = {
        "image_id": f"s/{number}", "text": "t", "outcome": Outcome.OK, "failure": None, "detail": None,
        "producer": CaptionSet.TEACHER, "model": "m", "model_revision": "", "prompt_id": "p", "prompt_version": 1,
        "prompt_sha256": "", "sampling": "{}", "finish_reason": "stop", "image_sha256": "", "sent_sha256": "",
        "prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.1, "request_key": "k", "request_id": None,
        "attempts": 1, "latency_s": 1.0, "created_utc": "", "lane": Lane.LIVE, **more,
    }  # fmt: skip
    return CaptionRow(**values)


def asking(folder: Path, rows: list[CaptionRow], log: list[str]) -> Asking:
    write_table(folder, "captions", CaptionRow, sorted(rows, key=lambda row: image_order(row.image_id)))
    (folder / "progress.jsonl").write_text("".join(each + "\n" for each in log))
    found = read_asking(folder, StageReport(stage="collect", num_in=len(rows), num_out=len(rows)))
    assert found is not None
    return found


def test_outcomes_tries_lanes_and_second_askings_are_counted(tmp_path: Path) -> None:
    rows = [
        *(caption(number) for number in range(5)),
        caption(5, attempts=3, asked_again_for=Outcome.REFUSED),
        caption(6, attempts=9, outcome=Outcome.FAILED, failure=FailureClass.TIMED_OUT, lane=None),
        caption(7, outcome=Outcome.REFUSED, lane=Lane.BATCH),
    ]
    found = asking(tmp_path, rows, [])
    assert found.outcomes == (("ok", 6), ("refused", 1), ("failed", 1))
    assert found.tries == (("1", 6), ("3", 1), ("4 or more", 1))
    assert found.lanes == (("live", 6), ("batch", 1))
    assert found.asked_again == (("refused", 1),)
    assert found.num_asked == 8


COMPARED = Calibration(
    num_replies=3, predicted_prompt_tokens=1020, billed_prompt_tokens=1000, predicted_output_tokens=90,
    billed_output_tokens=100, latency_s=1.0, output_tokens_by_prompt={},
)  # fmt: skip


def test_predicted_and_billed_stand_beside_each_other(tmp_path: Path) -> None:
    write_table(tmp_path, "captions", CaptionRow, [caption(1)])
    report = StageReport(stage="collect", num_in=1, num_out=1, notes={"spent_usd": 1.5})
    found = read_asking(tmp_path, report, COMPARED, TokenPrice(1.0, 10.0))
    assert found is not None
    assert (found.billed_usd, found.num_compared) == (1.5, 3)
    tokens_in, tokens_out, money = found.predictions
    assert (tokens_in.error, tokens_out.error) == (pytest.approx(0.02), pytest.approx(-0.1))
    assert (money.predicted, money.billed) == (pytest.approx(1920 / 1e6), pytest.approx(2000 / 1e6))


def test_without_a_price_or_a_comparison_nothing_is_claimed(tmp_path: Path) -> None:
    found = asking(tmp_path, [caption(1)], [])
    assert (found.billed_usd, found.predictions) == (None, ())
    unpriced = read_asking(tmp_path, StageReport(stage="collect", num_in=1, num_out=1), COMPARED, None)
    assert unpriced is not None
    assert [row.name for row in unpriced.predictions] == ["tokens in", "tokens out"]


def test_faults_of_every_command_are_added_up(tmp_path: Path) -> None:
    log = [line(0, 1, slow=1), line(5, 9, slow=4), line(60, 0), line(65, 3, slow=2, lost=1)]
    assert asking(tmp_path, [caption(1)], log).faults == (("slow", 6), ("lost", 1))


def test_what_held_it_back_is_told_by_share_of_the_time(tmp_path: Path) -> None:
    log = [
        line(0, 1, binding="tokens"), line(6, 2, binding="tokens at a, pause at b"), line(10, 3, binding="x"),
        line(500, 0, binding="x"), line(510, 5, binding="x"),
    ]  # fmt: skip
    limits = dict(asking(tmp_path, [caption(1)], log).limits)
    assert limits == {
        "tokens per minute": pytest.approx(8 / 20), "pauses the server asked for": pytest.approx(2 / 20),
        "x": pytest.approx(0.5),
    }  # fmt: skip


def test_pauses_between_commands_take_no_room_in_the_chart(tmp_path: Path) -> None:
    log = [line(0, 1), line(10, 9), line(90_000, 0), line(90_005, 3)]
    points = asking(tmp_path, [caption(1)], log).speed
    assert [(point.at_s, point.command) for point in points] == [(0, 0), (10, 0), (10, 1), (15, 1)]


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(0, 1) + "\n" + line(1, 2)[:30] + "\n\n" + line(2, 3) + "\n" + '{"at_')
    assert [each.num_done_now for each in read_log(path)] == [1, 3]


def test_an_unfinished_collect_has_nothing_to_tell(tmp_path: Path) -> None:
    assert read_asking(tmp_path, None) is None


@pytest.mark.parametrize(("span_s", "unit"), [(30, "seconds"), (600, "minutes"), (20_000, "hours"), (250_000, "days")])
def test_the_chart_speaks_in_a_unit_that_fits(span_s: float, unit: str) -> None:
    chart = speed_chart([Speed(0.0, 5.0, 0), Speed(span_s, 7.0, 0)])
    assert chart is not None
    assert f"{unit} at work" in chart


def test_no_chart_is_drawn_of_a_moment() -> None:
    assert speed_chart([]) is None
    assert speed_chart([Speed(0.0, 5.0, 0)]) is None
