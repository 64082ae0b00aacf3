"""The numbers of a run survive a crash, and the curve is the same each time."""

from __future__ import annotations

from pathlib import Path

from sgv_data.train.metrics import Metric, MetricsFile, draw_loss, read_metrics

ROWS = [
    Metric(step=0, epoch=0.0, eval_loss=5.0, seconds=0.5),
    Metric(step=1, epoch=0.5, loss=4.0, learning_rate=1e-3, grad_norm=1.0, seconds=1.0),
    Metric(step=2, epoch=1.0, loss=3.0, learning_rate=1e-4, grad_norm=1.0, seconds=1.5),
    Metric(step=2, epoch=1.0, eval_loss=3.5, seconds=2.0),
]


def written(path: Path) -> MetricsFile:
    metrics = MetricsFile(path, keep_to_step=0)
    for row in ROWS:
        metrics.add(row)
    return metrics


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path / "metrics.jsonl")

    assert read_metrics(tmp_path / "metrics.jsonl") == ROWS


def test_going_on_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    written(tmp_path / "metrics.jsonl")

    metrics = MetricsFile(tmp_path / "metrics.jsonl", keep_to_step=1)

    assert metrics.rows == ROWS[:2]
    assert metrics.seconds == 1.0
    assert read_metrics(tmp_path / "metrics.jsonl") == ROWS[:2]


def test_starting_anew_drops_everything(tmp_path: Path) -> None:
    written(tmp_path / "metrics.jsonl")

    assert MetricsFile(tmp_path / "metrics.jsonl", keep_to_step=0).rows == []


def test_a_line_cut_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path)
    path.write_text(path.read_text()[:-20])

    assert read_metrics(path) == ROWS[:3]


def test_equal_numbers_give_an_equal_picture(tmp_path: Path) -> None:
    draw_loss(ROWS, tmp_path / "a.svg")
    draw_loss(ROWS, tmp_path / "b.svg")

    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert "held out" in drawn


def test_a_run_without_numbers_has_an_empty_picture(tmp_path: Path) -> None:
    draw_loss([], tmp_path / "a.svg")

    assert "</svg>" in (tmp_path / "a.svg").read_text()
