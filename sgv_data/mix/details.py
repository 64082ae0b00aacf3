"""Finding the detailed descriptions in an SFT file: one picture, one exchange, a question of the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sgv_data.json_rows import read_json_rows
from sgv_data.mix.captions import exchange_of
from sgv_data.mix.questions import lot, plain
from sgv_data.mix.records import Detail
from sgv_data.progress import Progress


@dataclass(slots=True)
class Details:
    """The rows found, in their order, and what else there is. Memory grows with the rows found, not with the file."""

    rows: list[Detail] = field(default_factory=list)
    num_rows: int = 0
    by_question: Counter[str] = field(default_factory=Counter)
    num_others: int = 0


def find_details(path: Path, pool: Sequence[str], seed: int, progress: Progress) -> Details:
    """Reads an SFT file once.

    Raises:
        InputError: if it is no JSON array of objects, or JSON Lines.
    """
    known = {plain(question): question for question in pool}
    found = Details()
    progress.begin("looking for detailed descriptions", None)
    for row in read_json_rows(path):
        found.num_rows += 1
        progress.advance()
        question = known.get(plain(_first_question(row.value)))
        if question is None:
            continue
        image = row.value.get("image")
        if not isinstance(image, str) or exchange_of(row.value) is None:
            found.num_others += 1
            continue
        found.by_question[question] += 1
        drawn = lot(seed, "row", f"{row.value.get('id')}\n{image}")
        found.rows.append(Detail(row.number, row.offset_bytes, row.num_bytes, image, drawn))
    return found


def _first_question(row: dict[str, object]) -> str:
    turns = row.get("conversations")
    first = turns[0] if isinstance(turns, list) and turns else None
    value = first.get("value") if isinstance(first, dict) else None
    return value if isinstance(value, str) else ""


def earliest(details: Iterable[Detail], number: int) -> list[Detail]:
    """The `number` rows with the smallest lots, smallest first: a larger number takes the same and more."""
    return sorted(details, key=lambda detail: (detail.lot, detail.number))[:number]
