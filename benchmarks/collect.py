"""How fast `collect` asks, beside a bare loop over the same client that keeps nothing.

    python benchmarks/collect.py [--pictures 2000] [--in-flight 64] [--rounds 3]

Both ask a local server that answers at once, in a process of its own, about the same JPEGs of about 100 KB. `collect`
reads them from disk, checks their hashes, paces, stores and syncs every answer; the bare loop has them in memory. The
rate of `collect` is taken from the first to the last request that the server saw, so loading is not part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web
from PIL import Image

from sgv_data.collect.run import run
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.records import ImageRow, image_order
from sgv_data.run_folder import RunFolder
from sgv_data.stage import StageContext
from sgv_data.tables import write_table

SIDE_PX = (640, 480)
ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "instant",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A picture. " * 80}}],
    "usage": {"prompt_tokens": 800, "completion_tokens": 200, "total_tokens": 1000},
}  # fmt: skip


def serve(pipe: Connection) -> None:
    """Answers at once; tells first and last time of a request when asked, and forgets them."""
    times: list[float] = []
    body = json.dumps(ANSWER).encode()

    async def chat(request: web.Request) -> web.Response:
        times.append(time.monotonic())
        await request.read()
        return web.Response(body=body, content_type="application/json")

    async def span(_: web.Request) -> web.Response:
        seen, times[:] = list(times), []
        return web.json_response([len(seen), seen[-1] - seen[0]])

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


def make_pictures(folder: Path, number: int) -> list[ImageRow]:
    """JPEGs of noise over a ramp, about 100 KB each, and their index."""
    (folder / "pictures").mkdir(parents=True)
    ramp = Image.radial_gradient("L").resize(SIDE_PX).convert("RGB")
    patterns = [Image.blend(ramp, Image.effect_noise(SIDE_PX, 60).convert("RGB"), 0.5) for _ in range(8)]
    rows = []
    for each in range(number):
        path = folder / "pictures" / f"{each:06d}.jpg"
        patterns[each % 8].save(path, quality=72, comment=f"{each}".encode())
        data = path.read_bytes()
        rows.append(ImageRow(
            f"numbers/{path.stem}", "numbers", path.stem, path.name, "CC0-1.0", None, len(data),
            hashlib.sha256(data).hexdigest(), "jpeg", *SIDE_PX, "0" * 16, None, None, None, True, False,
        ))  # fmt: skip
    return sorted(rows, key=lambda row: image_order(row.image_id))


def time_collect(folder: Path, rows: list[ImageRow], base_url: str, in_flight: int) -> None:
    shutil.rmtree(folder / "run", ignore_errors=True)
    manifest = Manifest.model_validate({
        "name": "speed",
        "images": [{"kind": "folder", "name": "numbers", "path": str(folder / "pictures")}],
        "teacher": {"model": "gpt-4o", "base_url": f"{base_url}/v1", "limits": {"in_flight": in_flight}},
    })  # fmt: skip
    write_table(folder / "run" / "index", "images", ImageRow, rows)
    context = StageContext(RunFolder(folder / "run"), "collect", (), Silent())
    context.folder.mkdir(parents=True)
    assert run(manifest, context).num_out == len(rows)


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


def rate(base_url: str) -> float:
    """Requests per second between the first and the last since the last call."""
    from urllib.request import urlopen

    with urlopen(f"{base_url}/span") as response:
        number, seconds = json.load(response)
    return float(number / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sgv-collect-"))
    try:
        rows = make_pictures(folder, arguments.pictures)
        pictures = [(folder / "pictures" / row.location).read_bytes() for row in rows]
        size_kb = sum(map(len, pictures)) / len(pictures) / 1000
        print(f"{len(rows)} JPEGs of {size_kb:.0f} KB, {arguments.in_flight} in flight, {os.cpu_count()} cores")
        print("round   collect req/s   bare loop req/s   ratio")
        with server() as base_url:
            for number in range(arguments.rounds):
                time_collect(folder, rows, base_url, arguments.in_flight)
                ours = rate(base_url)
                asyncio.run(bare_loop(pictures, base_url, arguments.in_flight))
                bare = rate(base_url)
                print(f"{number + 1:5d}   {ours:13.0f}   {bare:15.0f}   {ours / bare:5.2f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
