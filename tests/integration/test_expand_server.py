"""Expanding through a server: the same pictures, the same prompt, every answer kept."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sgv_data.manifest import Manifest
from sgv_data.records import CaptionRow, FailureClass, FileStamp, Outcome
from sgv_data.run_folder import RECORD, RunFolder, write_durably
from sgv_data.tables import read_table
from tests.captioner_run import PROMPT_TEXT, captioner_run, make, write_record


class Captioner(ThreadingHTTPServer):
    """Says which picture it saw; cuts off and refuses pictures as it is told, by the hash of their pixels."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.cut_below_tokens = 0
        self.turned_down = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Captioner

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        image, text = body["messages"][0]["content"]
        data = base64.b64decode(image["image_url"]["url"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as picture:
            seen = hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()[:8]
        cut = body["max_tokens"] < self.server.cut_below_tokens
        if self.server.turned_down:
            self._send(400, {"error": {"message": "no such picture", "code": "invalid_image"}})
            return
        choice = {
            "index": 0, "finish_reason": "length" if cut else "stop",
            "message": {"role": "assistant", "content": f"Picture {seen}, {text['text']}"},
        }  # fmt: skip
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        self._send(200, {"id": "x", "model": "served", "choices": [choice], "usage": usage})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def running() -> Iterator[Captioner]:
    server = Captioner()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Captioner]:
    with running() as found:
        yield found


def served_run(root: Path, server: Captioner, **expand: Any) -> tuple[Manifest, RunFolder]:
    """A run whose captioner is only a name and a processor's size; nobody loads it."""
    section = {
        "engine": "openai", "server": {"model": "served", "base_url": server.url}, "max_new_tokens": 12,
        "unit_size": 8, **expand,
    }  # fmt: skip
    manifest, run = captioner_run(root, expand=section)
    write_record(run, "train")
    model = run.stage("train") / "model"
    model.mkdir()
    (model / "processor_config.json").write_text('{"image_processor": {"size": {"shortest_edge": 32}}}')
    record = run.record("train")
    assert record is not None
    stamped = record.model_copy(update={"files": {"model/processor_config.json": FileStamp(num_bytes=1, sha256="ab")}})
    write_durably(run.stage("train") / RECORD, stamped.model_dump_json())
    return manifest, run


def captions(run: RunFolder) -> list[CaptionRow]:
    return list(read_table(run.stage("expand"), "captions", CaptionRow))


def test_every_picture_is_described_by_the_server(tmp_path: Path, server: Captioner) -> None:
    manifest, run = served_run(tmp_path, server)

    report = make(manifest, run, "expand")

    rows = captions(run)
    assert report.num_out == len(rows) == 36
    assert len({row.text for row in rows}) == len({row.sent_sha256 for row in rows})
    assert {(row.model, row.finish_reason, row.completion_tokens) for row in rows} == {("served", "stop", 3)}


def test_the_picture_comes_before_the_prompt_as_the_captioner_was_trained(tmp_path: Path, server: Captioner) -> None:
    make(*served_run(tmp_path, server), "expand")

    content = server.asked[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[1]["text"] == PROMPT_TEXT
    assert (server.asked[0]["max_tokens"], server.asked[0]["temperature"]) == (12, 0.0)


def test_answers_are_kept_when_units_are_lost(tmp_path: Path, server: Captioner) -> None:
    import shutil

    manifest, run = served_run(tmp_path, server)
    make(manifest, run, "expand")
    before = [row.text for row in captions(run)]
    num_asked = len(server.asked)
    (run.stage("expand") / RECORD).unlink()
    shutil.rmtree(run.stage("expand") / "units")

    make(manifest, run, "expand")

    assert len(server.asked) == num_asked
    assert [row.text for row in captions(run)] == before


def test_a_cut_off_caption_climbs_the_ladder(tmp_path: Path, server: Captioner) -> None:
    server.cut_below_tokens = 20
    manifest, run = served_run(tmp_path, server, retry={"truncated": [{"max_new_tokens": 64}]})

    make(manifest, run, "expand")

    assert {(row.asked_again_for, row.outcome, row.attempts) for row in captions(run)} == {
        (Outcome.TRUNCATED, Outcome.OK, 2)
    }


def test_a_picture_the_server_turns_down_fails_with_its_reason(tmp_path: Path, server: Captioner) -> None:
    server.turned_down = True
    manifest, run = served_run(tmp_path, server)

    report = make(manifest, run, "expand")

    assert report.failed == {str(FailureClass.BAD_IMAGE): 36}
    assert "no such picture" in str(captions(run)[0].detail)
