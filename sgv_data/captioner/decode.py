"""Greedy decoding in which a finished caption leaves the batch.

`generate` of transformers goes on with every row until the last one has ended; where lengths differ, that is a third of
the work for nothing. Used for models whose positions are plainly counted; all others go through `generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sgv_data.captioner.cache import roomy_cache

_PLAINLY_COUNTED = frozenset({"llava"})
"""Model types for which this is tested to give what `generate` gives."""

_LEAVE_FROM_SHARE = 1 / 8
"""Rows leave once so large a share has ended: each leaving copies the keys and values of those that stay."""


def can_decode(model: Any) -> bool:
    """Whether `greedy` knows how to run this model."""
    return model.config.model_type in _PLAINLY_COUNTED and roomy_cache(model) is not None


def greedy(
    model: Any, batch: dict[str, torch.Tensor], max_new_tokens: int, end_ids: Sequence[int]
) -> list[list[int]]:
    """New token ids per row of a left-padded batch, the end token included where there is one."""
    mask_BT = batch["attention_mask"]
    # Without padding no mask is needed, and attention is faster without one.
    padded = not bool(mask_BT.all())
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    cache: Any = roomy_cache(model)
    inputs = {**batch, "attention_mask": mask_BT if padded else None, "position_ids": positions_BT}
    last_B1 = positions_BT[:, -1:]
    written: list[list[int]] = [[] for _ in range(len(mask_BT))]
    rows = list(range(len(mask_BT)))
    ended: set[int] = set()
    for num_new in range(1, max_new_tokens + 1):
        next_B1 = _next_tokens(model, inputs, cache)
        for row, token in zip(rows, next_B1.flatten().tolist(), strict=True):
            if row not in ended:
                written[row].append(token)
                if token in end_ids:
                    ended.add(row)
        if len(ended) == len(written) or num_new == max_new_tokens:
            break
        staying = [place for place, row in enumerate(rows) if row not in ended]
        if len(rows) - len(staying) >= _LEAVE_FROM_SHARE * len(rows):
            kept_R = torch.tensor(staying, device=next_B1.device)
            cache.batch_select_indices(kept_R)
            next_B1, last_B1, mask_BT = next_B1[kept_R], last_B1[kept_R], mask_BT[kept_R]
            rows = [rows[place] for place in staying]
        last_B1 = last_B1 + 1
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)
        inputs = {"input_ids": next_B1, "attention_mask": mask_BT if padded else None, "position_ids": last_B1}
    return written


def _next_tokens(model: Any, inputs: dict[str, Any], cache: Any) -> torch.Tensor:
    """The likeliest next token of each row, (B, 1)."""
    output = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    next_B1: torch.Tensor = output.logits[:, -1].argmax(-1, keepdim=True)
    return next_B1
