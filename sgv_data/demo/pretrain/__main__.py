"""Pre-trains the demo's base model.

    python -m sgv_data.demo.pretrain --out FOLDER [--text captions.jsonl]

First the vision tower alone learns, with heads that are thrown away, what lies in each cell of a drawing; then
projector and language model learn to say it, with the vision tower frozen. Trained end to end from the start it would
stay blind.

The weights in `sgv_data/demo/assets/base` were made on one core of an AMD EPYC (2026-11-22), in stages: vision in 2,600
steps and 17 minutes (on unseen drawings, cell by cell: shape, colour, size and word 1.00), then about an hour of
language in several runs continued with `--start`, between which the wording grew and the vision tower of one run was
joined to the language side of another. Right of what it says of 256 unseen drawings: shape 0.97, colour 0.97, size
0.98, position 0.97, count 0.98, word 1.00, relation 0.39, all 0.94. A single run with the defaults goes through the
same two phases with one vision head more; it was not measured as a whole. Needs torch 2.9 for its optimizer.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
from pathlib import Path
from typing import Any

import torch

from sgv_data.captioner.tiny import BASE_SIZE, build_model, build_processor
from sgv_data.demo.pretrain.language import Writer, train_language
from sgv_data.demo.pretrain.pictures import HELD_OUT_SERIES, SCENE_SERIES, Viewer, make_pool
from sgv_data.demo.pretrain.vision import train_vision
from sgv_data.demo.pretrain.voice import tokenizer_texts
from sgv_data.demo.pretrain.wording import describe_scene
from sgv_data.demo.scenes import scene

_EXPORT_EVERY_S = 360.0
_NUM_TOKENIZER_CAPTIONS = 2_000


def main(arguments: list[str] | None = None) -> None:
    """Both phases from a fixed seed, with exports on the way."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(options.seed)
    model, processor = _start(options)
    model.set_attn_implementation("eager")  # the backward pass of the fused one is slow in bfloat16 on CPUs
    image_processor = processor.image_processor
    viewer = Viewer(image_processor.image_mean, image_processor.image_std)
    pool = make_pool(SCENE_SERIES, options.pictures, BASE_SIZE.side_px)
    held_out = make_pool(HELD_OUT_SERIES, options.held_out, BASE_SIZE.side_px)
    if options.vision_steps:
        tower = model.model.vision_tower
        train_vision(tower, pool, held_out, viewer, options.vision_steps, options.vision_rate)
        export(model, processor, options.out)
    writer = Writer(model, processor, viewer, options.seed)
    train_language(
        writer,
        model,
        pool,
        held_out,
        options.language_steps,
        options.language_rate,
        lambda: export(model, processor, options.out),
        _EXPORT_EVERY_S,
    )


def _start(options: argparse.Namespace) -> tuple[Any, Any]:
    """Model and processor to begin with: new ones, or those of `--start`."""
    if options.start is None:
        processor = build_processor(_tokenizer_texts(options.text), BASE_SIZE)
        return build_model(processor.tokenizer, BASE_SIZE), processor
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    model = LlavaForConditionalGeneration.from_pretrained(options.start, dtype=torch.float32)
    return model, LlavaProcessor.from_pretrained(options.start)


def export(model: Any, processor: Any, folder: Path) -> None:
    """Write model and processor as `folder`, weights in bfloat16; the folder is replaced whole."""
    from transformers import LlavaForConditionalGeneration

    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    with torch.device("meta"):
        frame = LlavaForConditionalGeneration(model.config)
    small = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    frame.load_state_dict(small, assign=True)
    frame.tie_weights()
    frame.to(torch.bfloat16).save_pretrained(fresh)
    processor.save_pretrained(fresh)
    for path in fresh.iterdir():
        path.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _tokenizer_texts(english: Path | None) -> list[str]:
    rng = random.Random(0)
    captions = [describe_scene(scene(SCENE_SERIES, number), rng) for number in range(_NUM_TOKENIZER_CAPTIONS)]
    lines = english.read_text(encoding="utf-8").splitlines() if english else []
    return list(tokenizer_texts(captions, [json.loads(line)["caption"] for line in lines]))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sgv_data.demo.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced if it exists")
    parser.add_argument("--text", type=Path, help="JSON lines with a `caption` each, for the tokenizer")
    parser.add_argument("--pictures", type=int, default=24_000)
    parser.add_argument("--held-out", type=int, default=1_024)
    parser.add_argument("--vision-steps", type=int, default=2_600)
    parser.add_argument("--language-steps", type=int, default=4_000)
    parser.add_argument("--vision-rate", type=float, default=0.02, help="Muon's learning rate in the vision phase")
    parser.add_argument("--language-rate", type=float, default=0.02, help="Muon's learning rate in the language phase")
    parser.add_argument("--start", type=Path, help="a folder written before, to be trained further")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
