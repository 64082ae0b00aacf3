"""The stage `filter`, run for teacher and for student captions: score each caption, decide, store both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sgv_data.filter.phrases import Instructions, instructions_of
from sgv_data.filter.policy import decide
from sgv_data.filter.rules import score
from sgv_data.manifest import FilterPolicy, Manifest
from sgv_data.prompts import Prompt, load_prompt
from sgv_data.records import CaptionReject, CaptionRow, CaptionSet, Outcome, StageReport, Verdict, counted
from sgv_data.stage import StageContext
from sgv_data.tables import read_table, write_table

VERSION = 1
KEEP: tuple[str, ...] = ()

_WRITTEN_BY = {CaptionSet.TEACHER: "collect", CaptionSet.STUDENT: "expand"}


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """The policy and the prompts whose words count as leaked. Equal for both caption sets: their inputs differ."""
    return {
        "filter": manifest.filter.model_dump(mode="json"),
        "prompts": {prompt.prompt_id: prompt.sha256 for prompt in _prompts(manifest)},
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Writes one `Verdict` per answered caption, in hash order. Flat memory; made anew after an interruption."""
    instructions = instructions_of(prompt.text for prompt in _prompts(manifest))
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


def _prompts(manifest: Manifest) -> list[Prompt]:
    """Every prompt of the run: the captioner may also repeat the teacher's."""
    names = {name for source in manifest.images for name in source.prompts}
    if manifest.captioner is not None:
        names.add(manifest.captioner.prompt)
    return [load_prompt(name, manifest.prompt_folders) for name in sorted(names)]
