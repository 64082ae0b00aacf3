"""The stage `report` over a whole run in tables: numbers that add up, hostile captions, one page that needs nothing."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from sgv_data.errors import BalanceError, RunFolderError
from sgv_data.records import CaptionRow, ImageRow, SampleRow, Verdict
from sgv_data.report.states import PictureState, State
from sgv_data.report.summary import summarize
from sgv_data.tables import read_table, write_table


def _load_builder() -> ModuleType:
    path = Path(__file__).with_name("conftest_report.py")
    spec = importlib.util.spec_from_file_location("conftest_report", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conftest_report"] = module
    spec.loader.exec_module(module)
    return module


builder = _load_builder()
STAGES = ("collect", "filter-teacher", "train", "expand", "filter-student", "shard", "publish")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    run = builder.fake_run(tmp_path_factory.mktemp("report"))
    run.report()
    return run


def states_of(run) -> list[PictureState]:  # type: ignore[no-untyped-def]
    return list(read_table(run.run.stage("report"), "states", PictureState))


class Tags(HTMLParser):
    """Elements and attributes of a page, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def test_every_picture_has_exactly_one_state_of_each_kind(finished) -> None:  # type: ignore[no-untyped-def]
    states = states_of(finished)
    images = list(read_table(finished.run.stage("index"), "images", ImageRow))
    assert [state.image_id for state in states] == [image.image_id for image in images]
    assert {state.state for state in states} == set(State)


def test_published_are_those_with_a_sample_and_name_the_writer(finished) -> None:  # type: ignore[no-untyped-def]
    samples = read_table(finished.run.stage("shard") / "metadata", "samples", SampleRow)
    published = {state.image_id: state.reason for state in states_of(finished) if state.state is State.PUBLISHED}
    assert published == {sample.image_id: sample.producer for sample in samples}


def test_the_page_shows_the_same_numbers_as_the_states(finished) -> None:  # type: ignore[no-untyped-def]
    counts = Counter(state.state for state in states_of(finished))
    funnel = re.search(r'<table class="funnel">(.*?)</table>', finished.page(), re.DOTALL)
    assert funnel is not None
    rows = [
        (bar, int(count.replace(",", "")))
        for count, bar in re.findall(r"<td>([\d,]+)</td><td>[\d.]+%</td>\s*<td><span class=\"bar (\w+)\"", funnel[1])
    ]
    shown: Counter[str] = Counter()
    for bar, count in rows:
        shown[bar] += count
    assert shown == {str(state): count for state, count in counts.items()}


@pytest.mark.parametrize(
    ("stage", "place", "name", "row_type"),
    [
        ("index", "index", "images", ImageRow),
        ("collect", "collect", "captions", CaptionRow),
        ("expand", "expand", "captions", CaptionRow),
        ("filter-teacher", "filter-teacher", "verdicts", Verdict),
        ("filter-student", "filter-student", "verdicts", Verdict),
        ("shard", "shard/metadata", "samples", SampleRow),
    ],
)
def test_a_lost_row_anywhere_is_an_error(tmp_path: Path, stage: str, place: str, name: str, row_type: type) -> None:
    run = builder.fake_run(tmp_path, num_photos=14, num_scenes=12)
    run.report()
    rows = list(read_table(run.run.root / place, name, row_type))
    lost = next(row for row in rows if not getattr(row, "for_teacher", False) and not getattr(row, "for_expand", False))
    write_table(run.run.root / place, name, row_type, [row for row in rows if row is not lost])
    with pytest.raises((BalanceError, RunFolderError), match=rf"{stage}|has no partner"):
        run.report()


def test_a_verdict_that_changed_is_an_error(tmp_path: Path) -> None:
    import dataclasses

    run = builder.fake_run(tmp_path, num_photos=14, num_scenes=12)
    folder = run.run.stage("filter-student")
    rows = list(read_table(folder, "verdicts", Verdict))
    position = next(number for number, row in enumerate(rows) if row.kept)
    rows[position] = dataclasses.replace(rows[position], kept=False, reason="too_long")
    write_table(folder, "verdicts", Verdict, rows)
    with pytest.raises(BalanceError, match="filter-student"):
        run.report()


def test_hostile_captions_are_text(finished) -> None:  # type: ignore[no-untyped-def]
    page = finished.page()
    tags = Tags(page)
    assert "&lt;script&gt;alert" in page
    assert tags.tags["script"] == 0
    assert tags.tags["main"] == tags.tags["body"] == 1
    assert not [each for each in tags.attributes if each[1].startswith("on")]
    assert "{{ 7 * 7 }}" in page
    assert "العربية" in page
    assert "👩‍👩‍👧‍👦" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)
    assert "100,000" not in page


def test_a_monster_caption_is_clamped(finished) -> None:  # type: ignore[no-untyped-def]
    page = finished.page()
    assert "more characters)" in page
    assert page.count("A very long caption.") < 1_000


def test_the_page_loads_nothing_from_anywhere(finished) -> None:  # type: ignore[no-untyped-def]
    page = finished.page()
    for tag, name, value in Tags(page).attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
    styles = "".join(re.findall(r"<style.*?</style>", page, re.DOTALL))
    assert "url(http" not in page
    assert "@import" not in styles


def test_the_page_is_small_and_shows_both_kept_and_rejected(finished) -> None:  # type: ignore[no-untyped-def]
    page = finished.page()
    assert len(page.encode()) < 3_000_000
    assert "✓ kept" in page
    assert "✗" in page
    assert 20 <= page.count("<article") <= 60


def test_equal_runs_give_equal_pages_and_states(finished) -> None:  # type: ignore[no-untyped-def]
    before = finished.page()
    states = (finished.run.stage("report") / "states-00000.parquet").read_bytes()
    finished.report()
    assert finished.page() == before
    assert (finished.run.stage("report") / "states-00000.parquet").read_bytes() == states


def test_accuracy_is_measured_for_all_four_sets_and_kept_for_the_summary(finished) -> None:  # type: ignore[no-untyped-def]
    tables = {table.title: table for table in summarize(finished.manifest, finished.run, finished.active).accuracy}
    assert list(tables) == [
        "teacher",
        "base model before training",
        "captioner, the same pictures",
        "captioner, pictures it never saw",
    ]
    colors = {
        title: row.share for title, table in tables.items() for row in table.rows if row.kind == "color"
    }
    assert colors["teacher"] == 1.0
    assert 0.4 < (colors["captioner, pictures it never saw"] or 0) < 0.95


def test_the_summary_has_the_numbers_of_the_records(finished) -> None:  # type: ignore[no-untyped-def]
    lines = dict(summarize(finished.manifest, finished.run, finished.active).lines())
    states = Counter(state.state for state in states_of(finished))
    assert lines["images in"] == "100"
    assert lines["samples"].startswith(f"{states[State.PUBLISHED]} in 2 shards, 3.4 MB")
    assert lines["report"].endswith("report/index.html")
    assert "0.4" in lines["captioner's loss on held-out captions"]


def test_secrets_do_not_reach_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct-horse-battery")
    run = builder.fake_run(tmp_path, 6, 6, teacher_url="http://user:pass-word@host.example/correct-horse-battery/v1")
    run.report()
    page = run.page()
    assert "correct-horse-battery" not in page
    assert "pass-word" not in page
    assert "host.example" in page


@pytest.mark.parametrize("num_left", range(len(STAGES) + 1))
def test_an_unfinished_run_renders_and_says_what_is_missing(tmp_path: Path, num_left: int) -> None:
    run = builder.fake_run(tmp_path, num_photos=14, num_scenes=12)
    missing = STAGES[len(STAGES) - num_left :]
    run.forget(*missing)
    report = run.report()
    assert report.num_in == 26
    assert ("Not run yet: " + ", ".join(missing) in run.page()) == bool(missing)
    states = Counter(state.state for state in states_of(run))
    assert (states[State.PUBLISHED] == 0) == bool(missing)
    awaited = {state.reason for state in states_of(run) if state.state is State.PENDING}
    assert awaited <= {"not_asked_for", *missing}
    assert not missing or awaited & set(missing)


def test_a_run_that_has_not_begun_renders(tmp_path: Path) -> None:
    run = builder.fake_run(tmp_path, num_photos=2, num_scenes=2)
    run.forget("index", *STAGES)
    assert run.report().num_in == 0
    assert "nothing has run yet" in run.page()


def test_pictures_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    run = builder.fake_run(tmp_path, num_photos=6, num_scenes=0 + 1)
    for path in (tmp_path / "photos").rglob("*.png"):
        path.unlink()
    run.report()
    assert "cannot be read any more" in run.page()


def test_a_run_without_scenes_has_no_accuracy(tmp_path: Path) -> None:
    run = builder.fake_run(tmp_path, num_photos=8, num_scenes=1)
    only_photos = run.manifest.model_copy(update={"images": run.manifest.images[1:]})
    assert json.loads(_accuracy_of(run, only_photos)) == []


def _accuracy_of(run, manifest) -> str:  # type: ignore[no-untyped-def]
    builder.FakeRun(manifest, run.run).report()
    return (run.run.stage("report") / "accuracy.json").read_text()


def test_the_page_tells_how_the_asking_went(tmp_path: Path) -> None:
    run = builder.fake_run(tmp_path)
    log = run.run.stage("collect") / "progress.jsonl"
    faults = {"<script>alert(1)</script>": 3, "timed_out": 2}
    lines = [
        {"at_utc": f"2026-11-22T10:00:{second:02d}Z", "num_done_now": second, "per_s": 4.5, "binding": "tokens",
         "faults": faults}
        for second in range(30)
    ]  # fmt: skip
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"at_utc": "cut o')
    run.report()
    page = run.page()
    asking = page.partition("<h2>Asking the teacher</h2>")[2].partition("<h2>How much")[0]
    assert "tokens per minute</td><td>100.0%" in asking
    assert "timed out</bdi></td><td>2<" in asking
    assert "<script>" not in asking
    assert "seconds at work" in asking
    assert Tags(page).tags["script"] == 0
