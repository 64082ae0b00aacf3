"""Who is to describe which pictures: the `teacher` and `expand` quotas of each source.

The pictures with the smallest hashes of (seed, role, image id) are taken: neither order nor other sources matter, and a
larger quota takes the same pictures and more.
"""

from __future__ import annotations

import hashlib
import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sgv_data.manifest import Quota, Source

Draws = NDArray[np.uint64]
Chosen = NDArray[np.bool_]


class Role(StrEnum):
    """What a picture can be chosen for."""

    TEACHER = "teacher"
    EXPAND = "expand"


def draw(seed: int, role: Role, image_id: str) -> int:
    """A picture's lot, 64 bits: the smaller, the earlier it is chosen."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{role}\n{image_id}".encode()).digest()[:8])


def wanted(quota: Quota, num_pictures: int) -> int:
    """How many of `num_pictures` a quota asks for; a number may ask for more than there are."""
    if quota == "all":
        return num_pictures
    if quota == "none":
        return 0
    if isinstance(quota, float):
        return math.floor(quota * num_pictures + 0.5)
    return int(quota)


def choose(source: Source, teacher_draws: Draws, expand_draws: Draws) -> tuple[Chosen, Chosen, list[str]]:
    """Which usable pictures of one source the teacher and the captioner get, and a sentence for each quota not met.

    With `apart` the captioner's quota counts the pictures that the teacher does not get.
    """
    notes: list[str] = []
    everything = np.ones(len(teacher_draws), dtype=np.bool_)
    for_teacher = _smallest(teacher_draws, everything, source.teacher, f"{source.name}: teacher", notes)
    pool = ~for_teacher if source.apart else everything
    for_expand = _smallest(expand_draws, pool, source.expand, f"{source.name}: expand", notes)
    return for_teacher, for_expand, notes


def _smallest(draws: Draws, pool: Chosen, quota: Quota, what: str, notes: list[str]) -> Chosen:
    positions = np.flatnonzero(pool)
    number = wanted(quota, len(positions))
    if number > len(positions):
        notes.append(f"{what} asks for {number} pictures, there are {len(positions)} to choose from; all are taken")
    chosen = np.zeros(len(draws), dtype=np.bool_)
    chosen[positions[np.argsort(draws[positions], kind="stable")[:number]]] = True
    return chosen
