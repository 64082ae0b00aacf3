"""What `collect` is doing, at one moment: the one source of the panel, of `progress.jsonl`, of `sgv status`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from sgv_data.records import Lane


class EndpointState(BaseModel):
    """One endpoint. `binding` is what keeps it from sending faster now; rates are what it may do per minute now."""

    model_config = ConfigDict(extra="forbid")

    name: str
    in_flight: int
    may_be_in_flight: int
    requests_per_minute: float | None
    tokens_per_minute: float | None
    binding: str
    paused_s: float = 0.0
    out: bool = False


class Snapshot(BaseModel):
    """Counts are of pictures and of this command, except `num_done` and `spent_usd`, which count earlier ones too.

    `outcomes` and `failures` are by class; `faults` counts tries that went wrong by their name. Money is None where no
    price is known. `projected_usd` is what all will have cost; `eta_s` None while it cannot be told.
    """

    model_config = ConfigDict(extra="forbid")

    at_utc: str
    lane: Lane
    num_total: int
    num_done: int
    num_done_now: int
    in_flight: int
    backing_off: int
    per_s: float
    tokens_per_minute: float
    binding: str
    eta_s: float | None
    spent_usd: float | None
    projected_usd: float | None
    budget_usd: float | None
    outcomes: dict[str, int]
    failures: dict[str, int]
    faults: dict[str, int]
    endpoints: tuple[EndpointState, ...]
