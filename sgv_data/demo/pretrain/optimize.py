"""The optimizers of pre-training: Muon for matrices inside blocks, AdamW for the rest."""

from __future__ import annotations

import torch
from torch import nn

_WARMUP_STEPS = 100
_CLIP = 1.0
_MIN_SIDE = 64
"""Matrices with a shorter side than this are lookup tables or heads, which Muon is not made for."""


class Optimizers:
    """Two optimizers with one schedule: a short rise, then a straight fall to zero at `num_steps`.

    Muon gets the matrices of `blocks`; AdamW gets all else of it and `other`.
    """

    def __init__(
        self, blocks: nn.Module, other: nn.Module, matrix_rate: float, other_rate: float, num_steps: int
    ) -> None:
        tables = {id(module.weight) for module in blocks.modules() if isinstance(module, nn.Embedding)}
        matrices = [p for p in blocks.parameters() if p.ndim == 2 and min(p.shape) >= _MIN_SIDE and id(p) not in tables]
        chosen = {id(p) for p in matrices}
        others = [p for p in (*blocks.parameters(), *other.parameters()) if id(p) not in chosen]
        self._parameters = [*matrices, *others]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=0.01, momentum=0.95), matrix_rate),
            (torch.optim.AdamW(others, lr=other_rate, weight_decay=0.0, betas=(0.9, 0.98)), other_rate),
        ]
        self._num_steps = num_steps

    def step(self, step: int) -> None:
        """Take a step with the gradients there are, and clear them."""
        nn.utils.clip_grad_norm_(self._parameters, _CLIP)
        share = min((step + 1) / _WARMUP_STEPS, (self._num_steps - step) / max(1, self._num_steps - _WARMUP_STEPS))
        for optimizer, rate in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
