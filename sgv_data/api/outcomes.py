"""Every way in which a request can go wrong, classified once, as a value.

    Retry    the same request again after a pause; when the tries are used up, the row ends with `failure`
    Wait     the provider asks everybody to slow down: all workers pause, no try is used up
    EndRow   this request will never work: the row ends with `failure`
    Stop     no request will work here: the endpoint is left out; with no other one the run ends, rows stay pending

What decides is, in this order, the error's `code` and `type`, then the HTTP status. Message texts are shown to people
and never read by the program, since providers reword them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sgv_data.api.waiting import asked_wait_s
from sgv_data.errors import redact
from sgv_data.records import FailureClass


class FaultKind(StrEnum):
    """Where a request broke."""

    STATUS = "status"
    """An answer came, and it is an error."""
    UNREACHABLE = "unreachable"
    """No connection: nothing was sent, nothing can have been billed."""
    LOST = "lost"
    """The connection broke, or what came is no whole answer: it may have been billed."""
    TIMED_OUT = "timed_out"
    """No whole answer within the time limit: it may have been billed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is known of a failed request. Header names are in lower case; `key_words` say where its key came from."""

    kind: FaultKind
    detail: str
    status: int | None = None
    code: str | None = None
    error_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key_words: str = "check the key"

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider can have counted the request although no answer came."""
        return self.kind in (FaultKind.LOST, FaultKind.TIMED_OUT)

    @property
    def is_servers(self) -> bool:
        """Whether it speaks against the server, or the way there, whatever the request was."""
        return self.kind is not FaultKind.STATUS or (self.status or 0) >= 500 or self.status == 200

    @property
    def name(self) -> str:
        """The most telling identifier: code, type or status."""
        return self.code or self.error_type or (str(self.status) if self.status else self.kind.value)


@dataclass(frozen=True, slots=True)
class Retry:
    failure: FailureClass
    detail: str
    min_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """`seconds` None: the server did not say how long. `slow_down`: it says that the rate grew too fast."""

    seconds: float | None
    detail: str
    slow_down: bool = False


@dataclass(frozen=True, slots=True)
class EndRow:
    failure: FailureClass
    detail: str


@dataclass(frozen=True, slots=True)
class Stop:
    """No request will work at this endpoint. `comes_back`: it may again later, so that it is worth another look."""

    message: str
    comes_back: bool = False


Decision = Retry | Wait | EndRow | Stop

NO_CREDIT = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
BAD_IMAGE = frozenset(
    {
        "invalid_image_format",
        "invalid_image_url",
        "invalid_image",
        "invalid_base64_image",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "image_file_too_large",
        "image_file_not_found",
        "empty_image_file",
        "unsupported_image_media_type",
    }
)
BLOCKED = frozenset(
    {
        "content_policy_violation",
        "content_filter",
        "image_content_policy_violation",
        "invalid_prompt",
        "bio_policy",
        "moderation_blocked",
    }
)
SLOW_DOWN = frozenset(
    {
        "rate_limit_exceeded",
        "rate_limit_reached",
        "slow_down",
        "resource_unavailable",
        "flex_unavailable",
    }
)
TRY_AGAIN = frozenset({"server_is_overloaded", "failed_to_download_image"})
WRONG_KEY = frozenset({"invalid_api_key", "account_deactivated"})
UNKNOWN_MODEL = frozenset({"model_not_found"})

_RETRIED_STATUS = frozenset({408, 409, 425, 500, 502, 503, 504, *range(520, 530)})


def classify(fault: Fault) -> Decision:
    """What to do about a fault, looked at alone; `health.py` adds what only several faults together tell."""
    # A server's words may hold characters that no file or terminal takes.
    detail = redact(fault.detail).encode("utf-8", "replace").decode().rstrip(".")
    if fault.kind is FaultKind.TIMED_OUT:
        return Retry(FailureClass.TIMED_OUT, detail)
    if fault.kind is FaultKind.UNREACHABLE:
        return Retry(FailureClass.SERVER_ERROR, detail)
    if fault.kind is FaultKind.LOST:
        bad_reply = fault.status is not None
        return Retry(FailureClass.BAD_REPLY if bad_reply else FailureClass.SERVER_ERROR, detail)
    by_name = _by_name({fault.code, fault.error_type}, fault, detail)
    return by_name if by_name is not None else _by_status(fault, detail)


def _by_name(names: set[str | None], fault: Fault, detail: str) -> Decision | None:
    if names & NO_CREDIT:
        return Stop(f"the provider says there is no credit left ({fault.name}): {detail}. Add credit or raise the "
                    "limit with the provider, then run the same command again", comes_back=True)
    if names & WRONG_KEY:
        return _refused_key(fault, detail)
    if names & UNKNOWN_MODEL:
        return _unknown_model(fault, detail)
    if names & BLOCKED:
        return EndRow(FailureClass.BLOCKED, detail)
    if names & BAD_IMAGE:
        return EndRow(FailureClass.BAD_IMAGE, detail)
    if names & TRY_AGAIN or (fault.status == 503 and names & SLOW_DOWN):
        return Retry(FailureClass.SERVER_ERROR, detail, asked_wait_s(fault.headers) or 0.0)
    if names & SLOW_DOWN:
        return Wait(asked_wait_s(fault.headers), detail, slow_down="slow_down" in names)
    return None


def _by_status(fault: Fault, detail: str) -> Decision:
    status = fault.status or 0
    if status == 429:
        return Wait(asked_wait_s(fault.headers), detail)
    if status in (401, 403):
        return _refused_key(fault, detail)
    if status == 402:
        return Stop(f"the provider asks for payment (402): {detail}. Add credit, then run the same command again",
                    comes_back=True)
    if status == 404:
        return _unknown_model(fault, detail)
    if status < 400:
        return Retry(FailureClass.BAD_REPLY, detail)
    if status in _RETRIED_STATUS or status >= 500:
        return Retry(FailureClass.SERVER_ERROR, detail, asked_wait_s(fault.headers) or 0.0)
    if status == 413:
        return EndRow(FailureClass.BAD_IMAGE, detail)
    return EndRow(FailureClass.BAD_REQUEST, detail)


def _refused_key(fault: Fault, detail: str) -> Stop:
    words = fault.key_words[:1].upper() + fault.key_words[1:]
    return Stop(f"the provider refuses the key ({fault.status}): {detail}. {words}. A key is named by "
                "api_key_env or api_key_file of the teacher or of its endpoint, and must be allowed to use "
                "teacher.model")


def _unknown_model(fault: Fault, detail: str) -> Stop:
    return Stop(f"the provider knows no such model or address ({fault.status}): {detail}. Check teacher.model and "
                "teacher.base_url (most servers want it to end in /v1)")
