"""Half-written checkpoints are never used, and good ones never overwritten by them."""

from __future__ import annotations

from pathlib import Path

from sgv_data.train.checkpoints import Checkpoints, step_of


def write(checkpoints: Checkpoints, step: int, content: str = "whole") -> None:
    folder = checkpoints.writing / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(content)


def test_the_latest_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None
    for step in (8, 9, 10):
        write(checkpoints, step)
        checkpoints.publish(step)

    latest = checkpoints.latest()

    assert latest is not None
    assert step_of(latest) == 10


def test_one_that_is_being_written_is_not_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    write(checkpoints, 5)
    checkpoints.publish(5)
    write(checkpoints, 6, "half")

    latest = checkpoints.latest()

    assert latest is not None
    assert (latest.name, (latest / "weights").read_text()) == ("checkpoint-5", "whole")
    checkpoints.clear()
    assert not checkpoints.writing.exists()


def test_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3, 4):
        write(checkpoints, step)
        checkpoints.publish(step)

    assert sorted(path.name for path in checkpoints.folder.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    write(checkpoints, 1)
    checkpoints.publish(1)

    checkpoints.remove()

    assert not checkpoints.folder.exists()
