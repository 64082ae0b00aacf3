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
    positions: Positions, lengths: npt.NDArray[np.int32], seed: int, epochs: float, micro_batch: int
) -> Positions:
    """The positions in the order in which they are trained on, all epochs one after the other.

    Consecutive groups of `micro_batch` have similar lengths (`lengths` is per position); which group comes when is
    shuffled. The last epoch is cut where `epochs` has a fraction; at least one sample is left.
    """
    total = max(1, round(epochs * len(positions)))
    parts, num_parts = [], 0
    epoch = 0
    while num_parts < total:
        part = _epoch_order(positions, lengths, _generator(seed, epoch), micro_batch)
        parts.append(part)
        num_parts += len(part)
        epoch += 1
    return np.concatenate(parts)[:total]


def _epoch_order(
    positions: Positions, lengths: npt.NDArray[np.int32], generator: np.random.Generator, micro_batch: int
) -> Positions:
    shuffled = positions[generator.permutation(len(positions))]
    together = micro_batch * _BATCHES_SORTED_TOGETHER
    groups: list[Positions] = []
    for start in range(0, len(shuffled), together):
        chunk = shuffled[start : start + together]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        groups += [chunk[place : place + micro_batch] for place in range(0, len(chunk), micro_batch)]
    return np.concatenate([groups[place] for place in generator.permutation(len(groups))])


def _generator(seed: int, epoch: int) -> np.random.Generator:
    key = hashlib.sha256(f"{seed}/epoch/{epoch}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "big")))


def micro_batch_size(batch_size: int, wanted: int, num_devices: int = 1) -> int:
    """The largest number of samples up to `wanted` that divides a device's share of a batch evenly."""
    share = max(1, batch_size // num_devices)
    return next(size for size in range(min(wanted, share), 0, -1) if share % size == 0)
