from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgv_data.errors import RunFolderError
from sgv_data.records import StageRecord
from sgv_data.run_folder import (
    RECORD,
    RunFolder,
    check_files,
    digest,
    publish_folder,
    stamp_files,
    write_durably,
)


def record(folder: Path) -> StageRecord:
    return StageRecord(
        stage="index",
        fingerprint="f",
        identity={},
        inputs={},
        code_version="0",
        libraries={},
        started_utc="t",
        files=stamp_files(folder, ("kept.*",)),
    )


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    write_durably(tmp_path / "a", "long content")
    write_durably(tmp_path / "a", "short")
    assert (tmp_path / "a").read_text() == "short"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_rename_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_durably(tmp_path / "a", "old")

    def fails(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no"):
        write_durably(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_is_published_whole(tmp_path: Path) -> None:
    (tmp_path / "t" / "deep").mkdir(parents=True)
    (tmp_path / "t" / "deep" / "x").write_text("x")
    publish_folder(tmp_path / "t", tmp_path / "final")
    assert (tmp_path / "final" / "deep" / "x").read_text() == "x"


def test_stamps_leave_out_hidden_and_kept_files(tmp_path: Path) -> None:
    for name in ("a.parquet", ".tmp", "kept.sqlite", RECORD):
        (tmp_path / name).write_text(name)
    assert list(stamp_files(tmp_path, ("kept.*",))) == ["a.parquet"]


@pytest.mark.parametrize(("change", "says"), [("missing", "is missing"), ("longer", "has 3 bytes instead of 2")])
def test_a_changed_output_is_noticed(tmp_path: Path, change: str, says: str) -> None:
    (tmp_path / "a").write_text("ab")
    done = record(tmp_path)
    (tmp_path / "a").unlink() if change == "missing" else (tmp_path / "a").write_text("abc")
    with pytest.raises(RunFolderError, match=says):
        check_files(tmp_path, done)


def test_a_second_process_is_told_who_is_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.lock(), pytest.raises(RunFolderError, match=f"process {os.getpid()}"), run.lock():
        pass


def test_the_lock_is_free_after_use(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for _ in range(2):
        with run.lock():
            assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_damaged_record_is_said(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / RECORD).write_text("{")
    with pytest.raises(RunFolderError, match="damaged"):
        RunFolder(tmp_path).record("index")


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
