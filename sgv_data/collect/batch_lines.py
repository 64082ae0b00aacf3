"""One line of a batch's results: whose it is, and what it says. Order and place of lines mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from sgv_data.api.client import status_fault
from sgv_data.api.outcomes import Fault, FaultKind
from sgv_data.api.reply import ParsedReply, parse_reply

_UNDONE = frozenset({"batch_expired", "batch_cancelled", "batch_canceled"})
_MOST_DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class Undone:
    """The batch ended before this request's turn came: it was not worked on and not billed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered, as a live reply would have come."""

    body: bytes
    request_id: str | None
    parsed: ParsedReply


@dataclass(frozen=True, slots=True)
class ResultLine:
    """The result of the request `key`."""

    key: str
    result: Answer | Fault | Undone


def read_lines(file: IO[bytes]) -> Iterator[ResultLine | None]:
    """The lines of a results file, one at a time; None for one that cannot be read. Empty ones are left out."""
    return (read_line(line) for line in file if line.strip())


def read_line(line: bytes) -> ResultLine | None:
    """One line, or None if it is no result. Never raises."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("custom_id"), str):
        return None
    response, error = parsed.get("response"), parsed.get("error")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        return ResultLine(parsed["custom_id"], _answered(response))
    return ResultLine(parsed["custom_id"], _unanswered(error))


def _answered(response: dict[str, Any]) -> Answer | Fault:
    status, request_id = response["status_code"], response.get("request_id")
    body = json.dumps(response.get("body"), separators=(",", ":")).encode()
    if status != 200:
        return status_fault(status, {}, body)
    parsed = parse_reply(body)
    if parsed.error is not None:
        return status_fault(200, {}, body)
    return Answer(body, request_id if isinstance(request_id, str) else None, parsed)


def _unanswered(error: object) -> Fault | Undone:
    said = error if isinstance(error, dict) else {}
    code, message = said.get("code"), said.get("message")
    if code in _UNDONE:
        return Undone()
    return Fault(
        FaultKind.STATUS,
        str(message or "the provider gave neither an answer nor a reason")[:_MOST_DETAIL_CHARS],
        code=code if isinstance(code, str) else None,
    )
