"""How fast shards are written and verified, beside `tar`, `webdataset.ShardWriter` and `sha256sum` on the same files.

    python benchmarks/shard.py [--samples 4000] [--rounds 3] [--folder DIR]

Every way of writing starts from the same files on disk and ends with an fsync of what it wrote. `tar` and ShardWriter
write members alone; `sgv shard` also checks the pictures' hashes, hashes members and tars, and writes the index. The
best of several rounds counts; the files are in the page cache. CPU seconds, those of child processes included, tell
more than the clock where other programs run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from sgv_data.manifest import Manifest
from sgv_data.processes import usable_cores
from sgv_data.progress import Silent
from sgv_data.provenance import Lineage
from sgv_data.records import CaptionRow, CaptionSet, ImageRow, Outcome, Verdict, image_order
from sgv_data.shard.choose import Chosen
from sgv_data.shard.finish import write_sidecars
from sgv_data.shard.plan import PlannedShard, make_plan
from sgv_data.shard.tar import TarFile
from sgv_data.shard.verify import verify_dataset
from sgv_data.shard.write import ShardTask
from sgv_data.shard.write_all import ShardWriters

DISTINCT_PICTURES = 40
CAPTION = "A long caption about a picture that shows nothing but noise, in the length that teachers write. " * 9


def main() -> None:
    """Prints the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        root = Path(name)
        chosen = list(make_inputs(root, arguments.samples))
        num_bytes = sum(path.stat().st_size for path in (root / "members").iterdir())
        print(f"{len(chosen)} samples, {num_bytes / 1e6:.0f} MB in members, {usable_cores()} cores\n")
        measure("writing", len(chosen), num_bytes, [
            ("tar (ustar)", lambda out: by_tar(root, out)),
            ("webdataset.ShardWriter", lambda out: by_webdataset(root, out)),
            ("sgv TarFile alone", lambda out: by_tar_file(root, out)),
            ("sgv shard, 1 thread", lambda out: by_stage(root, out, chosen, 1)),
            (f"sgv shard, {usable_cores()} threads", lambda out: by_stage(root, out, chosen, usable_cores())),
        ], root, arguments.rounds)  # fmt: skip
        by_stage(root, root / "kept", chosen, usable_cores())
        tars = sorted((root / "kept" / "data").iterdir())
        measure("reading back", len(chosen), num_bytes, [
            ("sha256sum", lambda _: run("sha256sum", *tars)),
            ("sgv verify", lambda _: verify_dataset(root / "kept", Silent()).require_sound()),
            ("sgv verify --decode", lambda _: verify_dataset(root / "kept", Silent(), True).require_sound()),
        ], root, arguments.rounds)  # fmt: skip


def measure(
    what: str, num_samples: int, num_bytes: int, ways: list[tuple[str, Callable[[Path], object]]], root: Path,
    rounds: int,
) -> None:  # fmt: skip
    """Runs every way in turn, several rounds, and prints the best time of each."""
    best = dict.fromkeys((name for name, _ in ways), (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, way in ways:
            shutil.rmtree(root / "out", ignore_errors=True)
            (root / "out").mkdir()
            start, cpu_start_s = time.perf_counter(), cpu_s()
            way(root / "out")
            best[name] = min(best[name], (time.perf_counter() - start, cpu_s() - cpu_start_s))
    reference_s = best[ways[0][0]][0]
    print(f"{what:<36} {'s':>7} {'CPU s':>7} {'samples/s':>10} {'MB/s':>7} {'vs first':>9}")
    for name, (seconds, busy_s) in best.items():
        rates = f"{num_samples / seconds:>10.0f} {num_bytes / 1e6 / seconds:>7.0f} {reference_s / seconds:>9.2f}"
        print(f"{name:<36} {seconds:>7.2f} {busy_s:>7.2f} {rates}")
    print()


def cpu_s() -> float:
    """CPU seconds of this process and its finished children so far."""
    return sum(os.times()[:4])


def make_inputs(root: Path, count: int) -> Iterator[Chosen]:
    """Writes the members as files (for `tar` and ShardWriter) and gives the same samples as rows (for ours)."""
    (root / "members").mkdir()
    pictures = [picture(number) for number in range(DISTINCT_PICTURES)]
    ids = sorted((f"pics/{number}.jpg" for number in range(count)), key=image_order)
    for number, image_id in enumerate(ids):
        data = pictures[number % DISTINCT_PICTURES] + f"{number}".encode()  # trailing bytes make each file its own
        key = image_order(image_id)
        (root / "members" / f"{key}.jpg").write_bytes(data)
        (root / "members" / f"{key}.txt").write_text(CAPTION)
        (root / "members" / f"{key}.json").write_text(json.dumps({"image_id": image_id, "filler": "x" * 1_100}))
        yield Chosen(image_row(image_id, key, data), caption_row(image_id), verdict(image_id))


def picture(number: int) -> bytes:
    """A noisy photograph-sized JPEG of about 100 kB."""
    noise = Image.frombytes("RGB", (160, 120), random.Random(number).randbytes(160 * 120 * 3))
    buffer = io.BytesIO()
    noise.resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def image_row(image_id: str, key: str, data: bytes) -> ImageRow:
    return ImageRow(
        image_id=image_id, source="pics", key=key, location=f"{key}.jpg", license="CC0-1.0", text=None,
        num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), format="jpeg", width_px=640, height_px=480,
        phash="0" * 16, reject=None, duplicate_of=None, detail=None, for_teacher=True, for_expand=False,
    )  # fmt: skip


def caption_row(image_id: str) -> CaptionRow:
    return CaptionRow(
        image_id=image_id, text=CAPTION, outcome=Outcome.OK, failure=None, detail=None, producer=CaptionSet.TEACHER,
        model="model", model_revision="", prompt_id="detailed", prompt_version=1, prompt_sha256="0" * 64,
        sampling='{"temperature":0.7}', finish_reason="stop", image_sha256="", sent_sha256="0" * 64, prompt_tokens=900,
        completion_tokens=200, cost_usd=None, request_key="", request_id=None, attempts=1, latency_s=1.0,
        created_utc="",
    )  # fmt: skip


def verdict(image_id: str) -> Verdict:
    return Verdict(image_id, True, None, 0.0, 0.0, 0.0, 0.0, 150, len(CAPTION))


# --- ways of writing ---------------------------------------------------------------------------------------------


def by_tar(root: Path, out: Path) -> None:
    run("tar", "--format=ustar", "--sort=name", "-cf", out / "x.tar", "-C", root, "members")
    sync(out)


def by_webdataset(root: Path, out: Path) -> None:
    import webdataset

    with webdataset.ShardWriter(str(out / "x-%05d.tar"), maxcount=1_000, verbose=0) as writer:
        for path in sorted((root / "members").glob("*.jpg")):
            fields = {name: path.with_suffix(f".{name}").read_bytes() for name in ("jpg", "json", "txt")}
            writer.write({"__key__": path.stem, **fields})
    sync(out)


def by_tar_file(root: Path, out: Path) -> None:
    with TarFile(out / "x.tar") as tar:
        for path in sorted((root / "members").iterdir()):
            tar.add(path.name, path.read_bytes())
        tar.close()


def by_stage(root: Path, out: Path, chosen: list[Chosen], num_threads: int) -> None:
    """What `sgv shard` does once captions are chosen."""
    manifest = Manifest.model_validate({
        "name": "benchmark", "images": [{"name": "pics", "kind": "folder", "path": str(root / "members")}],
        "teacher": {"model": "model"}, "shard": {"max_samples": 1_000},
    })  # fmt: skip
    work = out / ".work"
    with ShardWriters(num_threads) as writers:

        def write(shard: PlannedShard) -> None:
            writers.write(ShardTask(manifest, shard, work / "plan", out / "data", work / "notes" / shard.name))

        plan = make_plan(work / "plan", chosen, manifest.shard, 0, Lineage(), Silent(), on_planned=write)
        done = list(writers.results(plan.shards))
    write_sidecars(out, work / "notes", done)


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
