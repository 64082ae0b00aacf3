"""The blind audit: a page of kept and rejected captions that does not say which is which, and what its answers prove.

Half of the sample is drawn from what is kept, half from what is rejected, by hash. Precision is the share of rejected
captions that a person calls bad. Recall weighs both halves by how many captions they stand for.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sgv_data.errors import InputError, RunFolderError
from sgv_data.images.decode import BadPicture, decode
from sgv_data.images.encode import encode
from sgv_data.manifest import Manifest
from sgv_data.records import CaptionRow, ImageRow, Verdict
from sgv_data.run_folder import RunFolder, digest, write_durably
from sgv_data.sources.reader import PictureReader
from sgv_data.tables import read_table

SHEET, KEY = "sheet.html", "key.json"
_SIDE_PX = 448
_Z_95 = 1.959964


class Key(BaseModel):
    """What the page hides: per number on it, the picture and whether its caption is kept. And of how many drawn."""

    model_config = ConfigDict(extra="forbid")

    audit: str
    num_kept: int
    num_rejected: int
    image_ids: list[str]
    kept: list[bool]


class Answers(BaseModel):
    """What the page saves: per number, what the person said."""

    model_config = ConfigDict(extra="forbid")

    audit: str
    answers: dict[int, Literal["good", "bad", "unsure"]]


@dataclass(frozen=True, slots=True)
class Share:
    """A share with the interval it lies in with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Of rejections. Where nothing of a kind was answered, None."""

    num_answered: int
    num_unsure: int
    precision: Share | None
    recall: Share | None
    good_rejected: Share | None


@dataclass(frozen=True, slots=True)
class _Card:
    text: str
    picture: str | None


def folder_of(run: RunFolder, stage: str) -> Path:
    """Where the audit of a filter stage lies: beside the stage, which may be made anew."""
    return run.root / stage.replace("filter", "audit", 1)


def write_audit(manifest: Manifest, run: RunFolder, stage: str, captions: str, num: int) -> Path:
    """Draws at most `num` captions and writes the page and its key; returns the page. The same run gives the same page.

    Raises:
        RunFolderError: if the stage is not finished, or judged no caption.
    """
    if run.record(stage) is None:
        raise RunFolderError(f"{run.stage(stage)} is not finished; run this filter first")
    key = _draw(read_table(run.stage(stage), "verdicts", Verdict), num)
    if not key.image_ids:
        raise RunFolderError(f"{run.stage(stage)} holds no captions to audit")
    cards = _cards(manifest, run, captions, key.image_ids)
    folder = folder_of(run, stage)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / SHEET, _page(key.audit, cards))
    write_durably(folder / KEY, key.model_dump_json(indent=1))
    return folder / SHEET


def judge_answers(folder: Path, answers: Path) -> AuditResult:
    """What the answers to the page in `folder` prove.

    Raises:
        InputError: if they cannot be read or belong to another page.
    """
    key = Key.model_validate_json(_read(folder / KEY))
    try:
        given = Answers.model_validate_json(_read(answers))
    except ValidationError as exc:
        raise InputError(f"{answers} holds no answers as the page saves them: {exc.errors()[0]['msg']}") from exc
    if given.audit != key.audit or not all(0 <= number < len(key.kept) for number in given.answers):
        raise InputError(f"{answers} answers another page than {folder / SHEET}")
    sure = {number: said for number, said in given.answers.items() if said != "unsure"}
    bad: dict[bool, int] = {True: 0, False: 0}
    answered: dict[bool, int] = {True: 0, False: 0}
    for number, said in sure.items():
        answered[key.kept[number]] += 1
        bad[key.kept[number]] += said == "bad"
    kept_bad, rejected_bad = wilson(bad[True], answered[True]), wilson(bad[False], answered[False])
    return AuditResult(
        num_answered=len(given.answers),
        num_unsure=len(given.answers) - len(sure),
        precision=rejected_bad,
        recall=_weighed(rejected_bad, key.num_rejected, kept_bad, key.num_kept),
        good_rejected=_weighed(_rest(rejected_bad), key.num_rejected, _rest(kept_bad), key.num_kept),
    )


def wilson(hits: int, of: int) -> Share | None:
    """The share of hits with its 95 % Wilson interval (Wilson 1927)."""
    if not of:
        return None
    share, square = hits / of, _Z_95**2
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = _Z_95 / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))


def _weighed(one: Share | None, num_one: int, other: Share | None, num_other: int) -> Share | None:
    """What part of all that both shares stand for lies in the first, from the worst to the best case."""
    if one is None or other is None:
        return None

    def part(first: float, second: float) -> float:
        total = first * num_one + second * num_other
        return first * num_one / total if total else 0.0

    return Share(part(one.value, other.value), part(one.low, other.high), part(one.high, other.low))


def _rest(share: Share | None) -> Share | None:
    return None if share is None else Share(1 - share.value, 1 - share.high, 1 - share.low)


def _draw(verdicts: Iterable[Verdict], num: int) -> Key:
    """The captions with the smallest hashes of each half, then all in an order that tells nothing."""
    drawn: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    counts = {True: 0, False: 0}
    for verdict in verdicts:
        counts[verdict.kept] += 1
        chosen = drawn[verdict.kept]
        heapq.heappush(chosen, (-_hash("draw", verdict.image_id), verdict.image_id))
        if len(chosen) > (num - num // 2 if verdict.kept else num // 2):
            heapq.heappop(chosen)
    sample = {image_id: kept for kept, chosen in drawn.items() for _, image_id in chosen}
    ids = sorted(sample, key=lambda image_id: _hash("order", image_id))
    kept = [sample[image_id] for image_id in ids]
    audit = digest({"ids": ids, "kept": kept, **{str(each): count for each, count in counts.items()}})[:16]
    return Key(audit=audit, num_kept=counts[True], num_rejected=counts[False], image_ids=ids, kept=kept)


def _hash(what: str, image_id: str) -> int:
    drawn = hashlib.sha256(f"audit:{what}:{image_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(drawn[:8])


def _cards(manifest: Manifest, run: RunFolder, captions: str, ids: list[str]) -> list[_Card]:
    wanted = set(ids)
    rows = (row for row in read_table(run.stage(captions), "captions", CaptionRow) if row.image_id in wanted)
    texts = {row.image_id: row.text for row in rows}
    pictures = dict(_pictures(manifest, run, wanted))
    return [_Card(texts.get(image_id, ""), pictures.get(image_id)) for image_id in ids]


def _pictures(manifest: Manifest, run: RunFolder, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """Image id and JPEG as a data address; a picture that is no longer there is left out."""
    reader = PictureReader(manifest)
    for row in read_table(run.stage("index"), "images", ImageRow):
        if row.image_id not in wanted:
            continue
        try:
            _, image = decode(reader.read_row(row), manifest.pictures, _SIDE_PX)
        except (BadPicture, InputError, OSError):
            continue
        yield row.image_id, "data:image/jpeg;base64," + base64.b64encode(encode(image, "jpeg", 80)).decode()


def _page(audit: str, cards: list[_Card]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("audit.html.jinja").render(audit=audit, cards=cards)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path} cannot be read ({exc})") from exc
