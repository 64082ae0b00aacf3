"""An engine's answers as rows of the captions table."""

from __future__ import annotations

from dataclasses import dataclass

from sgv_data.captioner.setting import Setting
from sgv_data.expand.decoding import Opened
from sgv_data.expand.engine import Answer, Finish
from sgv_data.prompts import Prompt
from sgv_data.records import CaptionRow, CaptionSet, FailureClass, ImageRow, Outcome
from sgv_data.run_folder import canonical_json, digest, utc_now


@dataclass(frozen=True, slots=True)
class Asking:
    """One asking about a picture: `number` from 1, `first` how the first one ended where this is a later one."""

    setting: Setting
    number: int = 1
    first: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Writer:
    """What all captions of a run have in common. `engine` is recorded with each; `seed` is that of the sampling;
    `made_by` is the hash of it all."""

    model: str
    model_revision: str
    prompt: Prompt
    engine: tuple[tuple[str, str], ...]
    seed: int
    made_by: str

    def sampling(self, setting: Setting) -> str:
        """What is recorded of the decoding, as canonical JSON. The seed is the run's: that of a picture follows."""
        seed = {"seed": self.seed} if setting.samples else {}
        return canonical_json({**dict(self.engine), **setting.described(), **seed})

    def unopened(self, row: ImageRow, opened: Opened, asking: Asking) -> CaptionRow:
        """The row of a picture that never reached the model."""
        failed = Answer(0, "", Finish.FAILED, 0, 0, 0.0)
        return self._row(row, opened, failed, asking, Outcome.FAILED, opened.failure, opened.detail)

    def broken(self, row: ImageRow, asking: Asking) -> CaptionRow:
        """The row of a picture at which engines broke down again and again."""
        failed = Answer(0, "", Finish.FAILED, 0, 0, 0.0)
        detail = "the engine broke down at this picture again and again, also alone"
        nothing = Opened(None, "", None, None)
        return self._row(row, nothing, failed, asking, Outcome.FAILED, FailureClass.BAD_IMAGE, detail)

    def answered(
        self, row: ImageRow, opened: Opened, answer: Answer, asking: Asking, outcome: Outcome
    ) -> CaptionRow:
        """The row of a picture that the model was given. `opened` may have lost its pixels by now."""
        if answer.finish is Finish.FAILED:
            return self._row(row, opened, answer, asking, Outcome.FAILED, answer.failure, answer.text)
        return self._row(row, opened, answer, asking, outcome, None, None)

    def _row(
        self, row: ImageRow, opened: Opened, answer: Answer, asking: Asking, outcome: Outcome,
        failure: FailureClass | None, detail: str | None,
    ) -> CaptionRow:  # fmt: skip
        failed = failure is not None
        sampling = self.sampling(asking.setting)
        key = {"made_by": self.made_by, "sent_sha256": opened.sent_sha256, "sampling": sampling}
        return CaptionRow(
            image_id=row.image_id,
            text="" if failed else answer.text,
            outcome=outcome,
            failure=failure,
            detail=detail,
            producer=CaptionSet.STUDENT,
            model=self.model,
            model_revision=self.model_revision,
            prompt_id=self.prompt.prompt_id,
            prompt_version=self.prompt.version,
            prompt_sha256=self.prompt.sha256,
            sampling=sampling,
            finish_reason="" if failed else answer.finish.value,
            image_sha256=row.sha256,
            sent_sha256=opened.sent_sha256,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=None,
            request_key=answer.request_key or digest(key),
            request_id=answer.request_id,
            attempts=asking.number,
            latency_s=round(answer.seconds, 6),
            created_utc=utc_now(),
            asked_again_for=asking.first,
        )
