"""The HTTP client: one request out, the raw answer or a `Fault` back. The only module that knows `openai`'s errors."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient

from sgv_data.api.outcomes import Fault, FaultKind
from sgv_data.errors import ProviderError, redact

PROVIDER_URL = "https://api.openai.com/v1"
_CONNECT_S = 15.0
_MAX_DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `key` never appears in a repr."""

    base_url: str
    key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, key=***)"


def find_endpoint(base_url: str | None, api_key_env: str, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The address and key: `base_url`, else OPENAI_BASE_URL, else the provider's own.

    Servers named by address often want no key; then `none` is sent.

    Raises:
        ProviderError: if the provider's own address is meant and the key's variable is empty.
    """
    url = base_url or environment.get("OPENAI_BASE_URL") or None
    key = environment.get(api_key_env, "").strip()
    if not key and url is None:
        raise ProviderError(
            f"no key: the environment variable {api_key_env} (teacher.api_key_env) is not set. Set it, or name a "
            "server that needs none in teacher.base_url"
        )
    return Endpoint(url or PROVIDER_URL, key or "none")


@dataclass(frozen=True, slots=True)
class RawReply:
    """An answer with status 200, as it came. Header names are in lower case."""

    body: bytes
    headers: Mapping[str, str]
    request_id: str | None
    latency_s: float


class ChatClient:
    """Sends ready-made chat requests. Use as an async context manager."""

    def __init__(self, endpoint: Endpoint, timeout_s: float, in_flight: int) -> None:
        self._timeout_s = timeout_s
        # The client behind the library reads proxies and certificates from the environment, as users expect.
        self._client = AsyncOpenAI(
            api_key=endpoint.key,
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S)),
            http_client=DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
            ),
        )

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, body: bytes) -> RawReply | Fault:
        """Sends one JSON body to `/chat/completions` and waits at most `timeout_s` for the whole answer."""
        start = time.monotonic()
        try:
            # The socket's own limits restart with every byte; this one does not.
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=body,
                    options={"headers": {"Content-Type": "application/json"}},
                )
        except TimeoutError:
            return Fault(FaultKind.TIMED_OUT, f"no answer within {self._timeout_s:g} s")
        except APIStatusError as exc:
            return status_fault(exc.status_code, exc.response.headers, exc.response.content)
        except APIConnectionError as exc:
            return _connection_fault(exc)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return RawReply(response.content, headers, headers.get("x-request-id"), time.monotonic() - start)


def status_fault(status: int, headers: Mapping[str, str], content: bytes) -> Fault:
    """The fault that an error response means, whether its body is the usual JSON, other JSON or a page of HTML."""
    error = _error_object(content)
    message = error.get("message") or content[:_MAX_DETAIL_CHARS].decode("utf-8", "replace")
    detail = " ".join(redact(str(message)).split())[:_MAX_DETAIL_CHARS]
    return Fault(
        FaultKind.STATUS,
        f"HTTP {status}: {detail}" if detail else f"HTTP {status}",
        status=status,
        code=_text(error.get("code")),
        error_type=_text(error.get("type")),
        headers={name.lower(): value for name, value in headers.items()},
    )


def _error_object(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _connection_fault(exc: APIConnectionError) -> Fault:
    """Told apart by the operating system's error at the bottom of the chain of causes."""
    cause: BaseException = exc
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        if isinstance(cause, httpx2.ConnectError | httpx2.UnsupportedProtocol):
            break
        cause = deeper
    told = redact(str(cause)) or type(cause).__name__
    if isinstance(cause, httpx2.ConnectError | httpx2.UnsupportedProtocol | ConnectionRefusedError):
        return Fault(FaultKind.UNREACHABLE, told)
    if isinstance(cause, TimeoutError):
        return Fault(FaultKind.TIMED_OUT, told)
    return Fault(FaultKind.LOST, f"the connection broke: {told}")
