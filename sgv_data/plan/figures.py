"""The numbers of a plan, as they are shown and as `--json` prints them. Money is US dollars."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from sgv_data.api.calibration import Calibration


class Figures(BaseModel):
    """A part of a plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Money(Figures):
    """What all of it will probably cost in one lane, and the most it can cost."""

    expected_usd: float
    most_usd: float


class SourcePlan(Figures):
    """One source, or all of them. Tokens are of all requests together.

    `left_out`: why pictures that were found are not used. `num_too_large`: asked for, but the provider would turn them
    down. `image_tokens` are exact where the model is known (`Plan.model_known`), else an upper bound.
    """

    name: str
    num_found: int
    left_out: dict[str, int]
    num_asked: int
    num_too_large: int
    num_captioned: int
    image_tokens: int
    prompt_tokens: int = Field(description="picture and text, calibrated where bills are known")
    output_tokens: int = Field(description="expected, calibrated where bills are known")
    most_prompt_tokens: int
    most_output_tokens: int
    upload_bytes: int
    captioned_bytes: int
    money: dict[str, Money] = Field(description="by lane: live, batch, flex; only those whose price is known")


class Duration(Figures):
    """How long the live lane takes at the manifest's limits. `by_limit`: seconds that each limit alone would take."""

    seconds: float
    binding: str
    by_limit: dict[str, float]
    latency_s: float
    latency_is_billed: bool


class Batches(Figures):
    """How the batch lane would cut the work. `rounds`: so many days at most, as the enqueued-token limit has it."""

    num_files: int
    rounds: int


class Disk(Figures):
    """About how many bytes the run folder will take."""

    replies_bytes: int
    tables_bytes: int
    shards_bytes: int


class WhatIf(Figures):
    """The same pictures asked about in another way."""

    label: str
    image_tokens_each: float | None
    money: dict[str, Money]


class Plan(Figures):
    """Everything `sgv plan` says."""

    name: str
    model: str
    model_known: bool
    detail: str
    max_side_px: int | str
    lane: str
    read_from: str = Field(description="index: a finished one; headers; sample")
    budget_usd: float | None
    prices_dated: str | None = Field(description="null: no price is known; empty: the manifest's own")
    sources: tuple[SourcePlan, ...]
    total: SourcePlan
    live: Duration
    batches: Batches
    disk: Disk
    what_ifs: tuple[WhatIf, ...]
    calibration: Calibration | None
    warnings: tuple[str, ...]
