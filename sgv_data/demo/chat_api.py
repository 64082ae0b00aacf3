"""The OpenAI chat API as the demo's teacher speaks it: requests checked, answers and errors as clients expect them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import json
import math
import re
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sgv_data.demo.measure import measure
from sgv_data.demo.wording import write_caption

MODEL = "pixel-reader"
_MAX_BODY_BYTES = 64 * 1024 * 1024
_CREATED = 1_700_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_TOKEN = re.compile(r"\s*(?:\w{1,9}|[^\w\s])")
_DEFAULT_MAX_TOKENS = 1024


class ApiError(Exception):
    """An error that is answered with an OpenAI error body."""

    def __init__(self, status: int, message: str, code: str | None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "authentication_error" if status == 401 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _ImageUrl(BaseModel):
    url: str
    detail: Literal["low", "high", "auto", "original"] = "auto"


class _Part(BaseModel):
    type: Literal["text", "image_url"]
    text: str = ""
    image_url: _ImageUrl | None = None


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]


class ChatRequest(BaseModel):
    """The fields the teacher acts on; others, such as `temperature`, are accepted and make no difference."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[_Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1, le=16)
    stream: bool = False


def answer_chat(body: bytes) -> dict[str, Any]:
    """The answer to a chat request; raises `ApiError`. Everything but `created` is the same for equal requests."""
    request = _read_request(body)
    image_parts = [part.image_url for part in _parts(request) if part.image_url is not None]
    if len(image_parts) != 1:
        raise ApiError(400, f"{MODEL} needs exactly one picture (got {len(image_parts)})", "invalid_value", "messages")
    image_bytes = _read_data_uri(image_parts[0].url)
    picture = _open_picture(image_bytes)
    width_px, height_px = picture.size
    prompt = "\n".join(_texts(request))
    caption = _describe(picture, prompt, hashlib.sha256(image_bytes).hexdigest())
    limit = request.max_completion_tokens or request.max_tokens or _DEFAULT_MAX_TOKENS
    prompt_tokens = count_tokens(prompt) + count_image_tokens(width_px, height_px, image_parts[0].detail)
    completion_tokens = min(count_tokens(caption), limit) * request.n
    return {
        "id": f"chatcmpl-{hashlib.sha256(body).hexdigest()[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [_choice(index, caption, limit) for index in range(request.n)],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def count_tokens(text: str) -> int:
    """Pieces of up to nine letters and single signs: close to what real tokenizers count for English."""
    return len(_TOKEN.findall(text))


def count_image_tokens(width_px: int, height_px: int, detail: str) -> int:
    """The tile rule of GPT-4o: 85 and 170 a tile of 512 px, after fitting into 2048 px and a short side of 768 px."""
    if detail == "low":
        return 85
    scale = min(1.0, 2048 / max(width_px, height_px))
    scale *= min(1.0, 768 / (min(width_px, height_px) * scale))
    tiles = math.ceil(round(width_px * scale) / 512) * math.ceil(round(height_px * scale) / 512)
    return 85 + 170 * tiles


def _choice(index: int, caption: str, limit_tokens: int) -> dict[str, Any]:
    tokens = _TOKEN.findall(caption)
    complete = len(tokens) <= limit_tokens
    content = caption if complete else "".join(tokens[:limit_tokens])
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop" if complete else "length",
    }


def _read_request(body: bytes) -> ChatRequest:
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise ApiError(400, f"{place}: {first['msg']}", "invalid_value", place) from exc
    if request.model != MODEL:
        raise ApiError(404, f"The model `{request.model}` does not exist; this server has {MODEL}.", "model_not_found")
    if request.stream:
        raise ApiError(400, "This server does not stream.", "unsupported_value", "stream")
    return request


def _parts(request: ChatRequest) -> list[_Part]:
    return [part for message in request.messages if isinstance(message.content, list) for part in message.content]


def _texts(request: ChatRequest) -> list[str]:
    texts: list[str] = []
    for message in request.messages:
        if isinstance(message.content, str):
            texts.append(message.content)
        else:
            texts += [part.text for part in message.content if part.type == "text"]
    return texts


def _read_data_uri(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise ApiError(400, "Pictures must be sent as base64 data URIs.", "invalid_image_url", "messages")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ApiError(400, "The picture is not valid base64.", "invalid_base64_image", "messages") from exc


def _open_picture(image_bytes: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(image_bytes), formats=_FORMATS)
    except Image.DecompressionBombError as exc:
        raise ApiError(400, "The picture is too large.", "image_too_large", "messages") from exc
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as exc:
        message = "You uploaded an unsupported image. Please make sure your image is one of: png, jpeg, gif, webp."
        raise ApiError(400, message, "invalid_image_format", "messages") from exc


def _describe(picture: Image.Image, prompt: str, picture_key: str) -> str:
    try:
        return write_caption(measure(picture), prompt, picture_key)
    except (OSError, ValueError, SyntaxError) as exc:  # what Pillow raises for damaged pictures
        raise ApiError(400, "The picture could not be read.", "image_parse_error", "messages") from exc


class ChatHandler(BaseHTTPRequestHandler):
    """Routes of the API; the server it belongs to has an `api_key`, None for open access."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one write per answer
    timeout = 600

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: object) -> None:
        """Requests are not logged."""

    def _get(self) -> dict[str, Any]:
        if self.path == "/health":
            return {"status": "ok"}
        self._check_key()
        model = {"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "sgv_data"}
        if self.path == "/v1/models":
            return {"object": "list", "data": [model]}
        if self.path == f"/v1/models/{MODEL}":
            return model
        raise ApiError(404, f"Unknown request URL: GET {self.path}.", "unknown_url")

    def _post(self) -> dict[str, Any]:
        body = self._read_body()
        self._check_key()
        if self.path != "/v1/chat/completions":
            raise ApiError(404, f"Unknown request URL: POST {self.path}.", "unknown_url")
        return answer_chat(body)

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.close_connection = True
            raise ApiError(411, "A Content-Length is needed.", None)
        if int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            raise ApiError(413, f"The request is larger than {_MAX_BODY_BYTES} bytes.", None)
        return self.rfile.read(int(length))

    def _check_key(self) -> None:
        wanted = getattr(self.server, "api_key", None)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if wanted is not None and not hmac.compare_digest(given.encode(), wanted.encode()):
            raise ApiError(401, "Incorrect API key provided.", "invalid_api_key")

    def _answer(self, route: Callable[[], dict[str, Any]]) -> None:
        started_s = time.monotonic()
        try:
            status, content = 200, route()
        except ApiError as exc:
            status, content = exc.status, exc.body
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("x-request-id", f"req_{uuid.uuid4().hex}")
        self.send_header("openai-processing-ms", str(round((time.monotonic() - started_s) * 1000)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(payload)
