"""Trees of pictures as people have them, with what goes wrong in them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(number: int, form: str = "JPEG") -> bytes:
    """A small picture that no other number gives, nor one that looks like it."""
    noise = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((32, 32), Image.Resampling.NEAREST).save(buffer, form)
    return buffer.getvalue()


def put(root: Path, paths: Iterable[str], start: int = 0) -> None:
    """A different picture at each path."""
    for number, path in enumerate(paths, start):
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(number, {"gif": "GIF", "png": "PNG"}.get(place.suffix[1:], "JPEG")))


def llava_file(path: Path, images: Iterable[str | list[str] | None]) -> Path:
    """A LLaVA-format file with one row per entry; None: a row of text alone."""
    rows: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"Text {number}."}]
        rows.append({"id": str(number), **({"image": image} if image else {}), "conversations": turns})
    path.write_text(json.dumps(rows))
    return path
