"""The stage's table, made in one pass over the index from what the cache holds. A later pass gives equal rows.

A row is the answer to the first asking, unless that is no caption and a retry round brought one: then it is that one,
with the prompt, model and sampling that were really used, and `asked_again_for` says how the first asking ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply
from sgv_data.api.reply import ParsedReply
from sgv_data.collect.again import Round, set_aside
from sgv_data.collect.pending_again import Asking, asking_of, first_asking, rows_at_once
from sgv_data.collect.questions import Questions, sampling_of
from sgv_data.errors import BalanceError
from sgv_data.manifest import Manifest
from sgv_data.records import CaptionRow, CaptionSet, FailureClass, ImageRow, Outcome, image_order

__all__ = ["CaptionTable", "sampling_of"]


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer, and how it was asked for."""

    asking: Asking
    sent_sha256: str
    reply: StoredReply
    parsed: ParsedReply


class CaptionTable:
    """Makes caption rows and counts them by outcome and failure while they stream.

    `rounds`: every retry round that was ever begun, in order.
    """

    def __init__(
        self, manifest: Manifest, questions: Questions, cache: ReplyCache, session: str, rounds: Sequence[Round] = ()
    ) -> None:
        self._cache, self._session = cache, session
        self._first = first_asking(manifest, questions)
        self._again = [(each.outcome, asking_of(each, manifest)) for each in rounds]
        self._had_failures_set_aside = any(each.outcome is Outcome.FAILED for each in rounds)
        self.outcomes: Counter[Outcome] = Counter()
        self.failures: Counter[FailureClass] = Counter()

    def rows(self, index: Path) -> Iterator[CaptionRow]:
        """One row per picture that the teacher gets, in hash order.

        Raises:
            BalanceError: if a picture has neither an answer nor a failure.
        """
        for part in rows_at_once(index):
            yield from self.part(part)

    def part(self, part: list[ImageRow]) -> Iterator[CaptionRow]:
        """`rows` for some pictures that the teacher gets."""
        return map(self._counted, self._rows(part))

    def _rows(self, part: list[ImageRow]) -> Iterator[CaptionRow]:
        answers = self._answers(self._first, part)
        failures = self._failures([row for row in part if row.image_id not in answers])
        first = {image_id: answer.parsed.outcome for image_id, answer in answers.items()}
        first |= dict.fromkeys(failures, Outcome.FAILED)
        better = self._better(part, first) if self._again else {}
        failed_before = self._failed_before(answers) if self._had_failures_set_aside else set()
        for row in part:
            if (again := better.get(row.image_id)) is not None:
                yield self._answered(row, again, first[row.image_id])
            elif (answer := answers.get(row.image_id)) is not None:
                failed = answer.reply.request_key in failed_before
                yield self._answered(row, answer, Outcome.FAILED if failed else None)
            elif (failure := failures.get(row.image_id)) is not None:
                yield self._failed(row, *failure)
            else:
                raise BalanceError(f"collect: {row.image_id} has neither an answer nor a failure; please report this")

    def _counted(self, row: CaptionRow) -> CaptionRow:
        self.outcomes[row.outcome] += 1
        if row.failure is not None:
            self.failures[row.failure] += 1
        return row

    def _answers(self, asking: Asking, rows: list[ImageRow]) -> dict[str, _Answer]:
        """The answers to one way of asking, by image id."""
        keys = asking.keys(rows, self._cache)
        found = self._cache.get_many({key for key, _ in keys.values()})
        return {
            image_id: _Answer(asking, image.sha256, *found[key])
            for image_id, (key, image) in keys.items()
            if key in found
        }

    def _better(self, part: list[ImageRow], first: dict[str, Outcome]) -> dict[str, _Answer]:
        """The caption that the earliest round brought, for pictures whose first asking brought none."""
        better: dict[str, _Answer] = {}
        for outcome, asking in self._again:
            rows = [row for row in part if first.get(row.image_id) is outcome and row.image_id not in better]
            answers = self._answers(asking, rows) if rows else {}
            better |= {name: answer for name, answer in answers.items() if answer.parsed.outcome is Outcome.OK}
        return better

    def _failures(self, rows: list[ImageRow]) -> dict[str, tuple[str, str, StoredFailure]]:
        """Key, hash of the picture as sent (both "" where it was never sent) and failure, by image id."""
        if not rows:
            return {}
        keys = self._first.keys(rows, self._cache)
        subjects = [*(key for key, _ in keys.values()), *(image_order(row.image_id) for row in rows)]
        found = self._cache.failures(self._session, subjects)
        failures = {}
        for row in rows:
            key, sent_sha256 = ("", "")
            if row.image_id in keys:
                key, sent_sha256 = keys[row.image_id][0], keys[row.image_id][1].sha256
            failure = found.get(key) or found.get(image_order(row.image_id))
            if failure is not None:
                failures[row.image_id] = (key, sent_sha256, failure)
        return failures

    def _failed_before(self, answers: dict[str, _Answer]) -> set[str]:
        """The requests that failed at first and were answered when they were repeated."""
        keys = [answer.reply.request_key for answer in answers.values()]
        return set(self._cache.failures(set_aside(self._session), keys))

    def _answered(self, row: ImageRow, answer: _Answer, asked_again_for: Outcome | None) -> CaptionRow:
        reply, parsed, question = answer.reply, answer.parsed, answer.asking.questions.for_row(row)
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
            prompt_id=question.prompt.prompt_id,
            prompt_version=question.prompt.version,
            prompt_sha256=question.prompt.sha256,
            sampling=answer.asking.questions.sampling,
            finish_reason=parsed.finish_reason,
            image_sha256=row.sha256,
            sent_sha256=answer.sent_sha256,
            prompt_tokens=parsed.prompt_tokens,
            completion_tokens=parsed.completion_tokens,
            cost_usd=reply.cost_usd,
            request_key=reply.request_key,
            request_id=reply.request_id,
            attempts=reply.attempts,
            latency_s=reply.latency_s,
            created_utc=reply.created_utc,
            offered_text=question.offered_text,
            asked_again_for=asked_again_for,
            lane=reply.lane,
        )

    def _failed(self, row: ImageRow, key: str, sent_sha256: str, failure: StoredFailure) -> CaptionRow:
        questions = self._first.questions
        question = questions.for_row(row)
        return CaptionRow(
            image_id=row.image_id,
            text="",
            outcome=Outcome.FAILED,
            failure=failure.failure,
            detail=failure.detail,
            producer=CaptionSet.TEACHER,
            model=questions.teacher.model,
            model_revision="",
            prompt_id=question.prompt.prompt_id,
            prompt_version=question.prompt.version,
            prompt_sha256=question.prompt.sha256,
            sampling=questions.sampling,
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
            offered_text=question.offered_text if key else None,
        )
