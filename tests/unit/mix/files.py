"""Small files in LLaVA's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DETAILED = ("What do you see happening in this image?\n<image>", "<image>\nWhat is this photo about?")
Row = dict[str, Any]


def row(name: str, image: str | None, *said: str, **more: Any) -> Row:
    turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(said)]
    return {"id": name, **({"image": image} if image else {}), **more, "conversations": turns}


def sft_rows(num_detailed: int = 20) -> list[Row]:
    """Detailed rows, each among rows of other kinds."""
    rows = []
    for number in range(num_detailed):
        picture = f"coco/train2017/{number:012d}.jpg"
        rows += [
            row(f"{number:012d}", picture, DETAILED[number % 2], f"Old caption {number}: käse."),
            row(f"vqa{number}", picture, "<image>\nIs it day?\nAnswer with a word.", "Yes", "And night?", "No"),
            row(f"text{number}", None, "Write a poem.", "Roses…", model="gpt-4"),
        ]
    return rows


def captions(count: int = 60, source: str = "coco/train2017", words: str = "New caption") -> list[Row]:
    return [
        row(f"{number:012d}", f"{source}/{number:012d}.jpg", "<image>\nDescribe.", f"{words} {number} of {source}.")
        for number in range(count)
    ]


def write(path: Path, rows: Sequence[Row], indent: int | None = None) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    else:
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=indent is None))
    return path


def read(path: Path) -> list[Row]:
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
