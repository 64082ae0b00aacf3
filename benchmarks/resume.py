"""How long `sgv collect` takes, from the start of its process, to its first request when most rows are finished.

Builds a run folder with an index of N finished pictures and a reply cache that holds their answers, plus a few pictures
that still have to be asked about, spread over the index. Then starts the real command against a server on loopback and
measures the time to the first request, the time to the last and the most memory. Every mode is one start:

    first    nothing derived is there: the request keys are made from the replies
    again    as after a stop: the keys are remembered
    one left the same, and the only pending picture was prepared before, as after a kill

    python benchmarks/resume.py --rows 1200000 --folder /tmp/resume
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from sgv_data.api.cache_file import connect, prepare
from sgv_data.api.keys import SentImage
from sgv_data.api.reply import PARSER_VERSION
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.manifest import Manifest
from sgv_data.manifest_file import load_manifest
from sgv_data.records import ImageRow, StageRecord, image_order
from sgv_data.run_folder import utc_now
from sgv_data.tables import TableWriter

_SIDE_PX = 64
_WORDS = "A long caption of a picture with a river, two boats, a bridge of stone and people who walk along the bank. "


def main() -> None:
    """Builds what is missing, then measures each mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_200_000, help="finished pictures")
    parser.add_argument("--pending", type=int, default=50, help="pictures still to be asked about")
    parser.add_argument("--folder", type=Path, required=True, help="where the run is built; kept for the next time")
    parser.add_argument("--stop-after-s", type=float, default=60.0, help="how long each start may take")
    args = parser.parse_args()
    with _Server() as server:
        manifest_path = _manifest(args.folder, server.url)
        manifest = load_manifest(manifest_path)
        stage = args.folder / "runs" / "resume" / "collect"
        if not (stage / "replies.sqlite").exists():
            _build(args.folder, manifest, args.rows, args.pending)
        print(f"{args.rows:,} finished rows, {args.pending} pending")
        print(f"{'mode':10} {'first request s':>16} {'of CPU s':>9} {'all asked s':>12} {'memory MB':>10}")
        for mode in ("first", "again", "one left"):
            if mode == "first":
                (stage / ".keys").unlink(missing_ok=True)
            _forget(stage / "replies.sqlite", 1 if mode == "one left" else args.pending, prepared=mode == "one left")
            first_s, cpu_s, last_s, memory_mb = _start(manifest_path, args.folder, server, args.stop_after_s)
            print(f"{mode:10} {first_s:16.2f} {cpu_s:9.2f} {last_s:12.2f} {memory_mb:10.0f}", flush=True)


def _manifest(folder: Path, url: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "resume.yaml"
    path.write_text(json.dumps({
        "name": "resume",
        "images": [{"kind": "folder", "name": "made", "path": str(folder / "pictures")}],
        "teacher": {"model": "gpt-4o", "base_url": url, "image": {"max_side_px": 1024},
                    "limits": {"in_flight": 16}, "budget_usd": 1e9, "alarms": {"same_text_share": None}},
    }))  # fmt: skip
    return path


# --- building ---


def _build(folder: Path, manifest: Manifest, num_finished: int, num_pending: int) -> None:
    begun = time.monotonic()
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    drawn = random.Random(7)
    pending = {}
    for number in range(num_pending):
        path = pictures / f"pending-{number:04d}.jpg"
        Image.effect_noise((_SIDE_PX, _SIDE_PX), drawn.uniform(5, 90)).convert("RGB").save(path)
        pending[path.stem] = path.read_bytes()
    keys = [*(f"{number:08d}" for number in range(num_finished)), *pending]
    keys.sort(key=lambda key: image_order(f"made/{key}"))
    index = folder / "runs" / "resume" / "index"
    with TableWriter(index, "images", ImageRow) as writer:
        for key in keys:
            writer.add(_row(key, pending.get(key)))
    record = StageRecord(stage="index", fingerprint="made", identity={}, inputs={}, code_version="0", libraries={},
                         started_utc=utc_now(), finished_utc=utc_now())  # fmt: skip
    (index / "_RECORD.json").write_text(record.model_dump_json())
    print(f"index: {time.monotonic() - begun:.0f} s", flush=True)
    stage = folder / "runs" / "resume" / "collect"
    stage.mkdir(exist_ok=True)
    _fill(stage / "replies.sqlite", manifest, [key for key in keys if key not in pending])
    print(f"cache: {time.monotonic() - begun:.0f} s", flush=True)


def _row(key: str, data: bytes | None) -> ImageRow:
    sha256 = hashlib.sha256(data if data is not None else key.encode()).hexdigest()
    return ImageRow(
        image_id=f"made/{key}", source="made", key=key, location=f"{key}.jpg", license="CC0-1.0", text=None,
        num_bytes=len(data) if data else 100_000, sha256=sha256, format="jpeg", width_px=_SIDE_PX, height_px=_SIDE_PX,
        phash="0" * 16, reject=None, duplicate_of=None, detail=None, for_teacher=True, for_expand=False,
    )  # fmt: skip


def _fill(path: Path, manifest: Manifest, keys: list[str]) -> None:
    """Replies in an order of their own, as answers come."""
    prepare(path)
    questions, recipe = Questions(manifest), recipe_name(manifest.teacher)
    random.Random(11).shuffle(keys)
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -400000")

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, key in enumerate(keys):
            row = _row(key, None)
            yield (questions.key(row, _sent(row)), zlib.compress(_reply(f"{number}. {_WORDS * 8}"), 1), "ok", 1,
                   PARSER_VERSION, "gpt-4o", f"req-{number}", 1, 1.5, "2026-01-01T00:00:00Z", 900, 200, 0.004, "")

    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO replies (request_key, body, outcome, finished, parser, model, request_id, attempts, latency_s,"
        " created_utc, prompt_tokens, completion_tokens, cost_usd, run) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows())
    sent = sorted((row.sha256, recipe, _sent(row).sha256, "image/jpeg", _SIDE_PX, _SIDE_PX, 100_000)
                  for row in (_row(key, None) for key in keys))  # fmt: skip
    connection.executemany("INSERT INTO sent_images VALUES (?,?,?,?,?,?,?)", sent)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _sent(row: ImageRow) -> SentImage:
    return SentImage(row.sha256, "image/jpeg", _SIDE_PX, _SIDE_PX, row.num_bytes)


def _forget(path: Path, most: int, prepared: bool) -> None:
    """Takes the answers of an earlier measurement out again; unless `prepared`, also that they were made ready."""
    connection = connect(path)
    new = [key for (key,) in connection.execute(
        "SELECT request_key FROM replies WHERE request_id = 'new' LIMIT ?", (most,))]  # fmt: skip
    connection.execute("BEGIN")
    connection.executemany("DELETE FROM replies WHERE request_key = ?", [(key,) for key in new])
    connection.execute("DELETE FROM failures")
    if not prepared:
        connection.execute("DELETE FROM sent_images WHERE num_bytes <> 100000")
    connection.execute("COMMIT")
    connection.close()


# --- measuring ---


def _start(manifest: Path, folder: Path, server: _Server, most_s: float) -> tuple[float, float, float, float]:
    """Runs the command to its end, or stops it after a while as Ctrl-C would. On a busy machine its CPU time tells more
    than the clock."""
    server.times.clear()
    begun = time.monotonic()
    command = [sys.executable, "-m", "sgv_data", "collect", str(manifest), "--runs", str(folder / "runs"), "--quiet"]
    with (folder / "output.txt").open("w") as out:
        child = subprocess.Popen(command, env={**os.environ, "OPENAI_API_KEY": "none"}, stdout=out, stderr=out)
        memory_mb = cpu_s = 0.0
        while child.poll() is None and time.monotonic() - begun < most_s:
            memory_mb = max(memory_mb, _memory_mb(child.pid))
            if not server.times:
                cpu_s = max(cpu_s, _cpu_s(child.pid))
            time.sleep(0.02)
        if child.poll() is None:
            child.terminate()
            child.wait()
    if not server.times:
        raise SystemExit((folder / "output.txt").read_text())
    return server.times[0] - begun, cpu_s, server.times[-1] - begun, memory_mb


def _cpu_s(pid: int) -> float:
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def _reply(text: str) -> bytes:
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-11-20",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 200, "total_tokens": 1100},
    }).encode()  # fmt: skip


class _Server:
    """Answers every chat request at once and notes when each came."""

    def __init__(self) -> None:
        times: list[float] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                times.append(time.monotonic())
                self.rfile.read(int(self.headers["Content-Length"]))
                body = _reply(f"{len(times)}. {_WORDS * 8}")
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("x-request-id", "new")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                return

        self.times = times
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> _Server:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


if __name__ == "__main__":
    main()
