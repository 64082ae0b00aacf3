"""`filter` over the same captions again: stored scores, other policies, another order, a blind audit."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgv_data.errors import InputError, RunFolderError
from sgv_data.filter import run as filter_stage
from sgv_data.filter import scoring
from sgv_data.filter.audit import KEY, Key, folder_of, judge_answers, wilson, write_audit
from sgv_data.filter.what_if import compare
from sgv_data.manifest import FilterPolicy, Manifest
from sgv_data.progress import Silent
from sgv_data.records import CaptionReject, CaptionRow, ImageRow, Outcome, StageReport, Verdict, image_order
from sgv_data.run_folder import RunFolder
from sgv_data.stage import StageContext
from sgv_data.tables import read_table, write_table
from tests.integration.test_filter import caption
from tests.unit.filter.labelled import DEFECTS, Labelled, labelled_set, photo_captions

STAGE = "filter-teacher"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    source = {"name": "pics", "kind": "folder", "path": str(tmp_path), "prompt": "detailed"}
    return Manifest.model_validate({"name": "r", "images": [source], "teacher": {"model": "m"}})


def with_policy(manifest: Manifest, **sections: Any) -> Manifest:
    values = manifest.model_dump()
    return Manifest.model_validate(values | {"filter": values["filter"] | sections})


def store(root: Path, texts: dict[str, str], in_order: bool = True) -> RunFolder:
    run = RunFolder(root)
    rows = [
        replace(caption(image_id, text, Outcome.OK, "stop"), prompt_id="detailed") for image_id, text in texts.items()
    ]
    if in_order:
        rows.sort(key=lambda row: image_order(row.image_id))
    write_table(run.stage("collect"), "captions", CaptionRow, rows)
    run.stage(STAGE).mkdir(parents=True, exist_ok=True)
    return run


def judge(manifest: Manifest, run: RunFolder) -> tuple[StageReport, dict[str, CaptionReject | None]]:
    report = filter_stage.run(manifest, StageContext(run, STAGE, (STAGE,), Silent()))
    return report.balance(), {row.image_id: row.reason for row in read_table(run.stage(STAGE), "verdicts", Verdict)}


def sample(num_per_class: int = 4) -> dict[str, str]:
    """Good captions and a few of each class of defect."""
    labelled = labelled_set()
    chosen: list[Labelled] = labelled[:20]
    for reason in DEFECTS:
        chosen += [each for each in labelled if each.truth is reason][:num_per_class]
    return {f"pics/{number:04d}": each.text for number, each in enumerate(chosen)}


def never(*_: object) -> None:
    raise AssertionError("scored again")


def test_another_policy_decides_without_scoring_again(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store(tmp_path / "r", sample())
    first, before = judge(manifest, run)
    monkeypatch.setattr(filter_stage, "score_table", never)
    again, after = judge(with_policy(manifest, length={"min_words": 140}), run)
    assert first.from_cache == 0
    assert again.from_cache == again.num_out > 0
    changed = {image_id: after[image_id] for image_id in after if after[image_id] is not before[image_id]}
    assert set(changed.values()) == {CaptionReject.TOO_SHORT}


def test_other_captions_and_damaged_scores_are_scored_again(manifest: Manifest, tmp_path: Path) -> None:
    texts = sample()
    run = store(tmp_path / "r", texts)
    _, before = judge(manifest, run)
    (stored,) = run.stage(STAGE).glob("scores-*.parquet")
    stored.write_bytes(stored.read_bytes()[:-200])
    report, after = judge(manifest, run)
    assert report.from_cache == 0
    assert after == before
    store(tmp_path / "r", {**texts, "pics/0000": "A red bicycle."})
    report, after = judge(manifest, run)
    assert report.from_cache == 0
    assert after["pics/0000"] is CaptionReject.TOO_SHORT


def test_verdicts_do_not_depend_on_the_other_captions_but_for_twins(manifest: Manifest, tmp_path: Path) -> None:
    texts = sample()
    _, whole = judge(manifest, store(tmp_path / "whole", texts))
    half = dict(random.Random(4).sample(sorted(texts.items()), len(texts) // 2))
    _, part = judge(manifest, store(tmp_path / "half", half))
    twins = CaptionReject.NEAR_DUPLICATE
    assert {name: said for name, said in part.items() if whole[name] is not twins and said is not whole[name]} == {}


def test_a_shuffled_table_gives_the_same_verdicts(manifest: Manifest, tmp_path: Path) -> None:
    texts = sample()
    texts |= {f"{name}-copy": text for name, text in texts.items()}
    _, ordered = judge(manifest, store(tmp_path / "ordered", texts))
    names = sorted(texts)
    random.Random(9).shuffle(names)
    _, shuffled = judge(manifest, store(tmp_path / "shuffled", {name: texts[name] for name in names}, in_order=False))
    assert shuffled == ordered
    assert CaptionReject.NEAR_DUPLICATE in ordered.values()


def test_in_processes_the_scores_are_the_same(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = sample()
    judge(manifest, store(tmp_path / "one", texts))
    monkeypatch.setattr(scoring, "_FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(scoring, "usable_cores", lambda: 2)
    judge(manifest, store(tmp_path / "two", texts))
    one, two = ((tmp_path / name / STAGE / "scores-00000.parquet").read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_same_caption_on_two_pictures_is_kept_once(manifest: Manifest, tmp_path: Path) -> None:
    text = photo_captions()[0]
    report, verdicts = judge(manifest, store(tmp_path / "r", {"pics/a": text, "pics/b": text}))
    assert sorted(verdicts.values(), key=str) == [None, CaptionReject.NEAR_DUPLICATE]
    assert report.notes["same_caption_on_other_pictures"] == 1


def test_a_run_without_captions_is_judged(manifest: Manifest, tmp_path: Path) -> None:
    report, verdicts = judge(manifest, store(tmp_path / "r", {}))
    assert (report.num_in, verdicts) == (0, {})


def test_what_if_tells_what_the_other_policy_then_does(manifest: Manifest, tmp_path: Path) -> None:
    run = store(tmp_path / "r", sample())
    _, before = judge(manifest, run)
    other = with_policy(manifest, length={"min_words": 140}, toxic={"max_count": 5})
    policies = (filter_stage.resolved_policy(each) for each in (manifest, other))
    found = compare(run.stage(STAGE), run.stage("collect"), *policies)
    report, after = judge(other, run)
    assert found.after[None] == report.num_out
    assert {str(reason): count for reason, count in found.after.items() if reason} == report.rejected
    assert found.num_changed == sum(before[name] is not after[name] for name in before)
    nearest = [each.value for each in found.examples if (each.before, each.after) == (None, CaptionReject.TOO_SHORT)]
    assert len(nearest) == 3
    assert nearest == sorted(nearest, reverse=True)
    assert 100 < nearest[0] < 140
    assert all(each.text and before[each.image_id] is each.before for each in found.examples)
    assert {each.before for each in found.examples} >= {None, CaptionReject.TOXIC}


def test_what_if_needs_scores(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="run this filter first"):
        compare(tmp_path, tmp_path, FilterPolicy(), FilterPolicy())


# --- audit ---------------------------------------------------------------------------------------------------------


def audited(manifest: Manifest, root: Path, num: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Key]:
    run = store(root, sample())
    judge(manifest, run)
    write_table(run.stage("index"), "images", ImageRow, [])
    monkeypatch.setattr(RunFolder, "record", lambda *_: object())
    page = write_audit(manifest, run, STAGE, "collect", num)
    return page, Key.model_validate_json((folder_of(run, STAGE) / KEY).read_text())


def answer(page: Path, key: Key, said: Iterable[str]) -> Path:
    path = page.with_name("answers.json")
    path.write_text(json.dumps({"audit": key.audit, "answers": dict(enumerate(said))}))
    return path


def test_the_sheet_shows_half_kept_half_rejected_and_does_not_say_which(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, key = audited(manifest, tmp_path / "r", 12, monkeypatch)
    html = page.read_text(encoding="utf-8")
    assert (len(key.kept), sum(key.kept)) == (12, 6)
    assert html.count("<article>") == 12
    assert not [reason for reason in CaptionReject if f">{reason}<" in html]
    assert "pics/" not in html
    assert "<image>" not in html  # captions are escaped


def test_answers_give_precision_and_recall(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, key = audited(manifest, tmp_path / "r", 12, monkeypatch)
    agreeing = answer(page, key, ("good" if kept else "bad" for kept in key.kept))
    right = judge_answers(page.parent, agreeing)
    assert right.precision is not None
    assert right.recall is not None
    assert (right.precision.value, right.recall.value) == (1, 1)
    assert right.precision.low == pytest.approx(0.6097, abs=1e-3)  # 6 of 6
    opposed = answer(page, key, ("bad" if kept else "good" for kept in key.kept))
    wrong = judge_answers(page.parent, opposed)
    assert wrong.precision is not None
    assert wrong.precision.value == 0


def test_answers_to_another_sheet_are_refused(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, key = audited(manifest, tmp_path / "r", 6, monkeypatch)
    other = key.model_copy(update={"audit": "another"})
    with pytest.raises(InputError, match="another page"):
        judge_answers(page.parent, answer(page, other, ["good"]))
    page.with_name("answers.json").write_text("{}")
    with pytest.raises(InputError, match="no answers"):
        judge_answers(page.parent, page.with_name("answers.json"))


@pytest.mark.parametrize(("hits", "of", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)])
def test_wilson_agrees_with_published_intervals(hits: int, of: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    share = wilson(hits, of)
    assert share is not None
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
