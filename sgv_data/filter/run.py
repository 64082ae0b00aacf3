"""The stage `filter`, run for teacher and for student captions: score each caption, decide, store both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sgv_data.filter.phrases import Instructions, instructions_of
from sgv_data.filter.policy import decide
from sgv_data.filter.rules import score
from sgv_data.manifest import FilterPolicy, Manifest
from sgv_data.offer import OFFER_TEXT
from sgv_data.prompts import Prompt, load_prompt, text_sha256
from sgv_data.records import CaptionReject, CaptionRow, CaptionSet, Outcome, StageReport, Verdict, counted
from sgv_data.stage import StageContext
from sgv_data.tables import read_table, table_files, write_table

VERSION = 2
KEEP: tuple[str, ...] = ()

_WRITTEN_BY = {CaptionSet.TEACHER: "collect", CaptionSet.STUDENT: "expand"}


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """The policy and the prompts whose words count as leaked. Equal for both caption sets: their inputs differ."""
    return {
        "filter": manifest.filter.model_dump(mode="json"),
        "prompts": {prompt.prompt_id: prompt.sha256 for prompt in _prompts(manifest)},
        **({"offered": text_sha256(OFFER_TEXT)} if _offers(manifest) else {}),
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Writes one `Verdict` per answered caption, in hash order. Flat memory; made anew after an interruption."""
    instructions = instructions_of(_instructions(manifest, context))
    rows = read_table(context.input(_WRITTEN_BY[context.caption_set]), "captions", CaptionRow)
    context.progress.begin(f"judging the {context.caption_set}'s captions", None)
    reasons: Counter[CaptionReject | None] = Counter()

    def verdicts() -> Iterator[Verdict]:
        for row in rows:
            if row.outcome is Outcome.FAILED:
                continue
            verdict = judge(row, instructions, manifest.filter)
            reasons[verdict.reason] += 1
            context.progress.advance()
            yield verdict

    num_in = write_table(context.folder, "verdicts", Verdict, verdicts())
    num_kept = reasons.pop(None, 0)
    return StageReport(stage=context.stage, num_in=num_in, num_out=num_kept, rejected=counted(reasons))


def judge(row: CaptionRow, instructions: Instructions, policy: FilterPolicy) -> Verdict:
    """Scores and verdict of one caption."""
    scores = score(row.text, row.finish_reason, row.outcome, instructions)
    reason = decide(scores, policy)
    return Verdict(
        image_id=row.image_id,
        kept=reason is None,
        reason=reason,
        refusal_score=scores.refusal_score,
        cut_off_score=scores.cut_off_score,
        leak_share=scores.leak_share,
        repeated_share=scores.repeated_share,
        num_words=scores.num_words,
        num_chars=scores.num_chars,
    )


def _instructions(manifest: Manifest, context: StageContext) -> list[str]:
    """What must not turn up in captions. Words offered with a picture may: only what is said around them is one."""
    prompts = _prompts(manifest)
    known = {prompt.prompt_id for prompt in prompts}
    asked = _prompt_ids(context.input(_WRITTEN_BY[context.caption_set]))
    texts = [prompt.text for prompt in prompts]
    texts += [load_prompt(name, manifest.prompt_folders).text for name in sorted(asked - known)]
    return [*texts, OFFER_TEXT] if _offers(manifest) else texts


def _prompt_ids(folder: Path) -> set[str]:
    """The prompts of a caption table: retry rounds may have used others than the sources'."""
    found: set[str] = set()
    for path in table_files(folder, "captions"):
        found.update(pq.read_table(path, columns=["prompt_id"]).column(0).unique().to_pylist())
    return found


def _offers(manifest: Manifest) -> bool:
    return any(source.offer_text for source in manifest.images)


def _prompts(manifest: Manifest) -> list[Prompt]:
    """Every prompt of the run: the captioner may also repeat the teacher's."""
    names = {name for source in manifest.images for name in source.prompts}
    if manifest.captioner is not None:
        names.add(manifest.captioner.prompt)
    return [load_prompt(name, manifest.prompt_folders) for name in sorted(names)]
