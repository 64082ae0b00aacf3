"""The words of Files and Batches: what a provider takes, what it says, and what a line of a batch file looks like."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict

CHAT_URL = "/v1/chat/completions"
INTENT = "sgv_intent"
RUN = "sgv_run"


class BatchLimits(BaseModel):
    """What a provider takes: dated data, see `batch_limits.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dated: str
    source: str
    max_requests_per_file: int
    max_bytes_per_file: int
    max_batches_per_hour: int
    max_custom_id_chars: int
    completion_window: str


@cache
def batch_limits() -> BatchLimits:
    """The limits that come with the package."""
    return BatchLimits.model_validate_json(files(__package__).joinpath("batch_limits.json").read_bytes())


class Said(BaseModel):
    """Something a provider said; what is not needed is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class RequestCounts(Said):
    total: int = 0
    completed: int = 0
    failed: int = 0


class ValidationProblem(Said):
    code: str | None = None
    message: str | None = None
    line: int | None = None


class _Problems(Said):
    data: tuple[ValidationProblem, ...] | None = None


class RemoteFile(Said):
    """A file as the provider knows it."""

    id: str
    filename: str | None = None
    bytes: int | None = None
    created_at: float | None = None


class RemoteBatch(Said):
    """A batch as the provider knows it. `status` is its own word."""

    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: float | None = None
    metadata: dict[str, Any] | None = None
    request_counts: RequestCounts | None = None
    errors: _Problems | None = None

    @property
    def intent(self) -> str | None:
        """The name that it was given here before it was sent."""
        return (self.metadata or {}).get(INTENT)

    @property
    def problems(self) -> tuple[ValidationProblem, ...]:
        """Why the provider would not take the file at all."""
        return (self.errors.data or ()) if self.errors else ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("completed", "failed", "expired", "cancelled", "canceled")


class Page(Said):
    """One page of a list."""

    data: tuple[dict[str, Any], ...]
    has_more: bool = False


def wire_line(custom_id: str, body: bytes) -> bytes:
    """One line of a batch file. `body` is JSON without line breaks."""
    return b'{"custom_id":%b,"method":"POST","url":"%b","body":%b}\n' % (
        json.dumps(custom_id).encode(), CHAT_URL.encode(), body,
    )  # fmt: skip
