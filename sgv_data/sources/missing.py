"""What is said about listed pictures that are not where the list expects them: how many, which, why, what to do."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sgv_data.sources.locate import MISSING, How, Located

SAM_PICTURES_PER_TAR = 11_186
"""Of SA-1B: 570,486 pictures lie in its first 51 tars, so that an id tells the tar, but for a few at the borders."""

_EXAMPLES = 3
_MAX_SENTENCES = 12
_SAM_ID = re.compile(r"^sa_(\d+)\.")

ORIGINS = {
    "coco/train2017": "train2017.zip of COCO",
    "llava/llava_pretrain/images": "images.zip of LLaVA-Pretrain",
    "sam/images": "the tars sa_000000 to sa_000050 of SA-1B",
    "share_textvqa/images": "the TextCaps zip released with ShareGPT4V",
    "web-celebrity/images": "the zip released with ShareGPT4V",
    "web-landmark/images": "the zip released with ShareGPT4V",
    "wikiart/images": "the zip released with ShareGPT4V",
    "gqa/images": "images.zip of GQA",
    "ocr_vqa/images": "OCR-VQA, whose pictures must all be saved as .jpg",
    "textvqa/train_images": "train_val_images.zip of TextVQA",
    "vg/VG_100K": "images.zip of Visual Genome",
    "vg/VG_100K_2": "images2.zip of Visual Genome",
}
"""Folders of the published layout and where their pictures come from."""


@dataclass(slots=True)
class _Group:
    """What was found of one listed folder."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    sam_tars: Counter[int] = field(default_factory=Counter)

    def add(self, path: str) -> None:
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(path)
        found = _SAM_ID.match(path.rpartition("/")[2])
        if found:
            self.sam_tars[(int(found[1]) - 1) // SAM_PICTURES_PER_TAR] += 1


class Explained:
    """Takes note of every listed picture; `sentences` sums up."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._listed: Counter[str] = Counter()
        self._groups: dict[tuple[str, How], _Group] = defaultdict(_Group)

    def note(self, path: str, located: Located) -> None:
        """One listed picture and where it was found."""
        place = layout_of(path)
        self._listed[place] += 1
        if located.how is not How.AS_LISTED:
            self._groups[place, located.how].add(path if located.how in MISSING else located.path)

    @property
    def num_missing(self) -> int:
        """Listed pictures that are nowhere."""
        return sum(group.count for (_, how), group in self._groups.items() if how in MISSING)

    def sentences(self) -> list[str]:
        """Most important first, at most a dozen."""
        ordered = sorted(self._groups.items(), key=lambda item: (item[0][1] not in MISSING, -item[1].count, item[0]))
        lines = [self._sentence(place, how, group) for (place, how), group in ordered]
        rest = ordered[_MAX_SENTENCES:]
        if rest:
            num_missing = sum(group.count for (_, how), group in rest if how in MISSING)
            num_elsewhere = sum(group.count for _, group in rest) - num_missing
            more = f"in {len({place for (place, _), _ in rest}):,} more folders {num_missing:,} pictures are missing"
            lines[_MAX_SENTENCES:] = [f"{more} and {num_elsewhere:,} are taken from elsewhere"]
        return lines

    def _sentence(self, place: str, how: How, group: _Group) -> str:
        examples = ", ".join(group.examples) + (", …" if group.count > len(group.examples) else "")
        share = f"{group.count:,} of {self._listed[place]:,} pictures listed in {place or 'the list'}"
        if how not in MISSING:
            return f"{share} are taken from elsewhere: {how} ({examples})"
        if how is How.NO_FOLDER:
            return f"{share} are missing: {self._root} has no such folder. {_fetch(place)} ({examples})"
        return f"{share} are missing ({examples}). {_cause(place, group)}"


def layout_of(path: str) -> str:
    """The folder of the published layout that a path is in, else the folder it is in."""
    for place in ORIGINS:
        if path.startswith(f"{place}/"):
            return place
    return path.rpartition("/")[0]


def _fetch(place: str) -> str:
    origin = ORIGINS.get(place)
    if origin is None:
        return "Is `images` the folder that the listed paths count from?"
    return f"Unpack {origin} so that its pictures lie in {place}/"


def _cause(place: str, group: _Group) -> str:
    if group.sam_tars:
        tars = ", ".join(f"sa_{tar:06d}.tar" for tar, _ in sorted(group.sam_tars.items())[:8])
        more = f" and {len(group.sam_tars) - 8} more" if len(group.sam_tars) > 8 else ""
        return f"By their numbers they are in {tars}{more}: compare its checksum, fetch it again, unpack it again"
    origin = ORIGINS.get(place)
    again = f"; unpack {origin} again" if origin else ""
    return f"The folder is there, so they were not unpacked, were removed, or never were in it{again}"
