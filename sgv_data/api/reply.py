"""What a stored answer says. The only place that decides what is a finished answer.

Parsing is apart from storing: raw replies are kept, so a better parser reads old ones again free of charge.
`PARSER_VERSION` is raised whenever `parse_reply` judges any reply differently.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sgv_data.api.refusal import is_refusal
from sgv_data.records import Outcome

PARSER_VERSION = 2
_MOST_TOKENS = 1e12
# What servers that speak this API call the same thing, in lower case.
_FILTERED = frozenset({"content_filter", "safety", "refusal", "recitation", "blocklist", "prohibited_content", "spii"})
_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens"})


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
    `outcome` is REFUSED for a refusal in the field made for it, for what the provider's filter stopped, and for an
    answer whose words are a refusal; FAILED for an answer without text. `problem` says what is wrong where text is
    missing.
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
    if not isinstance(choice, dict) or not _is_whole(choice):
        error = _error(reply.get("error"))
        return _broken(error.message if error else "the answer holds no choices", error)
    if choice.get("error") and (error := _error(choice["error"])) is not None:
        return _broken(f"the server gave up in the middle of the answer: {error.message}")
    return _judge(reply, choice)


def _is_whole(choice: dict[str, Any]) -> bool:
    """Whether a choice can be judged: what a filter stopped may come without a message."""
    return isinstance(choice.get("message"), dict) or _ending(choice) in _FILTERED


def _ending(choice: dict[str, Any]) -> str:
    return str(choice.get("finish_reason") or "").lower()


def _judge(reply: dict[str, Any], choice: dict[str, Any]) -> ParsedReply:
    message = choice["message"] if isinstance(choice.get("message"), dict) else {}
    text, field = _text(message.get("content")), message.get("refusal")
    refusal = _text(field) or (str(field).strip() if field else "") or _refusal_part(message.get("content")) or None
    usage = reply.get("usage")
    outcome, problem = _outcome(text, refusal, _ending(choice))
    if problem and (thought := _thinking_tokens(usage)):
        problem += f"; {thought} tokens went into thinking"
    prompt_tokens, completion_tokens, has_usage = _usage(usage)
    return ParsedReply(
        outcome=outcome,
        finished=True,
        text=text or refusal or "",
        finish_reason=str(choice.get("finish_reason") or ""),
        refusal=refusal,
        model=str(reply.get("model") or ""),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        has_usage=has_usage,
        problem=problem,
    )


def _outcome(text: str, refusal: str | None, ending: str) -> tuple[Outcome, str | None]:
    """What a whole answer is, and what is wrong with it if its text is missing."""
    if refusal is not None or ending in _FILTERED or (text and is_refusal(text)):
        return Outcome.REFUSED, None
    if ending in _CUT_OFF:
        return Outcome.TRUNCATED, None if text else "the token limit was used up before the first word"
    if not text:
        return Outcome.FAILED, f"the answer has no text (finish_reason {ending or 'missing'})"
    return Outcome.OK, None


def _text(content: object) -> str:
    """The text of a message; some servers send it as a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        content = "".join(part for part in parts if isinstance(part, str))
    return content.strip() if isinstance(content, str) else ""


def _refusal_part(content: object) -> str:
    """A refusal that came as one of several parts."""
    if not isinstance(content, list):
        return ""
    parts = [part.get("refusal") for part in content if isinstance(part, dict) and part.get("type") == "refusal"]
    return " ".join(part for part in parts if isinstance(part, str)).strip()


def _thinking_tokens(usage: object) -> int:
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return (_count(details.get("reasoning_tokens")) or 0) if isinstance(details, dict) else 0


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
