"""What a stored answer says. The only place that decides what is a finished answer.

Parsing is apart from storing: raw replies are kept, so a better parser reads old ones again free of charge.
`PARSER_VERSION` is raised whenever `parse_reply` judges any reply differently.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sgv_data.records import Outcome

PARSER_VERSION = 1
_MOST_TOKENS = 1e12


@dataclass(frozen=True, slots=True)
class ReplyError:
    """An error that came as an answer with status 200, as some proxies send it."""

    message: str
    code: str | None
    error_type: str | None


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """An answer, judged.

    `finished`: the provider has done its work, whatever came of it; the same request is not sent again by itself.
    Not finished (cut JSON, HTML, no choices) means that the answer never arrived whole.
    `outcome` is FAILED for an answer without text; `problem` then says what is wrong.
    """

    outcome: Outcome
    finished: bool
    text: str = ""
    finish_reason: str = ""
    refusal: str | None = None
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    has_usage: bool = False
    problem: str | None = None
    error: ReplyError | None = None


def parse_reply(body: bytes) -> ParsedReply:
    """Judges one raw answer of `/chat/completions`. Never raises."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode("utf-8", "replace")
        return _broken(f"the answer is no whole JSON; it starts with {start!r}")
    if not isinstance(reply, dict):
        return _broken("the answer is no JSON object")
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        error = _error(reply.get("error"))
        return _broken(error.message if error else "the answer holds no choices", error)
    return _judge(reply, choice)


def _judge(reply: dict[str, Any], choice: dict[str, Any]) -> ParsedReply:
    message = choice["message"]
    text = _text(message.get("content"))
    refusal = message.get("refusal") or None
    finish_reason = str(choice.get("finish_reason") or "")
    outcome, problem = Outcome.OK, None
    if refusal is not None or finish_reason == "content_filter":
        outcome, text = Outcome.REFUSED, text or str(refusal or "")
    elif finish_reason == "length":
        outcome = Outcome.TRUNCATED
    elif not text:
        outcome, problem = Outcome.FAILED, f"the answer has no text (finish_reason {finish_reason or 'missing'})"
    prompt_tokens, completion_tokens, has_usage = _usage(reply.get("usage"))
    return ParsedReply(
        outcome=outcome,
        finished=True,
        text=text,
        finish_reason=finish_reason,
        refusal=str(refusal) if refusal is not None else None,
        model=str(reply.get("model") or ""),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        has_usage=has_usage,
        problem=problem,
    )


def _text(content: object) -> str:
    """The text of a message; some servers send it as a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content.strip() if isinstance(content, str) else ""


def _usage(usage: object) -> tuple[int, int, bool]:
    if not isinstance(usage, dict):
        return 0, 0, False
    prompt_tokens, completion_tokens = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return prompt_tokens or 0, completion_tokens or 0, prompt_tokens is not None


def _count(value: object) -> int | None:
    """A believable number of tokens, or None."""
    return int(value) if isinstance(value, int | float) and 0 <= value < _MOST_TOKENS else None


def _error(error: object) -> ReplyError | None:
    if isinstance(error, str):
        return ReplyError(error, None, None)
    if not isinstance(error, dict):
        return None
    code, kind = error.get("code"), error.get("type")
    return ReplyError(
        str(error.get("message") or "the answer is an error"),
        code if isinstance(code, str) else None,
        kind if isinstance(kind, str) else None,
    )


def _broken(problem: str, error: ReplyError | None = None) -> ParsedReply:
    return ParsedReply(Outcome.FAILED, finished=False, problem=problem, error=error)
