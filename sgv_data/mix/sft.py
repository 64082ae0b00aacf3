"""An SFT file with other captions: the rows that ask for a detailed description keep their question, its form and their
place; caption and, where pictures are drawn, picture are exchanged. All other bytes of the file stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sgv_data.errors import InputError
from sgv_data.json_rows import RowsWriter, read_text_at, splice
from sgv_data.mix.captions import Captions, exchange_of, without_placeholder
from sgv_data.mix.choose import Pictures, clean_path, drawn_pictures, same_pictures, texts_for
from sgv_data.mix.details import Details, earliest, find_details
from sgv_data.mix.questions import PLACEHOLDER, RELEASED
from sgv_data.mix.records import Caption, Detail, Images, MixFile, MixPlan, MixReport, Replaced
from sgv_data.progress import Progress
from sgv_data.run_folder import file_sha256, write_durably


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What goes where: rows in the order in which shares take them, each with its new caption."""

    rows: list[tuple[Detail, Caption]]
    num_without: int
    num_ambiguous: int


def make_mixes(
    sft: Path, captions: Captions, plan: MixPlan, out: Path, progress: Progress, control: Captions | None = None
) -> MixReport:
    """Writes one file per share to `out` (with several, `-share-S` comes before its extension), and a report.

    With `control` only pictures that both sets describe are taken, and each file gets a twin, `-control`, with the same
    rows and pictures and the captions of that set: what differs between the two is the captions alone.

    Raises:
        InputError: if a file is not what it should be, there are no rows to replace, or too few captions.
    """
    suffixes = ("",) if control is None else ("", "-control")
    for share in plan.shares:
        for suffix in suffixes:
            _check_target(sft, _named(out, plan, share, suffix))
    details = find_details(sft, plan.questions or RELEASED, plan.seed, progress)
    if not details.rows:
        raise InputError(f"{sft}: no row asks for a detailed description in the words known; see --questions")
    progress.begin("choosing captions", None)
    allowed = Pictures(control) if control is not None else None
    chosen = _choose(details, captions, plan, allowed)
    sets: list[tuple[str, str, dict[str, str] | None]] = [("", captions.label, None)]
    if control is not None:
        sets.append(("-control", control.label, texts_for((caption.image for _, caption in chosen.rows), control)))
    files = []
    for share in plan.shares:
        number = _rounded(share * _replaceable(details, chosen, plan))
        rows = sorted(chosen.rows[:number], key=lambda row: row[0].number)
        for suffix, label, texts in sets:
            progress.begin(f"writing share {share:g}", len(rows))
            path = _named(out, plan, share, suffix)
            files.append(_write(sft, path, rows, plan, share, label, texts, progress))
    report = _report(sft, details, chosen, plan, captions, files)
    write_durably(out.with_name(f"{out.stem}.report.json"), report.model_dump_json(indent=1) + "\n")
    return report


def _check_target(sft: Path, out: Path) -> None:
    if out.suffix != sft.suffix:
        raise InputError(f"{out}: is written in the form of {sft.name}, so its name must end in {sft.suffix}")
    if out.exists() and sft.exists() and out.samefile(sft):
        raise InputError(f"{out}: is the file that is read; write to another")


def _choose(details: Details, captions: Captions, plan: MixPlan, allowed: Pictures | None) -> _Chosen:
    if plan.images is Images.DRAWN:
        number = _rounded(max(plan.shares) * len(details.rows))
        drawn = drawn_pictures(captions, number, plan.seed, plan.weights, allowed)
        return _Chosen(list(zip(earliest(details.rows, number), drawn, strict=True)), 0, 0)
    matched = same_pictures(details.rows, captions, plan.match, allowed)
    if not matched.captions:
        raise InputError(
            f"{captions.label}: has a caption for none of the pictures of the {len(details.rows)} detailed rows (such "
            f"as {details.rows[0].image}); compare the paths, see --place and --match name, or use --images drawn"
        )
    there = earliest((detail for detail in details.rows if detail.number in matched.captions), len(details.rows))
    rows = [(detail, matched.captions[detail.number]) for detail in there]
    return _Chosen(rows, len(details.rows) - len(rows), matched.num_ambiguous)


def _replaceable(details: Details, chosen: _Chosen, plan: MixPlan) -> int:
    return len(chosen.rows) if plan.images is Images.SAME else len(details.rows)


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def _named(out: Path, plan: MixPlan, share: float, suffix: str) -> Path:
    middle = f"-share-{share:g}" if len(plan.shares) > 1 else ""
    return out.with_name(f"{out.stem}{middle}{suffix}{out.suffix}")


def _write(
    sft: Path,
    path: Path,
    rows: list[tuple[Detail, Caption]],
    plan: MixPlan,
    share: float,
    label: str,
    texts: Mapping[str, str] | None,
    progress: Progress,
) -> MixFile:
    by_source: Counter[str] = Counter()
    spliced: dict[int, tuple[int, bytes]] = {}
    listing = path.with_name(f"{path.stem}.replaced.jsonl")
    with RowsWriter(listing) as lines:
        for detail, old_text, new_row, caption in _new_rows(sft, rows, plan, texts):
            spliced[detail.offset_bytes] = (detail.num_bytes, _dumped(new_row, old_text))
            lines.add(_listed(detail, json.loads(old_text), new_row, caption).model_dump())
            by_source[caption.source] += 1
            progress.advance()
    splice(sft, spliced, path)
    return MixFile(
        name=path.name, captions=label, share=share, replaced=len(rows), by_source=dict(sorted(by_source.items())),
        listing=listing.name, num_bytes=path.stat().st_size, sha256=file_sha256(path),
    )  # fmt: skip


def _new_rows(
    sft: Path, rows: list[tuple[Detail, Caption]], plan: MixPlan, texts: Mapping[str, str] | None
) -> Iterator[tuple[Detail, str, dict[str, Any], Caption]]:
    """Per replaced row: where it was, its old text, the new row, and the caption in it."""
    for detail, caption in rows:
        old_text = read_text_at(sft, detail.offset_bytes, detail.num_bytes)
        text = without_placeholder(caption.text) if texts is None else texts[clean_path(caption.image)]
        yield detail, old_text, _exchanged(json.loads(old_text), caption, text, plan.images), caption


def _exchanged(row: dict[str, Any], caption: Caption, text: str, images: Images) -> dict[str, Any]:
    """The row with its answer, and with drawn pictures also id and picture, exchanged.

    Keys that describe the old picture go with it: of a row with another picture only LLaVA's three are left.
    """
    asked, answered = row["conversations"]
    new = {**row, "conversations": [asked, {**answered, "value": text}]}
    if images is Images.DRAWN:
        image = caption.image
        new = {key: new[key] for key in new if key in ("id", "image", "conversations")}
        new |= {"id": PurePosixPath(image).stem, "image": image}
    return new


def _dumped(row: dict[str, Any], like: str) -> bytes:
    """A row as JSON in the way of the one it replaces: on one line or indented, ASCII only or not."""
    if "\n" not in like:
        tight = '":"' in like and '": "' not in like
        separators = (",", ":") if tight else (", ", ": ")
        return json.dumps(row, ensure_ascii=like.isascii(), separators=separators).encode("utf-8", "surrogatepass")
    second = like.split("\n")[1]
    last = like.rsplit("\n", 1)[1]
    outer = last[: len(last) - len(last.lstrip())]
    step = max(1, len(second) - len(second.lstrip()) - len(outer))
    text = json.dumps(row, ensure_ascii=like.isascii(), indent=step)
    return text.replace("\n", "\n" + outer).encode("utf-8", "surrogatepass")


def _listed(detail: Detail, old: dict[str, Any], new: dict[str, Any], caption: Caption) -> Replaced:
    question, old_text = exchange_of(old) or ("", "")
    new_text = str(new["conversations"][1]["value"])
    return Replaced(
        row=detail.number, old_id=str(old.get("id")), new_id=str(new.get("id")), old_image=detail.image,
        new_image=str(new["image"]), source=caption.source, question=question.replace(PLACEHOLDER, "").strip(),
        old_sha256=_sha256(old_text), new_sha256=_sha256(new_text),
        old_chars=len(old_text), new_chars=len(new_text),
    )  # fmt: skip


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _report(
    sft: Path, details: Details, chosen: _Chosen, plan: MixPlan, captions: Captions, files: list[MixFile]
) -> MixReport:
    return MixReport(
        sft=sft.name, sft_rows=details.num_rows, detail_rows=len(details.rows),
        by_question=dict(details.by_question.most_common()), other_detail_rows=details.num_others, images=plan.images,
        seed=plan.seed, match=plan.match if plan.images is Images.SAME else None, weights=dict(plan.weights or {}),
        without_caption=chosen.num_without, ambiguous=chosen.num_ambiguous,
        passed_over=dict(sorted(captions.passed_over.items())), files=files,
    )  # fmt: skip


