"""The stage's table, made in one pass over the index from what the cache holds. A later pass gives equal rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply
from sgv_data.api.reply import ParsedReply
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan import asked_rows, in_parts
from sgv_data.errors import BalanceError
from sgv_data.manifest import Manifest, Teacher
from sgv_data.prompts import Prompt
from sgv_data.records import CaptionRow, CaptionSet, FailureClass, ImageRow, Outcome, image_order
from sgv_data.run_folder import canonical_json


def sampling_of(teacher: Teacher) -> dict[str, float | int | None]:
    """How the teacher decodes; null: its own way."""
    return {
        "max_completion_tokens": teacher.max_completion_tokens,
        "temperature": teacher.temperature,
        "seed": teacher.seed,
    }


class CaptionTable:
    """Makes caption rows and counts them by outcome and failure while they stream."""

    def __init__(self, manifest: Manifest, questions: Questions, cache: ReplyCache, session: str) -> None:
        self._manifest, self._questions, self._cache, self._session = manifest, questions, cache, session
        self._sampling = canonical_json(sampling_of(manifest.teacher))
        self._recipe = recipe_name(manifest.teacher.image)
        self.outcomes: Counter[Outcome] = Counter()
        self.failures: Counter[FailureClass] = Counter()

    def rows(self, index: Path) -> Iterator[CaptionRow]:
        """One row per picture that the teacher gets, in hash order.

        Raises:
            BalanceError: if a picture has neither an answer nor a failure.
        """
        for part in in_parts(asked_rows(index)):
            sent = self._cache.sent(self._recipe, {row.sha256 for row in part})
            keys = {row.image_id: self._questions.key(row, sent[row.sha256]) for row in part if row.sha256 in sent}
            subjects = [*keys.values(), *(image_order(row.image_id) for row in part)]
            failures = self._cache.failures(self._session, subjects)
            for row in part:
                key = keys.get(row.image_id, "")
                found = self._cache.get(key) if key else None
                sent_sha256 = sent[row.sha256].sha256 if key else ""
                failure = failures.get(key) or failures.get(image_order(row.image_id))
                yield self._counted(self._row(row, key, sent_sha256, found, failure))

    def _counted(self, row: CaptionRow) -> CaptionRow:
        self.outcomes[row.outcome] += 1
        if row.failure is not None:
            self.failures[row.failure] += 1
        return row

    def _row(
        self,
        row: ImageRow,
        key: str,
        sent_sha256: str,
        found: tuple[StoredReply, ParsedReply] | None,
        failure: StoredFailure | None,
    ) -> CaptionRow:
        prompt = self._questions.for_row(row).prompt
        if found is not None:
            return self._answered(row, prompt, sent_sha256, *found)
        if failure is not None:
            return self._failed(row, prompt, key, sent_sha256, failure)
        raise BalanceError(f"collect: {row.image_id} has neither an answer nor a failure; please report this")

    def _answered(
        self, row: ImageRow, prompt: Prompt, sent_sha256: str, reply: StoredReply, parsed: ParsedReply
    ) -> CaptionRow:
        failed = parsed.outcome is Outcome.FAILED
        return CaptionRow(
            image_id=row.image_id,
            text="" if failed else parsed.text,
            outcome=parsed.outcome,
            failure=FailureClass.BAD_REPLY if failed else None,
            detail=parsed.problem,
            producer=CaptionSet.TEACHER,
            model=reply.model,
            model_revision=parsed.model,
            prompt_id=prompt.prompt_id,
            prompt_version=prompt.version,
            prompt_sha256=prompt.sha256,
            sampling=self._sampling,
            finish_reason=parsed.finish_reason,
            image_sha256=row.sha256,
            sent_sha256=sent_sha256,
            prompt_tokens=parsed.prompt_tokens,
            completion_tokens=parsed.completion_tokens,
            cost_usd=reply.cost_usd,
            request_key=reply.request_key,
            request_id=reply.request_id,
            attempts=reply.attempts,
            latency_s=reply.latency_s,
            created_utc=reply.created_utc,
        )

    def _failed(
        self, row: ImageRow, prompt: Prompt, key: str, sent_sha256: str, failure: StoredFailure
    ) -> CaptionRow:
        return CaptionRow(
            image_id=row.image_id,
            text="",
            outcome=Outcome.FAILED,
            failure=failure.failure,
            detail=failure.detail,
            producer=CaptionSet.TEACHER,
            model=self._manifest.teacher.model,
            model_revision="",
            prompt_id=prompt.prompt_id,
            prompt_version=prompt.version,
            prompt_sha256=prompt.sha256,
            sampling=self._sampling,
            finish_reason="",
            image_sha256=row.sha256,
            sent_sha256=sent_sha256,
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=None,
            request_key=key,
            request_id=None,
            attempts=failure.attempts,
            latency_s=0.0,
            created_utc=failure.created_utc,
        )
