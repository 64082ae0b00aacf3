from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.errors import InputError
from sgv_data.mix.captions import open_captions
from sgv_data.mix.pretrain import write_pretraining
from sgv_data.mix.questions import RELEASED, plain, read_pool
from sgv_data.progress import Silent
from sgv_data.records import CaptionRow, CaptionSet, Verdict
from sgv_data.sources.paths import unquote_path
from sgv_data.tables import read_table
from tests.small_run import SmallRun, small_run
from tests.unit.mix.files import captions, read, row, write


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = small_run(tmp_path_factory.mktemp("run"))
    made.make("shard")
    return made


def kept(run: SmallRun, who: CaptionSet) -> dict[str, str]:
    stage = "collect" if who is CaptionSet.TEACHER else "expand"
    good = {each.image_id for each in read_table(run.stage(f"filter-{who}"), "verdicts", Verdict) if each.kept}
    rows = read_table(run.stage(stage), "captions", CaptionRow)
    return {each.image_id: each.text for each in rows if each.image_id in good}


def test_a_run_gives_its_kept_captions_the_teachers_first(run: SmallRun) -> None:
    expected = {**kept(run, CaptionSet.STUDENT), **kept(run, CaptionSet.TEACHER)}
    found = {each.image: each.text for each in open_captions(run.run.root)}
    assert found == {unquote_path(image_id): text for image_id, text in expected.items()}
    assert found


@pytest.mark.parametrize("who", list(CaptionSet))
def test_a_run_gives_one_set_alone_when_asked(run: SmallRun, who: CaptionSet) -> None:
    assert len(list(open_captions(run.run.root, who))) == len(kept(run, who)) > 0


def test_pictures_lie_where_they_are_said_to(run: SmallRun) -> None:
    found = list(open_captions(run.run.root, places={"pics": "coco/train2017/"}))
    assert all(each.image.startswith("coco/train2017/sub.dir/") and each.source == "pics" for each in found)


def test_a_dataset_folder_gives_what_its_tars_hold(run: SmallRun) -> None:
    of_run = {each.image: each.text for each in open_captions(run.run.root)}
    found = {each.image: each.text for each in open_captions(run.stage("shard"))}
    assert found
    assert all(of_run[image].encode("utf-8", "replace").decode() == text for image, text in found.items())


def test_a_cut_off_tar_is_said(run: SmallRun, tmp_path: Path) -> None:
    copied = tmp_path / "dataset"
    for path in run.stage("shard").rglob("*"):
        if path.is_file():
            target = copied / path.relative_to(run.stage("shard"))
            target.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            target.write_bytes(data[: len(data) // 2] if path.suffix == ".tar" else data)
    with pytest.raises(InputError, match="cut off"):
        list(open_captions(copied))


def test_rows_of_a_file_that_are_no_captions_are_counted(tmp_path: Path) -> None:
    rows = [
        *captions(3),
        row("t", None, "Hello", "Hi"),
        row("m", "a.jpg", "<image>\nq", "a", "q", "a"),
        row("e", "b.jpg", "<image>\nq", "  "),
    ]
    found = open_captions(write(tmp_path / "new.json", rows))
    assert [each.source for each in found] == ["coco"] * 3
    assert found.passed_over == {"without one picture": 1, "not one question and one answer": 1, "empty": 1}


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_what_is_no_set_of_captions_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"no such set of captions|no run folder"):
        open_captions(tmp_path / name)


def test_questions_are_compared_without_case_space_and_end_mark() -> None:
    assert plain("<image>\nWhat is  this PHOTO about") == plain("What is this photo about?\n<image>")


def test_a_pool_of_questions_is_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "pool.txt").write_text("One?\n\n Two? \n")
    assert read_pool(tmp_path / "pool.txt") == ("One?", "Two?")
    (tmp_path / "pool.txt").write_text("\n")
    with pytest.raises(InputError, match="no questions"):
        read_pool(tmp_path / "pool.txt")


def test_the_pretraining_file_has_the_papers_form(tmp_path: Path) -> None:
    new = open_captions(write(tmp_path / "new.json", captions(80)))
    report = write_pretraining(new, tmp_path / "pretrain.json", Silent(), seed=1)
    rows = read(tmp_path / "pretrain.json")
    assert (report.rows, report.files, len(rows)) == (80, ["pretrain.json"], 80)
    first = rows[7]
    assert (first["id"], first["image"]) == ("000000000007", "coco/train2017/000000000007.jpg")
    assert first["conversations"][1] == {"from": "gpt", "value": "New caption 7 of coco/train2017."}
    asked = [each["conversations"][0]["value"] for each in rows]
    assert {text.replace("<image>", "").strip() for text in asked} == set(RELEASED)
    assert {text.startswith("<image>\n") for text in asked} == {True, False}
    assert all(text.count("<image>") == 1 for text in asked)


def test_a_sharded_pretraining_file_holds_the_same_rows(tmp_path: Path) -> None:
    new = open_captions(write(tmp_path / "new.json", captions(25)))
    write_pretraining(new, tmp_path / "one.json", Silent())
    write_pretraining(new, tmp_path / "many.json", Silent(), rows_per_file=3)
    report = write_pretraining(new, tmp_path / "many.json", Silent(), rows_per_file=10)
    assert sorted(path.name for path in tmp_path.glob("many-*.json")) == report.files
    assert report.files == [f"many-{number:05d}.json" for number in range(3)]
    parts = [read(tmp_path / name) for name in report.files]
    assert [len(part) for part in parts] == [10, 10, 5]
    assert [each for part in parts for each in part] == read(tmp_path / "one.json")
