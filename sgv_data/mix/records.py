"""What flows while a training file is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Images(StrEnum):
    """Which pictures the new rows show."""

    SAME = "same"
    DRAWN = "drawn"


class Match(StrEnum):
    """When two paths mean the same picture."""

    PATH = "path"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption and its picture: the path below the folder of all pictures, and the source it came from."""

    image: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Detail:
    """A row of the SFT file that asks for a detailed description, and where it lies there."""

    number: int
    offset_bytes: int
    num_bytes: int
    image: str
    lot: int


@dataclass(frozen=True, slots=True)
class MixPlan:
    """How the new rows are chosen.

    `shares`: of the rows that can be replaced, one file each; `weights`: source -> part of the drawn pictures, none:
    all pictures have the same chance.
    """

    images: Images
    shares: tuple[float, ...] = (1.0,)
    seed: int = 0
    match: Match = Match.PATH
    weights: Mapping[str, float] | None = None
    questions: tuple[str, ...] = ()


class Replaced(BaseModel):
    """One replaced row, as listed: `row` counts from 0; hashes and lengths are those of the captions."""

    model_config = ConfigDict(extra="forbid")

    row: int
    old_id: str
    new_id: str
    old_image: str
    new_image: str
    source: str
    question: str
    old_sha256: str
    new_sha256: str
    old_chars: int
    new_chars: int


class MixFile(BaseModel):
    """One written file."""

    model_config = ConfigDict(extra="forbid")

    name: str
    captions: str = Field(description="the set whose captions it holds")
    share: float
    replaced: int
    by_source: dict[str, int]
    listing: str = Field(description="the file beside it that lists every replaced row")
    num_bytes: int
    sha256: str


class MixReport(BaseModel):
    """What was replaced, in numbers. Equal inputs, plan and seed give equal reports."""

    model_config = ConfigDict(extra="forbid")

    sft: str
    sft_rows: int
    detail_rows: int
    by_question: dict[str, int]
    other_detail_rows: int = Field(description="asked for in the same words, but of another form; left as they are")
    images: Images
    seed: int
    match: Match | None
    weights: dict[str, float]
    without_caption: int = Field(description="detail rows whose picture the set of captions does not have")
    ambiguous: int = Field(description="of these: whose picture's name several pictures of the set have")
    passed_over: dict[str, int] = Field(description="entries of the set of captions that are no captions")
    files: list[MixFile]


class PretrainReport(BaseModel):
    """What a pre-training file holds."""

    model_config = ConfigDict(extra="forbid")

    captions: str
    rows: int
    by_source: dict[str, int]
    seed: int
    passed_over: dict[str, int]
    files: list[str]
