"""The questions that ask for a detailed description, by which such rows are found and new ones are worded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sgv_data.errors import InputError

PLACEHOLDER = "<image>"

RELEASED = (
    "What do you see happening in this image?",
    "What do you think is going on in this snapshot?",
    "Can you elaborate on the elements of the picture provided?",
    "Describe the following image.",
    "Write a detailed description of the given image.",
    "Explain the visual content of the image in great detail.",
    "Analyze the image in a comprehensive and detailed manner.",
    "Can you describe the main features of this image for me?",
    "What are the key elements in this picture?",
    "What is this photo about?",
    "What's happening in the scene?",
)
"""The pool of the released LLaVA and ShareGPT4V files."""


def plain(question: str) -> str:
    """A question without the picture's place, case, repeated space and the mark at its end, to compare it by."""
    return " ".join(question.replace(PLACEHOLDER, " ").split()).rstrip(".?! ").casefold()


def read_pool(path: Path) -> tuple[str, ...]:
    """Questions from a text file, one a line.

    Raises:
        InputError: if the file is not there or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path}: cannot be read as a text of questions, one a line") from exc
    pool = tuple(line.strip() for line in lines if line.strip())
    if not pool:
        raise InputError(f"{path}: holds no questions; write one a line")
    return pool


def lot(seed: int, what: str, name: str) -> int:
    """What `name` draws, 64 bits: the smaller, the earlier it is chosen; nothing but the arguments matters."""
    drawn = hashlib.sha256(f"{seed}\n{what}\n{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(drawn[:8])


def worded(seed: int, image: str, pool: Sequence[str]) -> str:
    """A question for a picture with the placeholder before or behind it, both drawn by seed and picture."""
    drawn = lot(seed, "question", image)
    question = pool[(drawn >> 1) % len(pool)]
    return f"{PLACEHOLDER}\n{question}" if drawn & 1 else f"{question}\n{PLACEHOLDER}"
