"""The one final state of every input, and the proof that states and the stages' own reports agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from sgv_data.errors import BalanceError
from sgv_data.records import CaptionSet, ImageReject, Outcome, StageReport, counted
from sgv_data.report.pictures import CAPTIONS_OF, VERDICTS_OF, Answer, Picture

NOT_ASKED_FOR = "not_asked_for"


class State(StrEnum):
    """Where an input has ended. `pending`: a stage has still to run, or the manifest asks for no caption."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class PictureState:
    """A row of `states-*.parquet`. `reason` says more: who wrote the caption published, why rejected (`ImageReject`,
    `CaptionReject`), of which picture a duplicate, why failed (`FailureClass`), which stage is awaited."""

    image_id: str
    source: str
    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the manifest asks for and what is done: enough to tell a picture's state."""

    caption_sets: tuple[CaptionSet, ...]
    done: frozenset[str]
    active: tuple[str, ...]

    @property
    def awaited_after_shard(self) -> str | None:
        """The stage that must still run before samples are published, if any."""
        return "publish" if "publish" in self.active and "publish" not in self.done else None


def state_of(picture: Picture, plan: Plan) -> PictureState:
    """The state of one input."""
    state, reason = _state(picture, plan)
    return PictureState(picture.image.image_id, picture.image.source, state, reason)


def _state(picture: Picture, plan: Plan) -> tuple[State, str]:
    image = picture.image
    if image.reject is ImageReject.DUPLICATE_OF:
        return State.DUPLICATE, image.duplicate_of or ""
    if image.reject is not None:
        return State.REJECTED, image.reject
    if picture.sample is not None:
        awaited = plan.awaited_after_shard
        return (State.PENDING, awaited) if awaited else (State.PUBLISHED, picture.sample.producer)
    if picture.failure is not None:
        return State.FAILED, picture.failure.failure
    return _without_sample(picture, plan)


def _without_sample(picture: Picture, plan: Plan) -> tuple[State, str]:
    """The first set that was asked gives the reason, unless a later one has a caption or may still get one."""
    first: tuple[State, str] | None = None
    for caption_set in plan.caption_sets:
        if not _asked(picture, caption_set):
            continue
        found = _answer_state(picture.answer(caption_set), caption_set, plan)
        if found[0] is State.PENDING:
            return found
        first = first or found
    return first or (State.PENDING, NOT_ASKED_FOR)


def _asked(picture: Picture, caption_set: CaptionSet) -> bool:
    return picture.image.for_teacher if caption_set is CaptionSet.TEACHER else picture.image.for_expand


def _answer_state(answer: Answer | None, caption_set: CaptionSet, plan: Plan) -> tuple[State, str]:
    if CAPTIONS_OF[caption_set] not in plan.done:
        return State.PENDING, CAPTIONS_OF[caption_set]
    if answer is not None and answer.caption.outcome is Outcome.FAILED:
        return State.FAILED, answer.caption.failure or "unknown"
    if VERDICTS_OF[caption_set] not in plan.done:
        return State.PENDING, VERDICTS_OF[caption_set]
    if answer is not None and answer.verdict is not None and not answer.verdict.kept:
        return State.REJECTED, answer.verdict.reason or "unknown"
    # Kept but not in a shard, or lost: the balance below tells the two apart.
    return State.PENDING, "shard"


class Balance:
    """Counts pictures as they stream by, then compares with the reports of the stages that counted them first."""

    def __init__(self) -> None:
        self.states: Counter[tuple[State, str]] = Counter()
        self._images: Counter[str | None] = Counter()
        self._captions: dict[CaptionSet, Counter[str | None]] = {each: Counter() for each in CaptionSet}
        self._verdicts: dict[CaptionSet, Counter[str | None]] = {each: Counter() for each in CaptionSet}
        self._num_samples = 0

    def add(self, picture: Picture, state: PictureState) -> None:
        """Counts one picture."""
        self.states[state.state, "" if state.state is State.DUPLICATE else state.reason] += 1
        self._images[picture.image.reject] += 1
        self._num_samples += picture.sample is not None
        for caption_set in CaptionSet:
            answer = picture.answer(caption_set)
            if answer is None:
                continue
            self._captions[caption_set][answer.caption.failure] += 1
            if answer.verdict is not None:
                self._verdicts[caption_set][answer.verdict.reason] += 1

    def check(self, reports: dict[str, StageReport]) -> None:
        """Sees that every stage's table holds what its report says, and that states cover all inputs.

        Raises:
            BalanceError: naming the stage and the numbers that differ.
        """
        seen = {"index": self._images}
        for caption_set in CaptionSet:
            seen[CAPTIONS_OF[caption_set]] = self._captions[caption_set]
            seen[VERDICTS_OF[caption_set]] = self._verdicts[caption_set]
        for stage, counts in seen.items():
            if (report := reports.get(stage)) is not None:
                _agree(stage, "out", report.num_out, counts[None])
                told = {**report.rejected, **report.failed}
                found = counted(Counter({key: count for key, count in counts.items() if key is not None}))
                for reason in sorted({*told, *found}):
                    _agree(stage, reason, told.get(reason, 0), found.get(reason, 0))
        if (report := reports.get("index")) is not None:
            _agree("report", "inputs with a state", report.num_in, self.states.total())
        if (report := reports.get("shard")) is not None:
            _agree("shard", "out", report.num_out, self._num_samples)
            _agree("shard", "pictures with a kept caption but no sample", 0, self.states[State.PENDING, "shard"])


def _agree(stage: str, what: str, told: int, found: int) -> None:
    if told != found:
        raise BalanceError(
            f"{stage}: its report says {what} {told}, its table holds {found}; make the stage anew with --redo {stage}"
        )
