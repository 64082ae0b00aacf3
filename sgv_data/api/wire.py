"""The chat request as it leaves: text first (so that providers can cache the common prefix), the picture last."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from sgv_data.api.keys import SentImage, request_key
from sgv_data.api.text_tokens import message_tokens, text_tokens
from sgv_data.manifest import Teacher
from sgv_data.run_folder import canonical_json

_IMAGE_MARK = "@image@"
_MOST_OVERHEAD_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Request:
    """One chat request. `likely_tokens` is what it probably counts for; the other two are upper bounds."""

    key: str
    body: bytes
    model: str
    likely_tokens: int
    most_prompt_tokens: int
    most_completion_tokens: int


class RequestTemplate:
    """All of a request but the picture: one per prompt. Makes bodies and their keys."""

    def __init__(self, teacher: Teacher, prompt_text: str) -> None:
        self._prompt_text = prompt_text
        self.max_completion_tokens = teacher.max_completion_tokens
        body = canonical_json(_body(teacher, prompt_text)).encode("utf-8", "surrogatepass")
        head, mark, tail = body.rpartition(canonical_json(_IMAGE_MARK).encode())
        assert mark, "the request holds the place of the picture"
        self._head, self._tail = head, tail
        self.likely_text_tokens = text_tokens(prompt_text) + message_tokens()
        """What the text probably counts for, with what the chat adds around it."""

    def key(self, image: SentImage) -> str:
        """The key under which the reply to this request is kept."""
        return request_key(self._head, self._tail, image)

    def body(self, image: SentImage, data: bytes) -> bytes:
        """The JSON to send. `data` are the bytes `image` describes."""
        url = b'"data:' + image.media_type.encode() + b";base64," + base64.b64encode(data) + b'"'
        return self._head + url + self._tail

    @property
    def most_text_tokens(self) -> int:
        """What the prompt can count for at most: a token is never less than a byte."""
        return len(self._prompt_text.encode("utf-8", "surrogatepass")) + _MOST_OVERHEAD_TOKENS


def _body(teacher: Teacher, prompt_text: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": teacher.model,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": prompt_text},
                    {"type": "image_url", "image_url": {"url": _IMAGE_MARK, "detail": teacher.image.detail}},
                ],
            }
        ],
        teacher.token_limit_name: teacher.max_completion_tokens,
    }
    if teacher.temperature is not None:
        body["temperature"] = teacher.temperature
    if teacher.seed is not None:
        body["seed"] = teacher.seed
    return body
