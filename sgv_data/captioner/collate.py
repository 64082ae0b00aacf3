"""Samples to a batch. B samples, T tokens of the longest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sgv_data.captioner.render import IGNORED, TOKEN_KEYS, Inputs

if TYPE_CHECKING:
    import torch

Side = Literal["left", "right"]


def collate(samples: Sequence[Inputs], side: Side, pad_id: int) -> dict[str, torch.Tensor]:
    """One batch: token tensors (B, T) padded on `side`, picture tensors joined along their first dimension.

    Pad right to train, left to generate. Samples without a picture have no picture tensors. Pictures of different sizes
    are padded with zeros at their ends, as the processors of models that allow them do.
    """
    padding = {"input_ids": pad_id, "labels": IGNORED}
    batch = {}
    for name in dict.fromkeys(name for sample in samples for name in sample):
        if name in TOKEN_KEYS:
            rows = [sample[name] if name in sample else sample["input_ids"].new_zeros(()) for sample in samples]
            lengths = [len(sample["input_ids"]) for sample in samples]
            rows = [row if row.dim() else row.expand(length) for row, length in zip(rows, lengths, strict=True)]
            batch[name] = _stack_tokens(rows, side, padding.get(name, 0))
        else:
            batch[name] = _join([sample[name] for sample in samples if name in sample])
    return batch


def _stack_tokens(rows: list[torch.Tensor], side: Side, padding: int) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    batch_BT = rows[0].new_full((len(rows), longest), padding)
    for place, row in zip(batch_BT, rows, strict=True):
        start = longest - len(row) if side == "left" else 0
        place[start : start + len(row)] = row
    return batch_BT


def _join(parts: list[torch.Tensor]) -> torch.Tensor:
    import torch

    largest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    return torch.cat([_fill(part, largest) for part in parts])


def _fill(part: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """`part` with zeros at the end of every dimension but the first, up to `sizes`."""
    if list(part.shape[1:]) == sizes:
        return part
    filled = part.new_zeros((len(part), *sizes))
    filled[tuple(slice(size) for size in part.shape)] = part
    return filled
