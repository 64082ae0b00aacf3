"""Which captions take the places of old ones: those of the same pictures, or drawn by lot per source.

The set of captions is read as a stream; memory holds as many captions as rows are replaced, and eight bytes per picture
of a control set.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sgv_data.errors import InputError
from sgv_data.mix.captions import without_placeholder
from sgv_data.mix.questions import lot
from sgv_data.mix.records import Caption, Detail, Match


class Pictures:
    """The pictures that a set of captions describes, as hashes of their paths."""

    def __init__(self, captions: Iterable[Caption]) -> None:
        hashes = array("Q", (_path_hash(caption.image) for caption in captions if caption.text.strip()))
        self._sorted: NDArray[np.uint64] = np.sort(np.array(hashes, dtype=np.uint64))

    def __contains__(self, image: str) -> bool:
        wanted = np.uint64(_path_hash(image))
        place = int(np.searchsorted(self._sorted, wanted))
        return place < len(self._sorted) and bool(self._sorted[place] == wanted)


def clean_path(image: str) -> str:
    """A path below the folder of pictures in its plain form."""
    return str(PurePosixPath(image.lstrip("/")))


def _path_hash(image: str) -> int:
    return lot(0, "path", clean_path(image))


@dataclass(frozen=True, slots=True)
class Matched:
    """Row number -> the caption of its picture; and how many rows' pictures have a name that several have."""

    captions: dict[int, Caption]
    num_ambiguous: int


def same_pictures(
    details: Iterable[Detail], captions: Iterable[Caption], match: Match, allowed: Pictures | None
) -> Matched:
    """The captions of the pictures that rows show. With `Match.NAME` a picture is also found under another folder, if
    only one picture of the set has its name."""
    by_path: defaultdict[str, list[Detail]] = defaultdict(list)
    by_name: defaultdict[str, list[Detail]] = defaultdict(list)
    for detail in details:
        by_path[clean_path(detail.image)].append(detail)
        by_name[_name(detail.image)].append(detail)
    found: dict[int, Caption] = {}
    named: dict[str, set[str]] = defaultdict(set)
    candidates: dict[str, Caption] = {}
    for caption in captions:
        if not caption.text.strip() or (allowed is not None and caption.image not in allowed):
            continue
        path = clean_path(caption.image)
        for detail in by_path.get(path, ()):
            found.setdefault(detail.number, caption)
        if match is Match.NAME and _name(path) in by_name:
            named[_name(path)].add(path)
            candidates.setdefault(_name(path), caption)
    num_ambiguous = 0
    for name, paths in named.items():
        missing = [detail for detail in by_name[name] if detail.number not in found]
        if len(paths) > 1:
            num_ambiguous += len(missing)
            continue
        found.update({detail.number: candidates[name] for detail in missing})
    return Matched(found, num_ambiguous)


def _name(image: str) -> str:
    return PurePosixPath(image).stem


def drawn_pictures(
    captions: Iterable[Caption], number: int, seed: int, weights: Mapping[str, float] | None, allowed: Pictures | None
) -> list[Caption]:
    """`number` captions of different pictures, those with the smallest lots, in the order of their lots.

    With `weights`, each source gives its part of the number.

    Raises:
        InputError: if there are not so many.
    """
    quotas = _quotas(weights, number) if weights else {"": number}
    draws = {source: _Draw(quota) for source, quota in quotas.items()}
    for caption in captions:
        draw = draws.get(caption.source if weights else "")
        usable = caption.text.strip() and (allowed is None or caption.image in allowed)
        if draw is not None and usable:
            draw.offer(lot(seed, "picture", clean_path(caption.image)), caption)
    for source, draw in draws.items():
        if len(draw.taken) < draw.number:
            what = f"of the source {source!r} there are" if source else "there are"
            both = " that both sets describe" if allowed is not None else ""
            raise InputError(
                f"{draw.number} captions are wanted, {what} {len(draw.taken)}{both}; use a smaller --share or --weight"
            )
    chosen = [(drawn, caption) for draw in draws.values() for drawn, caption in draw.taken.values()]
    return [caption for _, caption in sorted(chosen, key=lambda each: (each[0], each[1].image))]


def _quotas(weights: Mapping[str, float], number: int) -> dict[str, int]:
    """`number` split in proportion, the largest remainders rounded up."""
    total = sum(weights.values())
    exact = {source: number * weight / total for source, weight in weights.items()}
    quotas = {source: math.floor(value) for source, value in exact.items()}
    by_rest = sorted(exact, key=lambda source: (quotas[source] - exact[source], source))
    for source in by_rest[: number - sum(quotas.values())]:
        quotas[source] += 1
    return quotas


class _Draw:
    """The `number` smallest lots of different pictures among those offered."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken: dict[str, tuple[int, Caption]] = {}
        self._largest: list[tuple[int, str]] = []

    def offer(self, drawn: int, caption: Caption) -> None:
        path = clean_path(caption.image)
        full = len(self.taken) >= self.number
        if path in self.taken or not self.number or (full and -self._largest[0][0] <= drawn):
            return
        if full:
            del self.taken[heapq.heappop(self._largest)[1]]
        heapq.heappush(self._largest, (-drawn, path))
        self.taken[path] = (drawn, caption)


def texts_for(pictures: Iterable[str], captions: Iterable[Caption]) -> dict[str, str]:
    """Path -> the first caption of a set for it."""
    wanted = {clean_path(image) for image in pictures}
    texts: dict[str, str] = {}
    for caption in captions:
        path = clean_path(caption.image)
        if path in wanted and caption.text.strip():
            texts.setdefault(path, without_placeholder(caption.text))
    return texts
