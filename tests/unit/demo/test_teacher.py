from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sgv_data.demo.chat_api import count_image_tokens, count_tokens
from sgv_data.demo.scenes import scene_bytes
from sgv_data.demo.teacher import TeacherServer, running_teacher

PICTURE = scene_bytes(5, 1)
END_WITHIN_S = 10


class Client:
    """One connection that is kept open, so that keep-alive is tested too."""

    def __init__(self, base_url: str) -> None:
        host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=20)

    def send(self, method: str, path: str, body: bytes | None = None, key: str = "any") -> tuple[int, dict[str, Any]]:
        self.connection.request(method, path, body, {"Authorization": f"Bearer {key}"})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def chat(self, **fields: Any) -> tuple[int, dict[str, Any]]:
        request = {"model": "pixel-reader", "messages": [message(PICTURE)]} | fields
        return self.send("POST", "/v1/chat/completions", json.dumps(request).encode())


def data_uri(image_bytes: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image_bytes).decode()}"


def message(image_bytes: bytes, text: str = "Describe it.", detail: str = "auto") -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": data_uri(image_bytes), "detail": detail}}
    return {"role": "user", "content": [{"type": "text", "text": text}, image]}


def caption(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def server() -> Iterator[TeacherServer]:
    with TeacherServer(port=0) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def client(server: TeacherServer) -> Iterator[Client]:
    client = Client(server.base_url)
    yield client
    client.connection.close()


def test_an_answer_has_the_shape_of_the_chat_api(client: Client) -> None:
    status, answer = client.chat()
    assert status == 200
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert answer["model"] == "pixel-reader"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert len(caption(answer).split()) > 15
    usage = answer["usage"]
    assert usage["prompt_tokens"] == count_tokens("Describe it.") + 85 + 170
    assert usage["completion_tokens"] == count_tokens(caption(answer))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_equal_requests_get_equal_captions_and_other_prompts_other_ones(client: Client) -> None:
    first, again = (caption(client.chat()[1]) for _ in range(2))
    other = caption(client.chat(messages=[message(PICTURE, text="Count the shapes.")])[1])
    assert first == again != other


def test_other_pictures_get_other_captions(client: Client) -> None:
    captions = {caption(client.chat(messages=[message(scene_bytes(5, number))])[1]) for number in range(4)}
    assert len(captions) == 4


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_caption_over_the_limit_is_cut(client: Client, field: str) -> None:
    whole = caption(client.chat()[1])
    _, answer = client.chat(**{field: 7})
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 7
    assert whole.startswith(caption(answer))
    assert count_tokens(caption(answer)) == 7


def test_low_detail_costs_fewer_tokens(client: Client) -> None:
    _, low = client.chat(messages=[message(PICTURE, detail="low")])
    assert low["usage"]["prompt_tokens"] == count_tokens("Describe it.") + 85


@pytest.mark.parametrize(("size", "tokens"), [((1024, 1024), 765), ((2048, 4096), 1105), ((216, 216), 255)])
def test_image_tokens_by_the_tile_rule(size: tuple[int, int], tokens: int) -> None:
    assert count_image_tokens(*size, "high") == tokens


def uri_message(url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "gpt-4o"}, 404, "model_not_found"),
        ({"messages": [message(b"not a picture")]}, 400, "invalid_image_format"),
        ({"messages": [message(PICTURE[:300])]}, 400, "image_parse_error"),
        ({"messages": [uri_message("data:image/png;base64,@@@")]}, 400, "invalid_base64_image"),
        ({"messages": [uri_message("https://example.org/a.png")]}, 400, "invalid_image_url"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, 400, "invalid_value"),
        ({"messages": []}, 400, "invalid_value"),
        ({"stream": True}, 400, "unsupported_value"),
    ],
)
def test_errors_have_an_error_body(client: Client, fields: dict[str, Any], status: int, code: str) -> None:
    got, answer = client.chat(**fields)
    assert (got, answer["error"]["code"]) == (status, code)
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert client.chat()[0] == 200  # the connection still serves


def test_a_body_that_is_not_json_is_refused(client: Client) -> None:
    status, answer = client.send("POST", "/v1/chat/completions", b"{")
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_models_health_and_unknown_routes(client: Client) -> None:
    _, models = client.send("GET", "/v1/models")
    assert [model["id"] for model in models["data"]] == ["pixel-reader"]
    assert client.send("GET", "/health") == (200, {"status": "ok"})
    assert client.send("GET", "/v1/files")[0] == 404


def test_a_wrong_key_is_refused() -> None:
    with TeacherServer(port=0, api_key="right-key") as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        client = Client(server.base_url)
        status, answer = client.send("GET", "/v1/models", key="wrong")
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert client.send("GET", "/v1/models", key="right-key")[0] == 200
        client.connection.close()
        server.shutdown()


def refuses(base_url: str) -> bool:
    host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def test_the_teacher_runs_as_a_child_and_ends_with_the_block() -> None:
    with running_teacher(api_key="a-key") as base_url:
        client = Client(base_url)
        assert client.send("GET", "/v1/models", key="a-key")[0] == 200
        assert client.send("GET", "/v1/models", key="other")[0] == 401
        client.connection.close()
    assert refuses(base_url)


def test_the_teacher_ends_when_its_parent_is_killed() -> None:
    code = (
        "import sys, time\n"
        "from sgv_data.demo.teacher import running_teacher\n"
        "with running_teacher() as base_url:\n"
        "    print(base_url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    base_url = parent.stdout.readline().strip()
    assert not refuses(base_url)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(END_WITHIN_S)
    assert wait_until_refused(base_url)
    parent.communicate()


def wait_until_refused(base_url: str) -> bool:
    """Whether the server closes a connection that is held open to it, and its port, in time."""
    host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=END_WITHIN_S) as held:
            return held.recv(1) == b"" and refuses(base_url)
    except ConnectionError:
        return refuses(base_url)
