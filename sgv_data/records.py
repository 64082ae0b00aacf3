"""What flows between stages.

Rows of tables are frozen dataclasses (see `tables.py`), reports and records are pydantic models. All closed sets of
reasons live here: why a picture is no row (`ImageReject`), why a caption is not kept (`CaptionReject`), why a picture
got no caption (`FailureClass`).

Every table is in **hash order**: sorted by `image_order(image_id)`. Joins are then merges in flat memory, sources mix,
and neither the order of the input nor the machine matters.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sgv_data.errors import BalanceError


def image_order(image_id: str) -> str:
    """The place of a picture in every table, as 20 hex digits that depend on nothing but its id."""
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:20]


class ImageReject(StrEnum):
    """Why an input is not used as a picture."""

    EMPTY_FILE = "empty_file"
    UNREADABLE_FILE = "unreadable_file"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED_IMAGE = "truncated_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    ABSURD_ASPECT = "absurd_aspect"
    DUPLICATE_OF = "duplicate_of"


class CaptionReject(StrEnum):
    """Why a caption is not kept. In the order in which rules decide: the first that applies is the reason."""

    REFUSAL = "refusal"
    EMPTY = "empty"
    BROKEN_ENCODING = "broken_encoding"
    LIST_OR_MARKUP = "list_or_markup"
    PROMPT_LEAK = "prompt_leak"
    REPETITION = "repetition"
    CUT_OFF = "cut_off"
    WRONG_LANGUAGE = "wrong_language"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    HEDGING = "hedging"
    SPECULATION = "speculation"
    PERSONAL_DATA = "personal_data"
    TOXIC = "toxic"
    BOILERPLATE = "boilerplate"
    NEAR_DUPLICATE = "near_duplicate"


class FailureClass(StrEnum):
    """Why a picture has no caption although one was asked for."""

    BAD_IMAGE = "bad_image"
    IMAGE_CHANGED = "image_changed"
    BLOCKED = "blocked"
    BAD_REQUEST = "bad_request"
    SERVER_ERROR = "server_error"
    BAD_REPLY = "bad_reply"
    TIMED_OUT = "timed_out"


class Outcome(StrEnum):
    """How asking for one caption ended."""

    OK = "ok"
    TRUNCATED = "truncated"
    LOOPED = "looped"
    REFUSED = "refused"
    FAILED = "failed"


class Lane(StrEnum):
    """How a request went to the provider."""

    LIVE = "live"
    BATCH = "batch"


class CaptionSet(StrEnum):
    """Who wrote a set of captions."""

    TEACHER = "teacher"
    STUDENT = "student"


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One input picture, usable or rejected. `location` is where its source finds the bytes again."""

    image_id: str
    source: str
    key: str
    location: str
    license: str
    text: str | None
    num_bytes: int
    sha256: str
    format: str
    width_px: int
    height_px: int
    phash: str
    reject: ImageReject | None
    duplicate_of: str | None
    detail: str | None
    for_teacher: bool
    for_expand: bool


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """One caption, or the way in which asking for it failed. One row per picture asked about.

    `sampling` is canonical JSON of the decoding settings; `sent_sha256` the hash of the bytes the model saw;
    `image_sha256` that of the picture's own file. `offered_text` are the source's own words that the teacher was shown;
    `asked_again_for` is the outcome of the first asking when a later one gave this caption. `created_utc`, `latency_s`,
    `request_id`, `attempts` and `lane` may differ between equal runs and never reach a shard.
    """

    image_id: str
    text: str
    outcome: Outcome
    failure: FailureClass | None
    detail: str | None
    producer: CaptionSet
    model: str
    model_revision: str
    prompt_id: str
    prompt_version: int
    prompt_sha256: str
    sampling: str
    finish_reason: str
    image_sha256: str
    sent_sha256: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    request_key: str
    request_id: str | None
    attempts: int
    latency_s: float
    created_utc: str
    offered_text: str | None = None
    asked_again_for: Outcome | None = None
    lane: Lane | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Kept or not, why, and every score the decision rests on. Scores are defined in `ScoreRow`."""

    image_id: str
    kept: bool
    reason: CaptionReject | None
    refusal_score: float
    cut_off_score: float
    leak_share: float
    repeated_share: float
    num_words: int
    num_chars: int
    num_garbled: int = 0
    list_share: float = 0.0
    num_marks: int = 0
    language: str = ""
    foreign_share: float = 0.0
    hedge_density: float = 0.0
    speculation_density: float = 0.0
    num_personal: int = 0
    num_toxic: int = 0
    stock_opening: int = 0
    opening_share: float = 0.0
    twin_similarity: float = 0.0
    twin_of: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Every score of one caption, before any threshold: those of `filter/rules.py`, and those of its place in its set.

    `opening_share` is the share of the set's captions that begin with the same words. `twin_of` is the most similar
    caption before this one in hash order, at row `twin_place` (-1: none); `twin_similarity` the estimated share of
    their runs of words that both have.
    """

    image_id: str
    refusal_score: float
    cut_off_score: float
    leak_share: float
    repeated_share: float
    num_words: int
    num_chars: int
    num_garbled: int
    list_share: float
    num_marks: int
    language: str
    foreign_share: float
    hedge_density: float
    speculation_density: float
    num_personal: int
    num_toxic: int
    stock_opening: int
    opening_share: float
    twin_similarity: float
    twin_of: str | None
    twin_place: int


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One published sample: where its members lie inside its shard (offsets of the payload, in bytes).

    `source_text_offered`: the source's own words were shown to whoever wrote the caption.
    """

    image_id: str
    key: str
    split: str
    shard: str
    image_name: str
    image_offset_bytes: int
    image_num_bytes: int
    image_sha256: str
    text_offset_bytes: int
    text_num_bytes: int
    text_sha256: str
    json_offset_bytes: int
    json_num_bytes: int
    json_sha256: str
    producer: CaptionSet
    source_text_offered: bool = False


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One tar."""

    shard: str
    split: str
    num_samples: int
    num_bytes: int
    sha256: str


class StageReport(BaseModel):
    """The numbers of a stage. `num_in` is what it was given; everything must come out somewhere."""

    model_config = ConfigDict(extra="forbid")

    stage: str
    num_in: int
    num_out: int
    rejected: dict[str, int] = Field(default_factory=dict)
    failed: dict[str, int] = Field(default_factory=dict)
    skipped: int = Field(default=0, description="given, but not asked for by the manifest")
    from_cache: int = Field(default=0, description="of num_out and failed: answered without new work")
    notes: dict[str, float | int | str | None] = Field(default_factory=dict)

    def balance(self) -> StageReport:
        """Itself, if in = out + rejected + failed + skipped.

        Raises:
            BalanceError: if a picture was lost or counted twice.
        """
        accounted = self.num_out + sum(self.rejected.values()) + sum(self.failed.values()) + self.skipped
        if accounted != self.num_in:
            raise BalanceError(
                f"{self.stage}: {self.num_in} went in but {accounted} are accounted for "
                f"(out {self.num_out}, rejected {sum(self.rejected.values())}, failed {sum(self.failed.values())}, "
                f"skipped {self.skipped}); please report this"
            )
        return self


def counted(reasons: Counter[Any]) -> dict[str, int]:
    """A counter of enum members as the plain, sorted dictionary a report holds."""
    return {str(name): reasons[name] for name in sorted(reasons, key=str)}


class StageRecord(BaseModel):
    """What a finished stage was made from and what it made. Written last: its presence means the stage is done."""

    model_config = ConfigDict(extra="forbid")

    stage: str
    fingerprint: str
    identity: dict[str, Any]
    inputs: dict[str, str]
    input_files: dict[str, str] = Field(
        default_factory=dict, description="per input a digest of its files; two makings of it may differ"
    )
    code_version: str
    libraries: dict[str, str]
    started_utc: str
    finished_utc: str | None = None
    report: StageReport | None = None
    files: dict[str, FileStamp] = Field(default_factory=dict)


class FileStamp(BaseModel):
    """Size and hash of one file a stage made."""

    model_config = ConfigDict(extra="forbid")

    num_bytes: int
    sha256: str
