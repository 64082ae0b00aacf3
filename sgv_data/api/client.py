"""The HTTP client: one request out, the raw answer or a `Fault` back. The only module that knows `openai`'s errors."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import httpx2
from openai import APIConnectionError, AsyncOpenAI, DefaultAioHttpClient

from sgv_data.api.outcomes import Fault, FaultKind
from sgv_data.errors import ProviderError, redact

PROVIDER_URL = "https://api.openai.com/v1"
NO_KEY = "none"
_CONNECT_S = 15.0
_MAX_DETAIL_CHARS = 300
_SHORTEST_SECRET = 6
_MOST_CONNECTIONS = 10_000
_NEVER_CONNECTED = (
    aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, httpx2.ConnectError, httpx2.UnsupportedProtocol,
    ConnectionRefusedError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `key` never appears in a repr. `key_from`: the variable or file that it is to come from."""

    base_url: str
    key: str
    key_from: str = ""

    @property
    def key_words(self) -> str:
        """What is to be checked if the key is refused."""
        if self.key == NO_KEY:
            return f"no key was sent: {self.key_from} is not set"
        return f"check the key in {self.key_from}" if self.key_from else "check the key"

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, key=***)"

    def hides_key(self, text: str) -> str:
        """`text` without the key, whatever it looks like and wherever it was read from."""
        return redact(text.replace(self.key, "***") if len(self.key) >= _SHORTEST_SECRET else text)


def find_endpoint(
    base_url: str | None,
    api_key_env: str,
    environment: Mapping[str, str] = os.environ,
    api_key_file: str | None = None,
) -> Endpoint:
    """The address and key: `base_url`, else OPENAI_BASE_URL, else the provider's own; the file's key, else the
    variable's.

    Servers named by address often want no key; then `NO_KEY` is sent.

    Raises:
        ProviderError: the key's file cannot be read or is empty, or the provider's own address is meant and there is
            no key.
    """
    url = base_url or environment.get("OPENAI_BASE_URL") or None
    key = environment.get(api_key_env, "").strip() if api_key_file is None else _key_in(Path(api_key_file))
    if not key and url is None:
        raise ProviderError(
            f"no key: the environment variable {api_key_env} (teacher.api_key_env) is not set. Set it, or name a "
            "server that needs none in teacher.base_url"
        )
    key_from = f"the file {api_key_file}" if api_key_file else f"the environment variable {api_key_env}"
    return Endpoint(url or PROVIDER_URL, key or NO_KEY, key_from)


def _key_in(path: Path) -> str:
    try:
        lines = path.expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ProviderError(f"the key's file {path} (api_key_file) cannot be read: {why}") from exc
    if len(lines) != 1:
        raise ProviderError(f"the key's file {path} (api_key_file) must hold the key and nothing else")
    return lines[0]


@dataclass(frozen=True, slots=True)
class RawReply:
    """An answer with status 200, as it came. Header names are in lower case."""

    body: bytes
    headers: Mapping[str, str]
    request_id: str | None
    latency_s: float


class ChatClient:
    """Sends ready-made chat requests to one endpoint. Use as an async context manager.

    How many are under way at once is for the caller to keep: connections are opened as they are needed.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self._endpoint, self._timeout_s = endpoint, timeout_s
        timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S))
        # The client behind the library reads proxies and certificates from the environment, as users expect.
        self._http = DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS)
        )
        self.openai = AsyncOpenAI(
            api_key=endpoint.key, base_url=endpoint.base_url, max_retries=0, timeout=timeout, http_client=self._http
        )
        # Made once: putting the same request together anew costs the library as much as sending it.
        self._url = httpx2.URL(f"{endpoint.base_url.rstrip('/')}/chat/completions")
        own = {name: value for name, value in self.openai.default_headers.items() if isinstance(value, str)}
        self._headers = httpx2.Headers(
            {**own, "Authorization": f"Bearer {endpoint.key}", "Content-Type": "application/json"}
        )
        self._extensions = {"timeout": timeout.as_dict()}

    @property
    def base_url(self) -> str:
        """Where it sends."""
        return self._endpoint.base_url

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.openai.close()

    async def ask(self, body: bytes) -> RawReply | Fault:
        """Sends one JSON body to `/chat/completions` and waits at most `timeout_s` for the whole answer."""
        start = time.monotonic()
        try:
            # The socket's own limits restart with every byte; this one does not.
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.send(
                    httpx2.Request(
                        "POST", self._url, headers=self._headers, content=body, extensions=self._extensions
                    )
                )
        except TimeoutError:
            return Fault(FaultKind.TIMED_OUT, f"no answer within {self._timeout_s:g} s")
        except httpx2.HTTPError as exc:
            return self._without_key(connection_fault(exc))
        if not response.is_success:
            return self.fault_of(response.status_code, response.headers, response.content)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return RawReply(response.content, headers, headers.get("x-request-id"), time.monotonic() - start)

    def fault_of(self, status: int, headers: Mapping[str, str], content: bytes) -> Fault:
        """The fault that an error of this endpoint means, without its key."""
        return self._without_key(status_fault(status, headers, content))

    def _without_key(self, fault: Fault) -> Fault:
        return replace(fault, detail=self._endpoint.hides_key(fault.detail), key_words=self._endpoint.key_words)


def status_fault(status: int, headers: Mapping[str, str], content: bytes) -> Fault:
    """The fault that an error response means, whether its body is the usual JSON, other JSON or a page of HTML.

    Proxies send errors with status 200 and the true status as a number in `code`; then that one counts.
    """
    error = _error_object(content)
    code = error.get("code")
    if status == 200 and isinstance(code, int) and 400 <= code < 600:
        status = code
    message = error.get("message") or content[:_MAX_DETAIL_CHARS].decode("utf-8", "replace")
    detail = " ".join(redact(str(message)).split())[:_MAX_DETAIL_CHARS]
    return Fault(
        FaultKind.STATUS,
        f"HTTP {status}: {detail}" if detail else f"HTTP {status}",
        status=status,
        code=_text(code),
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


def connection_fault(exc: APIConnectionError | httpx2.HTTPError) -> Fault:
    """Told apart by what lies in the chain of causes: whether a connection was ever there, and the error at its end."""
    chain: list[BaseException] = [exc]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(deeper)
    never = next((error for error in chain if isinstance(error, _NEVER_CONNECTED)), None)
    if never is not None:
        return Fault(FaultKind.UNREACHABLE, redact(str(never)) or type(never).__name__)
    told = redact(str(chain[-1])) or type(chain[-1]).__name__
    if isinstance(chain[-1], TimeoutError | httpx2.TimeoutException):
        return Fault(FaultKind.TIMED_OUT, told)
    return Fault(FaultKind.LOST, f"the connection broke: {told}")
