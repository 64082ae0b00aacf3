"""The stage `filter` over caption tables on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgv_data.filter import run as filter_stage
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.records import (
    CaptionReject,
    CaptionRow,
    CaptionSet,
    FailureClass,
    Outcome,
    StageReport,
    Verdict,
    image_order,
)
from sgv_data.run_folder import RunFolder
from sgv_data.stage import StageContext
from sgv_data.tables import read_table, write_table

GOOD = (
    "A red bicycle leans against a white wall on the left. Beside it stands a wooden bench with two green cushions, "
    "and a grey cat sleeps on the right one in the afternoon sun."
)
TEXTS = {
    "pics/good": (GOOD, Outcome.OK, "stop"),
    "pics/cut": (GOOD[:100], Outcome.TRUNCATED, "length"),
    "pics/no": ("", Outcome.REFUSED, "content_filter"),
    "pics/short": ("A red bicycle.", Outcome.OK, "stop"),
    "pics/surrogate": ("\ud800 " + GOOD, Outcome.OK, "stop"),
    "pics/failed": ("", Outcome.FAILED, ""),
}


def caption(image_id: str, text: str, outcome: Outcome, finish_reason: str) -> CaptionRow:
    failed = outcome is Outcome.FAILED
    return CaptionRow(
        image_id=image_id, text=text, outcome=outcome, failure=FailureClass.TIMED_OUT if failed else None, detail=None,
        producer=CaptionSet.TEACHER, model="m", model_revision="r", prompt_id="mine", prompt_version=1,
        prompt_sha256="0", sampling="{}", finish_reason=finish_reason, image_sha256="1", sent_sha256="2",
        prompt_tokens=1, completion_tokens=1, cost_usd=None, request_key="k", request_id=None, attempts=1,
        latency_s=0.0, created_utc="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "mine.md").write_text("---\nid: mine\nversion: 1\nfor: tests\n---\nSay what you see.\n")
    source = {"name": "pics", "kind": "folder", "path": str(tmp_path), "prompt": "mine"}
    return Manifest.model_validate(
        {"name": "r", "images": [source], "teacher": {"model": "m"}, "prompts": str(prompts)}
    )


def judge(manifest: Manifest, root: Path, stage: str = "filter-teacher") -> tuple[StageReport, list[Verdict]]:
    run = RunFolder(root)
    rows = [caption(image_id, *rest) for image_id, rest in TEXTS.items()]
    rows.sort(key=lambda row: image_order(row.image_id))
    write_table(run.stage("collect" if stage == "filter-teacher" else "expand"), "captions", CaptionRow, rows)
    run.stage(stage).mkdir(parents=True, exist_ok=True)
    report = filter_stage.run(manifest, StageContext(run, stage, (stage,), Silent()))
    return report, list(read_table(run.stage(stage), "verdicts", Verdict))


@pytest.mark.parametrize("stage", ["filter-teacher", "filter-student"])
def test_every_answered_caption_is_kept_or_rejected_once(manifest: Manifest, tmp_path: Path, stage: str) -> None:
    report, verdicts = judge(manifest, tmp_path / "r", stage)
    assert report.balance().num_in == len(verdicts) == 5
    assert {v.image_id: v.reason for v in verdicts} == {
        "pics/good": None,
        "pics/surrogate": CaptionReject.BROKEN_ENCODING,
        "pics/cut": CaptionReject.CUT_OFF,
        "pics/no": CaptionReject.REFUSAL,
        "pics/short": CaptionReject.TOO_SHORT,
    }
    assert report.num_out == 1
    assert report.rejected == {"broken_encoding": 1, "cut_off": 1, "refusal": 1, "too_short": 1}


def test_verdicts_come_in_hash_order_and_run_again_byte_identical(manifest: Manifest, tmp_path: Path) -> None:
    _, verdicts = judge(manifest, tmp_path / "r")
    places = [image_order(verdict.image_id) for verdict in verdicts]
    assert places == sorted(places)
    first = (tmp_path / "r" / "filter-teacher" / "verdicts-00000.parquet").read_bytes()
    judge(manifest, tmp_path / "r")
    assert (tmp_path / "r" / "filter-teacher" / "verdicts-00000.parquet").read_bytes() == first


def test_the_identity_follows_policy_and_prompt_text(manifest: Manifest, tmp_path: Path) -> None:
    before = filter_stage.identity(manifest, "filter-teacher")
    stricter = manifest.model_copy(update={"filter": manifest.filter.model_copy(update={"refusal_min_score": 0.9})})
    assert filter_stage.identity(stricter, "filter-teacher") != before
    prompt = tmp_path / "prompts" / "mine.md"
    prompt.write_text(prompt.read_text().replace("see", "notice"))
    assert filter_stage.identity(manifest, "filter-teacher") != before


def test_another_policy_gives_another_verdict(manifest: Manifest, tmp_path: Path) -> None:
    section = manifest.filter.model_dump() | {"length": {"min_words": 2, "max_words": 400}}
    lenient = Manifest.model_validate(manifest.model_dump() | {"filter": section})
    _, verdicts = judge(lenient, tmp_path / "r")
    assert {v.image_id: v.kept for v in verdicts}["pics/short"]


def leak_of(manifest: Manifest, root: Path, text: str, prompt_id: str = "mine") -> CaptionReject | None:
    """The verdict on one caption that was asked for with this prompt."""
    run = RunFolder(root)
    row = replace(caption("pics/one", text, Outcome.OK, "stop"), prompt_id=prompt_id)
    write_table(run.stage("collect"), "captions", CaptionRow, [row])
    run.stage("filter-teacher").mkdir(parents=True, exist_ok=True)
    filter_stage.run(manifest, StageContext(run, "filter-teacher", ("filter-teacher",), Silent()))
    (verdict,) = read_table(run.stage("filter-teacher"), "verdicts", Verdict)
    return verdict.reason


def test_the_prompt_of_a_retry_round_leaks_too(manifest: Manifest, tmp_path: Path) -> None:
    echo = "Count the quiet purple stones beside every river bank."
    head = "---\nid: again\nversion: 1\nfor: tests\n---\n"
    (tmp_path / "prompts" / "again.md").write_text(f"{head}{echo}\n")
    text = f"{GOOD} {echo}"
    assert leak_of(manifest, tmp_path / "a", text) is None
    assert leak_of(manifest, tmp_path / "b", text, "again") is CaptionReject.PROMPT_LEAK


def test_what_is_said_around_offered_words_leaks_where_words_are_offered(manifest: Manifest, tmp_path: Path) -> None:
    (source,) = manifest.images
    offering = manifest.model_copy(update={"images": (source.model_copy(update={"offer_text": True}),)})
    text = f"{GOOD} Where what you see agrees with them, take from them what the eye alone cannot know."
    assert leak_of(manifest, tmp_path / "a", text) is None
    assert leak_of(offering, tmp_path / "b", text) is CaptionReject.PROMPT_LEAK
    assert filter_stage.identity(offering, "filter-teacher") != filter_stage.identity(manifest, "filter-teacher")
