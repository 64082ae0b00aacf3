"""How fast `sgv collect` asks, side by side with what else there is.

    python benchmarks/collect.py [--pictures 2000] [--in-flight 64] [--rounds 3] [--curator-python PATH]

All contenders ask the same local server, which answers at once in a process of its own, about the same JPEGs of about
100 KB, each contender in a process of its own, one after the other in every round:

- `sgv collect`, as a user starts it: reads from disk, checks hashes, paces, stores and syncs every answer;
- a bare loop over `AsyncOpenAI` with its aiohttp transport, which has the pictures in memory and keeps nothing;
- with `--curator-python`, bespokelabs-curator, from an environment of its own:
  `python -m venv DIR && DIR/bin/pip install bespokelabs-curator`, then `--curator-python DIR/bin/python`.

Rates are taken by the server, from the first to the last request it saw, so nobody's start or finish is part of them.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.request import urlopen

from aiohttp import web
from PIL import Image

HERE = Path(__file__).resolve().parent
SIDE_PX = (640, 480)
PROBE_BYTES = 10_000  # curator first asks for nothing, to see the server's limits; that is no request to be counted
ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A picture. " * 80}}],
    "usage": {"prompt_tokens": 800, "completion_tokens": 200, "total_tokens": 1000},
}  # fmt: skip
MANIFEST = """
name: speed
images:
  - {{name: numbers, kind: folder, path: {pictures}, teacher: all, expand: none}}
pictures: {{duplicate_bits: -1}}
teacher:
  model: gpt-4o
  base_url: {base_url}
  max_completion_tokens: 1024
  limits: {{in_flight: {in_flight}}}
  alarms: {{same_text_share: null}}
"""


def serve(pipe: Connection) -> None:
    """Answers at once; tells how many requests came in which time when asked, and forgets them."""
    times: list[float] = []
    body = json.dumps(ANSWER).encode()

    async def chat(request: web.Request) -> web.Response:
        arrived = time.monotonic()
        if len(await request.read()) >= PROBE_BYTES:
            times.append(arrived)
        return web.Response(body=body, content_type="application/json")

    async def span(_: web.Request) -> web.Response:
        seen, times[:] = list(times), []
        return web.json_response([len(seen), seen[-1] - seen[0] if seen else 0.0])

    async def main() -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/span", span)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


@contextmanager
def server() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def make_pictures(folder: Path, number: int) -> None:
    """JPEGs of noise over a ramp, about 100 KB each, no two the same."""
    folder.mkdir(parents=True)
    ramp = Image.radial_gradient("L").resize(SIDE_PX).convert("RGB")
    patterns = [Image.blend(ramp, Image.effect_noise(SIDE_PX, 60).convert("RGB"), 0.5) for _ in range(8)]
    for each in range(number):
        patterns[each % 8].save(folder / f"{each:06d}.jpg", quality=67, comment=f"{each}".encode())


def sgv(folder: Path, stage: str) -> None:
    environment = {**os.environ, "OPENAI_API_KEY": "none", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-m", "sgv_data", stage, "manifest.yaml", "--quiet"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def prepare_run(folder: Path, base_url: str, in_flight: int) -> None:
    """A run folder in which only `collect` is left to do."""
    text = MANIFEST.format(pictures=folder / "pictures", base_url=f"{base_url}/v1", in_flight=in_flight)
    (folder / "manifest.yaml").write_text(text)
    sgv(folder, "index")


def collect(folder: Path) -> None:
    shutil.rmtree(folder / "runs" / "speed" / "collect", ignore_errors=True)
    sgv(folder, "collect")


def bare(pictures: Path, base_url: str, in_flight: int) -> None:
    asyncio.run(bare_loop([path.read_bytes() for path in sorted(pictures.iterdir())], base_url, in_flight))


async def bare_loop(pictures: list[bytes], base_url: str, in_flight: int) -> None:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    left = iter(pictures)
    client = AsyncOpenAI(api_key="none", base_url=f"{base_url}/v1", max_retries=0, http_client=DefaultAioHttpClient())

    async def worker() -> None:
        for data in left:
            url = "data:image/jpeg;base64," + base64.b64encode(data).decode()
            await client.chat.completions.create(
                model="gpt-4o", max_completion_tokens=1024, temperature=0.7,
                messages=[{"role": "user", "content": [
                    {"type": "text", "text": "Describe this picture in detail."},
                    {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
                ]}],
            )  # fmt: skip

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    await client.close()


def bare_process(folder: Path, base_url: str, in_flight: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=bare, args=(folder / "pictures", base_url, in_flight))
    process.start()
    process.join()
    assert process.exitcode == 0, "the bare loop failed"


def curator(python: str, folder: Path, base_url: str, in_flight: int) -> None:
    script, pictures = HERE / "peers" / "curator_loop.py", folder / "pictures"
    command = [python, str(script), str(pictures), f"{base_url}/v1", str(in_flight)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, f"curator failed:\n{done.stderr[-3000:]}"


def rate(base_url: str, pictures: int) -> float:
    """Requests per second between the first and the last since the last call."""
    with urlopen(f"{base_url}/span") as response:
        number, seconds = json.load(response)
    assert number == pictures, f"{number} requests for {pictures} pictures"
    return float(number / seconds)


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    number, in_flight = arguments.pictures, arguments.in_flight
    sizes = [path.stat().st_size for path in (folder / "pictures").iterdir()]
    print(f"{number} JPEGs of {sum(sizes) / number / 1000:.0f} KB, {in_flight} in flight, {os.cpu_count()} cores")
    peer_columns = "  curator  ratio" if arguments.curator_python else ""
    print("requests per second\n\nround  sgv collect  bare loop  ratio" + peer_columns)
    ratios: list[tuple[float, ...]] = []
    with server() as base_url:
        prepare_run(folder, base_url, in_flight)
        for each in range(arguments.rounds):
            collect(folder)
            ours = rate(base_url, number)
            bare_process(folder, base_url, in_flight)
            loop = rate(base_url, number)
            line, found = f"{each + 1:5d}  {ours:11.0f}  {loop:9.0f}  {ours / loop:5.2f}", [ours / loop]
            if arguments.curator_python:
                curator(arguments.curator_python, folder, base_url, in_flight)
                peer = rate(base_url, number)
                line, found = f"{line}  {peer:7.0f}  {ours / peer:5.2f}", [*found, ours / peer]
            print(line, flush=True)
            ratios.append(tuple(found))
    middle = [statistics.median(column) for column in zip(*ratios, strict=True)]
    print("median ratios: " + ", ".join(f"{ratio:.2f}" for ratio in middle))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--curator-python", help="python of an environment that has bespokelabs-curator")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sgv-collect-"))
    try:
        make_pictures(folder / "pictures", arguments.pictures)
        measure(arguments, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
