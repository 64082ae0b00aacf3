"""Running, skipping and refusing stages, with stages that only count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sgv_data import pipeline
from sgv_data.errors import BalanceError, ManifestError, RunFolderError
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.records import FileStamp, StageReport
from sgv_data.run_folder import AGAIN, RECORD, STARTED, RunFolder
from sgv_data.stage import StageContext


class Counting:
    """A stage that writes one file and remembers being run."""

    VERSION = 1
    KEEP = ("paid.*",)

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.lose = 0
        self.stop = False

    def identity(self, manifest: Manifest, stage: str) -> dict[str, Any]:
        return {"seed": manifest.seed} if stage == "collect" else {}

    def run(self, manifest: Manifest, context: StageContext) -> StageReport:
        self.runs.append(context.stage)
        (context.folder / "paid.sqlite").write_text("replies")
        if context.again:
            (context.folder / AGAIN).write_text("{}")
        if self.stop:
            raise KeyboardInterrupt
        (context.folder / "out.txt").write_text(context.stage)
        return StageReport(stage=context.stage, num_in=1 + self.lose, num_out=1)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    stage = Counting()
    monkeypatch.setattr(pipeline, "importlib", SimpleNamespace(import_module=lambda _: stage))
    return stage


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "t",
            "images": [{"name": "a", "kind": "folder", "path": "/p"}],
            "teacher": {"model": "m"},
            **changes,
        }
    )


def run_all(folder: Path, redo: str | None = None, **changes: Any) -> list[pipeline.StageResult]:
    return list(pipeline.run_all(manifest(**changes), RunFolder(folder), Silent(), redo))


def test_without_captioner_and_target_their_stages_are_left_out() -> None:
    names = [stage.name for stage in pipeline.active_stages(manifest())]
    assert names == ["index", "collect", "filter-teacher", "shard", "report"]


def test_with_all_sections_every_stage_runs_in_order() -> None:
    full = manifest(captioner={"base_model": "tiny"}, publish={"to": "file://x"})
    assert pipeline.active_stages(full) == pipeline.STAGES


def test_no_stage_reads_a_later_one() -> None:
    names = [stage.name for stage in pipeline.STAGES]
    for place, stage in enumerate(pipeline.STAGES):
        assert set(stage.reads) <= set(names[:place])


def test_a_second_run_does_nothing(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    before = list(counting.runs)
    assert all(result.skipped for result in run_all(tmp_path))
    assert counting.runs == before


def test_an_interrupted_stage_is_run_again_and_those_before_it_are_not(tmp_path: Path, counting: Counting) -> None:
    counting.stop = True
    with pytest.raises(KeyboardInterrupt):
        run_all(tmp_path)
    assert (tmp_path / "index" / STARTED).exists()
    counting.stop = False
    run_all(tmp_path)
    assert counting.runs == ["index", "index", "collect", "filter-teacher", "shard", "report"]
    assert not (tmp_path / "index" / STARTED).exists()


def test_other_settings_are_refused_with_the_field_that_differs(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    with pytest.raises(RunFolderError, match=r"other settings: seed was 0, is now 5.*--redo collect"):
        run_all(tmp_path, seed=5)


def test_an_unfinished_stage_of_other_settings_is_refused_too(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    (tmp_path / "collect" / RECORD).rename(tmp_path / "collect" / STARTED)
    with pytest.raises(RunFolderError, match="seed was 0"):
        run_all(tmp_path, seed=5)


def test_redo_makes_a_stage_and_what_follows_anew_and_keeps_what_was_paid(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    (tmp_path / "collect" / "paid.sqlite").write_text("costly")
    counting.runs.clear()

    def stopped(*_: object) -> StageReport:
        raise KeyboardInterrupt

    counting.run = stopped  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run_all(tmp_path, redo="collect", seed=5)
    assert (tmp_path / "collect" / "paid.sqlite").read_text() == "costly"
    assert not (tmp_path / "collect" / "out.txt").exists()
    assert (tmp_path / "index" / RECORD).exists()


def test_a_missing_output_is_noticed_before_skipping(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    (tmp_path / "index" / "out.txt").unlink()
    with pytest.raises(RunFolderError, match=r"out\.txt is missing"):
        run_all(tmp_path)


def test_numbers_that_do_not_add_up_leave_no_record(tmp_path: Path, counting: Counting) -> None:
    counting.lose = 1
    with pytest.raises(BalanceError):
        run_all(tmp_path)
    assert not (tmp_path / "index" / RECORD).exists()


def test_a_stage_whose_input_is_not_finished_is_refused(tmp_path: Path, counting: Counting) -> None:
    stage = pipeline.find_stage(manifest(), "collect")
    with pytest.raises(RunFolderError, match="collect needs index"):
        pipeline.run_stage(stage, manifest(), RunFolder(tmp_path), Silent())


def test_a_stage_without_its_section_is_refused() -> None:
    with pytest.raises(ManifestError, match="no section 'captioner'"):
        pipeline.find_stage(manifest(), "train")


def test_a_new_version_of_a_stage_asks_for_redo(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    counting.VERSION = 2
    with pytest.raises(RunFolderError, match="version was 1, is now 2"):
        run_all(tmp_path)


def test_what_follows_an_input_made_anew_with_the_same_settings_is_refused(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    folder = RunFolder(tmp_path)
    (tmp_path / "collect" / "out.txt").write_text("other replies came")
    record = folder.record("collect")
    assert record is not None
    other = {**record.files, "out.txt": FileStamp(num_bytes=18, sha256="0" * 64)}
    (tmp_path / "collect" / RECORD).write_text(record.model_copy(update={"files": other}).model_dump_json())
    with pytest.raises(RunFolderError, match="its input collect was made anew"):
        run_all(tmp_path)


def run_collect(folder: Path, *again: str) -> pipeline.StageResult:
    stage = pipeline.find_stage(manifest(), "collect")
    return pipeline.run_stage(stage, manifest(), RunFolder(folder), Silent(), again=again)


def test_a_finished_stage_is_opened_once_more_and_then_done_again(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    assert not run_collect(tmp_path, "refused").skipped
    assert counting.runs.count("collect") == 2
    assert run_collect(tmp_path).skipped
    assert not (tmp_path / "collect" / AGAIN).exists()


def test_what_was_stopped_while_open_again_goes_on(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    counting.stop = True
    with pytest.raises(KeyboardInterrupt):
        run_collect(tmp_path, "refused")
    assert RunFolder(tmp_path).record("collect") is None
    counting.stop = False
    assert not run_collect(tmp_path).skipped
    assert run_collect(tmp_path).skipped


def test_a_crash_between_record_and_marker_leaves_the_stage_open(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    (tmp_path / "collect" / AGAIN).write_text("{}")
    assert not run_collect(tmp_path).skipped
    assert run_collect(tmp_path).skipped


def test_opening_again_with_other_settings_is_refused(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    stage = pipeline.find_stage(manifest(seed=5), "collect")
    with pytest.raises(RunFolderError, match="seed was 0, is now 5"):
        pipeline.run_stage(stage, manifest(seed=5), RunFolder(tmp_path), Silent(), again=("refused",))
    assert RunFolder(tmp_path).record("collect") is not None


def test_a_redo_forgets_that_the_stage_was_open_again(tmp_path: Path, counting: Counting) -> None:
    run_all(tmp_path)
    (tmp_path / "collect" / AGAIN).write_text("{}")
    run_all(tmp_path, redo="collect")
    assert not (tmp_path / "collect" / AGAIN).exists()
