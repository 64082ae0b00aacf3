"""Connected regions of a picture mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Region:
    """A connected set of pixels: its box (right and bottom exclusive) and which pixels of the box belong to it."""

    left: int
    top: int
    right: int
    bottom: int
    mask: Mask


def count_runs(mask: Mask) -> int:
    """How many horizontal runs of set pixels the mask has: cheap, and large for noisy masks."""
    return int((mask[:, 1:] & ~mask[:, :-1]).sum() + mask[:, 0].sum())


def find_regions(mask: Mask, min_area_px: int) -> list[Region]:
    """Regions connected over sides (not corners), of at least `min_area_px` pixels, by their first pixel."""
    rows, starts, ends = _runs(mask)
    labels = _connect(rows, starts, ends)
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    regions = []
    for indices in members.values():
        if sum(ends[index] - starts[index] for index in indices) >= min_area_px:
            regions.append(_region(rows, starts, ends, indices))
    return regions


def _runs(mask: Mask) -> tuple[list[int], list[int], list[int]]:
    """Row, first column and end column (exclusive) of every horizontal run, in reading order."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    return rows.tolist(), starts.tolist(), ends.tolist()


def _connect(rows: list[int], starts: list[int], ends: list[int]) -> list[int]:
    """For each run the index of the first run of its region, by union-find over runs that touch from row to row."""
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    above = 0
    for index, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] <= starts[index]):
            above += 1
        candidate = above
        while rows[candidate] == row - 1 and starts[candidate] < ends[index]:
            first, second = sorted((root(candidate), root(index)))
            parent[second] = first
            candidate += 1
    return [root(index) for index in range(len(rows))]


def _region(rows: list[int], starts: list[int], ends: list[int], indices: list[int]) -> Region:
    left, right = min(starts[index] for index in indices), max(ends[index] for index in indices)
    top, bottom = rows[indices[0]], rows[indices[-1]] + 1
    inside = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for index in indices:
        inside[rows[index] - top, starts[index] - left : ends[index] - left] = True
    return Region(left, top, right, bottom, inside)
