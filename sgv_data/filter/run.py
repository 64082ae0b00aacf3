"""The stage `filter`, run for teacher and for student captions: score each caption, decide, store both.

Scores outlive `--redo` (`stored.py`): another policy over the same captions takes seconds.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sgv_data.filter.language import languages_of_texts
from sgv_data.filter.phrases import Instructions, instructions_of
from sgv_data.filter.policy import KEPT, REASONS, count_reasons, decide, decide_table
from sgv_data.filter.rules import SCORING_VERSION, score
from sgv_data.filter.scoring import score_table, set_notes
from sgv_data.filter.stored import FACTS, TABLE, scored_from, store_scores, stored_scores, write_columns
from sgv_data.manifest import FilterPolicy, Manifest
from sgv_data.offer import OFFER_TEXT
from sgv_data.prompts import Prompt, load_prompt, text_sha256
from sgv_data.records import CaptionRow, CaptionSet, StageReport, Verdict, counted
from sgv_data.stage import StageContext
from sgv_data.tables import schema_of, table_files

VERSION = 3
KEEP: tuple[str, ...] = (f"{TABLE}-*.parquet", FACTS)

WRITTEN_BY = {CaptionSet.TEACHER: "collect", CaptionSet.STUDENT: "expand"}


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """The policy, the rules' version and the prompts whose words count as leaked. Equal for both caption sets: their
    inputs differ."""
    return {
        "filter": manifest.filter.model_dump(mode="json"),
        "scoring": SCORING_VERSION,
        "prompts": {prompt.prompt_id: prompt.sha256 for prompt in _prompts(manifest)},
        **({"offered": text_sha256(OFFER_TEXT)} if _offers(manifest) else {}),
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Writes one `ScoreRow` and one `Verdict` per answered caption, in hash order.

    Scores of the same captions by the same rules are used again; what was half written is made anew.
    """
    captions = context.input(WRITTEN_BY[context.caption_set])
    texts = _instructions(manifest, captions)
    made_from = scored_from(captions, texts)
    scores = stored_scores(context.folder, made_from)
    reused = scores is not None
    if scores is None:
        context.progress.begin(f"scoring the {context.caption_set}'s captions", None)
        scores = score_table(captions, instructions_of(texts), context.progress)
        store_scores(context.folder, scores, made_from)
    policy = resolved_policy(manifest)
    codes = decide_table(scores, policy)
    write_columns(context.folder, "verdicts", _verdicts(scores, codes))
    reasons = count_reasons(codes)
    num_kept = reasons.pop(None, 0)
    return StageReport(
        stage=context.stage,
        num_in=len(scores),
        num_out=num_kept,
        rejected=counted(reasons),
        from_cache=num_kept if reused else 0,
        notes=set_notes(scores) | {"languages_wanted": ", ".join(policy.language.wanted or ()) or "any"},
    )


def judge(row: CaptionRow, instructions: Instructions, policy: FilterPolicy) -> Verdict:
    """Scores and verdict of one caption by itself: without what only its set tells."""
    scores = score(row.text, row.finish_reason, row.outcome, instructions)
    reason = decide(scores, policy)
    return Verdict(image_id=row.image_id, kept=reason is None, reason=reason, **asdict(scores))


def resolved_policy(manifest: Manifest) -> FilterPolicy:
    """The manifest's policy, with the languages of the prompts where it names none."""
    policy = manifest.filter
    if policy.language.wanted is not None:
        return policy
    wanted = languages_of_texts([prompt.text for prompt in _prompts(manifest)])
    return policy.model_copy(update={"language": policy.language.model_copy(update={"wanted": wanted})})


def _verdicts(scores: pa.Table, codes: npt.NDArray[np.int8]) -> pa.Table:
    schema = schema_of(Verdict)
    names = np.array([*(reason.value for reason in REASONS), ""], dtype=object)[codes]
    kept = codes == KEPT
    table = scores.drop_columns(["twin_place"]).append_column("kept", pa.array(kept))
    table = table.append_column("reason", pa.array(names, pa.string(), mask=kept))
    return table.select(schema.names).cast(schema)


def _instructions(manifest: Manifest, captions: Path) -> list[str]:
    """What must not turn up in captions. Words offered with a picture may: only what is said around them is one."""
    prompts = _prompts(manifest)
    known = {prompt.prompt_id for prompt in prompts}
    texts = [prompt.text for prompt in prompts]
    asked = _prompt_ids(captions)
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
