"""How fast `expand` describes real JPEGs on a CPU, beside three other ways, in one run.

    python benchmarks/expand_cpu.py [--pictures 600] [--rounds 2] [--long 10000]

    sgv           the stage's own path: worker processes decode, the engine describes, finished units are written
    bare          `generate` on tensors that are already in memory, at the best of several batch sizes
    paper's way   batches of four, each decoded on the main thread before `generate`
    pipeline      the image-text-to-text pipeline of transformers, at the best of several batch sizes

The model is the demo's base, greedy, at most 160 new tokens. Pictures are JPEGs of 640 x 480 cut from the photographs
that come with the project. Rates are captions per second, model loading not counted. `--long N` describes N pictures
and prints how memory went.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from sgv_data.captioner.load import Captioner, choose_device, choose_dtype, find_model, load_captioner, use_all_cores
from sgv_data.captioner.picture import picture_opener
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.captioner.render import Renderer
from sgv_data.captioner.setting import Setting
from sgv_data.expand.decoding import DecodingPool
from sgv_data.expand.describe import Describer
from sgv_data.expand.gauge import Gauge
from sgv_data.expand.ladder import Ladder
from sgv_data.expand.rows import Writer
from sgv_data.expand.units import UnitStore, cut_units
from sgv_data.manifest import Manifest
from sgv_data.package_data import resolve_asset
from sgv_data.progress import Silent
from sgv_data.prompts import load_prompt
from sgv_data.records import ImageRow, image_order

NEW_TOKENS = 160
BATCH_SIZES = (8, 32, 128)
SIDE_PX = (640, 480)


def make_pictures(folder: Path, number: int) -> list[ImageRow]:
    """Different JPEGs of one size from the project's photographs, and their index."""
    folder.mkdir(parents=True)
    photos = sorted(resolve_asset("sgv:photos").rglob("*.jpg"))
    fitted = [ImageOps.fit(Image.open(path).convert("RGB"), (680, 520)) for path in photos]
    rows = []
    for each in range(number):
        across, down = each // len(fitted) % 40, each // (40 * len(fitted)) % 40
        path = folder / f"{each:06d}.jpg"
        cut = fitted[each % len(fitted)].crop((across, down, across + SIDE_PX[0], down + SIDE_PX[1]))
        cut.save(path, quality=88, comment=f"{each}".encode())
        data = path.read_bytes()
        rows.append(ImageRow(
            f"cuts/{path.stem}", "cuts", path.stem, path.name, "CC0-1.0", None, len(data),
            hashlib.sha256(data).hexdigest(), "jpeg", *SIDE_PX, "0" * 16, None, None, None, False, True,
        ))  # fmt: skip
    return sorted(rows, key=lambda row: image_order(row.image_id))


class Bench:
    """One model, one set of pictures, and the ways to describe them."""

    def __init__(self, folder: Path, rows: Sequence[ImageRow]) -> None:
        # Here and below, since the processes that decode import this file too and need no torch.
        from transformers import GenerationConfig

        self.folder, self.rows = folder, rows
        self.manifest = Manifest.model_validate({
            "name": "speed", "teacher": {"model": "nobody"},
            "images": [{"kind": "folder", "name": "cuts", "path": str(folder / "pictures")}],
        })  # fmt: skip
        self.captioner: Captioner = load_captioner(
            find_model("sgv:base"), choose_device(), choose_dtype("float32", choose_device())
        )
        self.renderer = Renderer(self.captioner, load_prompt("captioner"))
        self.settings = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=NEW_TOKENS, eos_token_id=self.renderer.end_ids,
            pad_token_id=self.renderer.pad_id,
        )  # fmt: skip

    def path(self, row: ImageRow) -> Path:
        return self.folder / "pictures" / row.location

    def sgv(self, rows: Sequence[ImageRow], batch_size: int = 128) -> float:
        from sgv_data.expand.transformers_engine import TransformersEngine

        shutil.rmtree(self.folder / "units", ignore_errors=True)
        expand = self.manifest.expand
        opener = picture_opener(self.manifest, self.captioner.processor.image_processor)
        writer = Writer("base", "none", load_prompt("captioner"), (("engine", "transformers"),), 0, "speed")
        store = UnitStore(self.folder / "units")
        started = time.monotonic()
        with DecodingPool(opener, 1, 4 * batch_size) as pool:
            engine = TransformersEngine(self.captioner, self.renderer, batch_size)
            gauge = Gauge(Silent(), len(rows), 1)
            describer = Describer(engine, pool, writer, Ladder(expand), Setting(NEW_TOKENS), gauge)
            describer.describe(cut_units(rows, 256, "speed"), store.write)
        return len(rows) / (time.monotonic() - started)

    def bare(self, rows: Sequence[ImageRow], batch_size: int) -> float:
        """Nothing but `generate`."""
        from sgv_data.captioner.collate import collate

        opener = picture_opener(self.manifest, self.captioner.processor.image_processor)
        samples = [self.renderer.prompt_inputs(opener.open(row)) for row in rows]
        batches = [collate(samples[place : place + batch_size], "left", self.renderer.pad_id)
                   for place in range(0, len(samples), batch_size)]  # fmt: skip
        started = time.monotonic()
        for batch in batches:
            self._generate(batch)
        return len(rows) / (time.monotonic() - started)

    def papers_way(self, rows: Sequence[ImageRow], batch_size: int = 4) -> float:
        started = time.monotonic()
        left = iter(rows)
        while some := list(islice(left, batch_size)):
            images = [Image.open(self.path(row)).convert("RGB") for row in some]
            encoded = self.captioner.processor(
                text=[self.renderer.prompt_text] * len(images), images=images, return_tensors="pt", padding=True,
                padding_side="left",
            )  # fmt: skip
            ids = self._generate(dict(encoded))
            self.captioner.processor.batch_decode(ids, skip_special_tokens=True)
        return len(rows) / (time.monotonic() - started)

    def pipeline(self, rows: Sequence[ImageRow], batch_size: int) -> float:
        from transformers import pipeline

        describe = pipeline(
            "image-text-to-text", model=self.captioner.model, processor=self.captioner.processor, device="cpu"
        )
        prompt = {"type": "text", "text": load_prompt("captioner").text}
        chats = [
            [{"role": "user", "content": [{"type": "image", "path": str(self.path(row))}, prompt]}] for row in rows
        ]
        started = time.monotonic()
        describe(text=chats, batch_size=batch_size, generate_kwargs={"generation_config": self.settings})
        return len(rows) / (time.monotonic() - started)

    def _generate(self, batch: dict[str, Any]) -> Any:
        import torch

        with torch.inference_mode():
            return self.captioner.model.generate(**batch, generation_config=self.settings)


def best(way: Callable[[int], float]) -> tuple[float, int]:
    """The highest rate over the batch sizes, and that size."""
    return max((way(size), size) for size in BATCH_SIZES)


def compare(bench: Bench, rounds: int) -> None:
    few = bench.rows[: max(32, len(bench.rows) // 8)]
    _, bare_size = best(lambda size: bench.bare(few, size))
    _, pipeline_size = best(lambda size: bench.pipeline(few, size))
    print(f"best batch sizes: bare {bare_size}, pipeline {pipeline_size}; ours 128")
    print("round      sgv     bare   paper's way   pipeline   of bare   times paper's   times pipeline")
    for number in range(rounds):
        ours = bench.sgv(bench.rows)
        bare = bench.bare(bench.rows, bare_size)
        paper = bench.papers_way(bench.rows)
        piped = bench.pipeline(bench.rows, pipeline_size)
        print(f"{number + 1:5d} {ours:8.1f} {bare:8.1f} {paper:13.1f} {piped:10.1f} {ours / bare:9.2f} "
              f"{ours / paper:15.2f} {ours / piped:16.2f}", flush=True)


def watch_memory(bench: Bench, number: int) -> None:
    """Describes many pictures in tenths and prints the peak after each."""
    rows = [row for _ in range(-(-number // len(bench.rows))) for row in bench.rows][:number]
    for tenth in range(10):
        rate = bench.sgv(rows[tenth * number // 10 : (tenth + 1) * number // 10])
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{(tenth + 1) * number // 10:7d} pictures  {rate:6.1f}/s  peak {peak_mb:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--long", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sgv-expand-"))
    try:
        rows = make_pictures(folder / "pictures", arguments.pictures)
        print(f"{len(rows)} JPEGs of {SIDE_PX[0]} x {SIDE_PX[1]}, {use_all_cores()} threads, {os.cpu_count()} cores")
        with quiet_libraries():
            bench = Bench(folder, rows)
            watch_memory(bench, arguments.long) if arguments.long else compare(bench, arguments.rounds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
