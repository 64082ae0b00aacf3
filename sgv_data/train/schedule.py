"""Which sample is trained on when: one long sequence over all epochs, from seed, epoch and lengths alone.

A trainer that goes on at step N skips to the same place in it, so nothing about the order need be stored.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_BATCHES_SORTED_TOGETHER = 16
"""Samples of so many batches are sorted by length among themselves: enough for little padding, and still shuffled."""

Positions = npt.NDArray[np.int64]


def training_order(
    positions: Positions,
    lengths: npt.NDArray[np.int32],
    seed: int,
    epochs: float,
    group: int,
    kinds: npt.NDArray[np.bool_] | None = None,
) -> Positions:
    """The positions in the order in which they are trained on, all epochs one after the other.

    Consecutive groups of `group` (what a device, or all of them, take at once) have similar lengths (`lengths` is per
    position); which group comes when is shuffled. With `kinds` (per position) a group holds samples of one kind, and
    the last of a kind is filled up with samples of that kind that come twice. The last epoch is cut where `epochs` has
    a fraction; at least one sample is left.
    """
    parts = [_epoch_order(positions, lengths, _generator(seed, 0), group, kinds)]
    total = max(1, round(epochs * len(parts[0])))
    while len(parts) * len(parts[0]) < total:
        parts.append(_epoch_order(positions, lengths, _generator(seed, len(parts)), group, kinds))
    return np.concatenate(parts)[:total]


def _epoch_order(
    positions: Positions,
    lengths: npt.NDArray[np.int32],
    generator: np.random.Generator,
    group: int,
    kinds: npt.NDArray[np.bool_] | None,
) -> Positions:
    shuffled = positions[generator.permutation(len(positions))]
    groups: list[Positions] = []
    if kinds is None or len(np.unique(kinds[positions])) < 2:
        groups = _similar_groups(shuffled, lengths, group)
    else:
        for kind in (False, True):
            of_kind = shuffled[kinds[shuffled] == kind]
            filled = np.resize(of_kind, -(-len(of_kind) // group) * group)
            groups += _similar_groups(filled, lengths, group)
    return np.concatenate([groups[place] for place in generator.permutation(len(groups))])


def _similar_groups(shuffled: Positions, lengths: npt.NDArray[np.int32], group: int) -> list[Positions]:
    together = group * _BATCHES_SORTED_TOGETHER
    groups: list[Positions] = []
    for start in range(0, len(shuffled), together):
        chunk = shuffled[start : start + together]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        groups += [chunk[place : place + group] for place in range(0, len(chunk), group)]
    return groups


def _generator(seed: int, epoch: int) -> np.random.Generator:
    key = hashlib.sha256(f"{seed}/epoch/{epoch}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "big")))


def micro_batch_size(batch_size: int, wanted: int, num_devices: int = 1) -> int:
    """The largest number of samples up to `wanted` that divides a device's share of a batch evenly."""
    share = max(1, batch_size // num_devices)
    return next(size for size in range(min(wanted, share), 0, -1) if share % size == 0)
