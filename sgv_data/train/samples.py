"""Captions of pictures that were never trained on, before and after: `samples.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sgv_data.captioner.generate import CaptionGenerator
from sgv_data.captioner.load import ModelPlace, choose_device, choose_dtype, load_captioner
from sgv_data.captioner.picture import picture_opener
from sgv_data.captioner.render import Renderer
from sgv_data.errors import InputError
from sgv_data.images.decode import BadPicture
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.progress import Progress
from sgv_data.prompts import load_prompt
from sgv_data.records import ImageRow
from sgv_data.run_folder import write_durably
from sgv_data.tables import read_table


def unseen_pictures(index: Path, num_pictures: int) -> list[ImageRow]:
    """The first pictures in hash order that the captioner is to describe and the teacher was not asked about."""
    rows = read_table(index, "images", ImageRow)
    unseen = (row for row in rows if row.for_expand and not row.for_teacher and row.reject is None)
    return list(islice(unseen, num_pictures))


def describe_pictures(
    place: ModelPlace, rows: list[ImageRow], manifest: Manifest, settings: CaptionerModel, progress: Progress, what: str
) -> dict[str, str]:
    """Caption by image id, as the model at `place` writes it. Pictures that cannot be read are left out."""
    if not rows:
        return {}
    device = choose_device()
    captioner = load_captioner(place, device, choose_dtype(settings.precision, device))
    renderer = Renderer(captioner, load_prompt(settings.prompt, manifest.prompt_folders))
    opener = picture_opener(manifest, captioner.processor.image_processor)
    generator = CaptionGenerator(captioner, renderer, manifest.expand.max_new_tokens)
    progress.begin(what, len(rows))
    captions: dict[str, str] = {}
    for batch in _batches(rows, manifest.expand.batch_size):
        readable, inputs = [], []
        for row in batch:
            try:
                inputs.append(renderer.prompt_inputs(opener.open(row)))
            except (BadPicture, InputError):
                continue
            readable.append(row.image_id)
        if inputs:
            captions |= dict(zip(readable, (each.text for each in generator.write(inputs)), strict=True))
        progress.advance(len(batch))
    return captions


def _batches(rows: list[ImageRow], size: int) -> Iterator[list[ImageRow]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def read_captions(path: Path) -> dict[str, str] | None:
    """Captions stored by `write_captions`, or None."""
    if not path.is_file():
        return None
    stored: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return stored


def write_captions(path: Path, captions: dict[str, str]) -> None:
    """Stores captions by image id."""
    write_durably(path, json.dumps(captions, ensure_ascii=False))


def write_samples(path: Path, base: dict[str, str], trained: dict[str, str]) -> None:
    """`samples.jsonl`: a line per picture that both have described, in the order of `base`."""
    lines = (
        json.dumps({"image_id": image_id, "base": text, "trained": trained[image_id]}, ensure_ascii=False) + "\n"
        for image_id, text in base.items()
        if image_id in trained
    )
    write_durably(path, "".join(lines))
