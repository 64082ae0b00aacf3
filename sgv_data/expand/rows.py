"""An engine's answers as rows of the captions table."""

from __future__ import annotations

from dataclasses import dataclass

from sgv_data.expand.decoding import Opened
from sgv_data.expand.engine import Answer, Finish
from sgv_data.prompts import Prompt
from sgv_data.records import CaptionRow, CaptionSet, FailureClass, ImageRow, Outcome
from sgv_data.run_folder import digest, utc_now

_OUTCOMES = {Finish.STOP: Outcome.OK, Finish.LENGTH: Outcome.TRUNCATED, Finish.FAILED: Outcome.FAILED}


@dataclass(frozen=True, slots=True)
class Writer:
    """What all captions of a run have in common. `sampling` is canonical JSON; `made_by` is the hash of it all."""

    model: str
    model_revision: str
    prompt: Prompt
    sampling: str
    made_by: str

    def unopened(self, row: ImageRow, opened: Opened) -> CaptionRow:
        """The row of a picture that never reached the model."""
        failed = Answer(0, "", Finish.FAILED, 0, 0, 0.0)
        return self._row(row, opened, failed, opened.failure, opened.detail)

    def answered(self, row: ImageRow, opened: Opened, answer: Answer) -> CaptionRow:
        """The row of a picture that the model was given. `opened` may have lost its pixels by now."""
        if answer.finish is Finish.FAILED:
            return self._row(row, opened, answer, FailureClass.BAD_IMAGE, answer.text)
        return self._row(row, opened, answer, None, None)

    def _row(
        self, row: ImageRow, opened: Opened, answer: Answer, failure: FailureClass | None, detail: str | None
    ) -> CaptionRow:
        failed = failure is not None
        return CaptionRow(
            image_id=row.image_id,
            text="" if failed else answer.text,
            outcome=_OUTCOMES[answer.finish],
            failure=failure,
            detail=detail,
            producer=CaptionSet.STUDENT,
            model=self.model,
            model_revision=self.model_revision,
            prompt_id=self.prompt.prompt_id,
            prompt_version=self.prompt.version,
            prompt_sha256=self.prompt.sha256,
            sampling=self.sampling,
            finish_reason="" if failed else answer.finish.value,
            image_sha256=row.sha256,
            sent_sha256=opened.sent_sha256,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=None,
            request_key=digest({"made_by": self.made_by, "sent_sha256": opened.sent_sha256}),
            request_id=None,
            attempts=1,
            latency_s=answer.seconds,
            created_utc=utc_now(),
        )
