"""First phase: the vision tower learns to see, with linear heads that are thrown away afterwards.

Trained plainly with the language side, a small vision tower stays blind: the captions' wording is learned at once, and
what is left of the signal is too weak. Here every patch and every cell of the grid is asked directly what is there.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sgv_data.demo.pretrain.optimize import Optimizers
from sgv_data.demo.pretrain.pictures import IGNORED, Pool, Viewer
from sgv_data.demo.scenes import WORDS, BackgroundColor, Color, Shape, Size, Texture

log = logging.getLogger(__name__)

BATCH = 64
_SHIFT_PX = 2
_GRAIN = 0.015
_CELL_SIZES = (1 + len(Shape), 1 + len(Color), 1 + len(Size), 5)
_PICTURE_SIZES = (len(BackgroundColor) + 1, len(Texture), 5)
_NUM_WORDS = 1 + len(WORDS)


class Heads(nn.Module):
    """Linear readers of the tower's last tokens (B, 1 + patches, width): class token, then patches row by row."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side  # patches along a side, a multiple of 3
        self.patch = nn.Linear(width, sum(_CELL_SIZES) + 3 + side * side)
        self.cell = nn.Linear(width, sum(_CELL_SIZES))
        self.row = nn.Linear(width, _NUM_WORDS)
        self.word = nn.Linear(width, _NUM_WORDS)
        self.picture = nn.Linear(width, sum(_PICTURE_SIZES))

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        per_cell = self.side // 3
        batch, _, width = tokens.shape
        # row, row inside, column, column inside
        patches = tokens[:, 1:].reshape(batch, 3, per_cell, 3, per_cell, width)
        return {
            "patch": self.patch(patches),
            "cell": self.cell(patches.mean(dim=(2, 4)).flatten(1, 2)),
            "row": self.row(patches.mean(dim=(2, 3, 4))),
            "word": self.word(tokens[:, 0]),
            "picture": self.picture(tokens[:, 0]),
        }


def train_vision(tower: nn.Module, pool: Pool, held_out: Pool, viewer: Viewer, num_steps: int, rate: float) -> None:
    """Train the tower in place, logging losses and what it sees in held-out pictures."""
    config: Any = tower.config
    heads = Heads(config.hidden_size, config.image_size // config.patch_size)
    optimizers = Optimizers(tower, heads, matrix_rate=rate, other_rate=1.5e-3, num_steps=num_steps)
    started = time.monotonic()
    losses = []
    for step in range(num_steps):
        picks = torch.randint(0, len(pool), (BATCH,))
        pixels = viewer.view(pool, picks, _SHIFT_PX, _GRAIN)
        with torch.autocast("cpu", torch.bfloat16):
            found = heads(tower(pixels).last_hidden_state)
        loss = _loss(found, pool, picks, pixels)
        torch.autograd.backward([loss])
        optimizers.step(step)
        losses.append(loss.detach())
        if (step + 1) % 100 == 0:
            log.info("vision %d/%d %.0f s loss %.3f", step + 1, num_steps, time.monotonic() - started, _mean(losses))
            losses.clear()
        if (step + 1) % 400 == 0 or step + 1 == num_steps:
            log.info("vision sees %s", _accuracies(tower, heads, held_out, viewer))


def _mean(losses: list[torch.Tensor]) -> float:
    return float(torch.stack(losses).mean())


def _loss(found: dict[str, torch.Tensor], pool: Pool, picks: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Cross entropies of all heads, and how well each patch knows its own mean colour and place."""
    labels = [values[picks] for values in (pool.shape, pool.color, pool.size, pool.rank)]
    sizes = [sum(_CELL_SIZES), 3, found["patch"].shape[-1] - sum(_CELL_SIZES) - 3]
    patch_logits, mean_color, own_place = torch.split(found["patch"].float(), sizes, dim=-1)
    places = torch.arange(sizes[2]).repeat(len(picks))
    total = functional.cross_entropy(own_place.flatten(0, 4), places) + functional.mse_loss(
        mean_color, _patch_means(pixels, patch_logits.shape[2])
    )
    spread = [values.reshape(-1, 3, 1, 3, 1).expand(patch_logits.shape[:-1]) for values in labels]
    total = total + _entropies(patch_logits, _CELL_SIZES, spread)
    total = total + _entropies(found["cell"], _CELL_SIZES, labels)
    total = total + functional.cross_entropy(found["row"].float().flatten(0, 1), pool.word[picks].flatten())
    total = total + functional.cross_entropy(found["word"].float(), pool.word[picks].amax(dim=1))
    wholes = [values[picks] for values in (pool.background, pool.texture, pool.count)]
    return total + _entropies(found["picture"], _PICTURE_SIZES, wholes)


def _entropies(logits: torch.Tensor, sizes: tuple[int, ...], labels: list[torch.Tensor]) -> torch.Tensor:
    parts = torch.split(logits.float(), list(sizes), dim=-1)
    losses = [
        functional.cross_entropy(part.flatten(0, -2), label.flatten(), ignore_index=IGNORED)
        for part, label in zip(parts, labels, strict=True)
    ]
    return torch.stack(losses).sum()


def _patch_means(pixels: torch.Tensor, per_cell: int) -> torch.Tensor:
    """Mean colour of each patch, laid out as the heads have it: (B, 3, inside, 3, inside, C)."""
    side = 3 * per_cell
    means = functional.adaptive_avg_pool2d(pixels, side).permute(0, 2, 3, 1)
    return means.reshape(-1, 3, per_cell, 3, per_cell, 3)


@torch.no_grad()
def _accuracies(tower: nn.Module, heads: Heads, pool: Pool, viewer: Viewer) -> str:
    """Shares of right answers; those of shape, colour and size over cells that hold an object."""
    right: dict[str, list[torch.Tensor]] = {}
    for picks in torch.split(torch.arange(len(pool)), 256):
        with torch.autocast("cpu", torch.bfloat16):
            found = heads(tower(viewer.view(pool, picks)).last_hidden_state)
        shape, color, size, rank = torch.split(found["cell"].float(), list(_CELL_SIZES), dim=-1)
        background, texture, count = torch.split(found["picture"].float(), list(_PICTURE_SIZES), dim=-1)
        filled = pool.shape[picks] > 0
        drawn = pool.count[picks] > 0
        with_word = pool.word[picks].amax(dim=1) > 0
        answers = {
            "shape": (shape.argmax(-1) == pool.shape[picks])[filled],
            "color": (color.argmax(-1) == pool.color[picks])[filled],
            "size": (size.argmax(-1) == pool.size[picks])[filled],
            "rank": (rank.argmax(-1) == pool.rank[picks])[filled],
            "empty": (shape.argmax(-1) == 0)[~filled],
            "word": (found["row"].argmax(-1) == pool.word[picks]).all(dim=1)[with_word],
            "background": background.argmax(-1) == pool.background[picks],
            "texture": (texture.argmax(-1) == pool.texture[picks])[drawn],
            "count": (count.argmax(-1) == pool.count[picks])[drawn],
        }
        for name, values in answers.items():
            right.setdefault(name, []).append(values)
    return " ".join(f"{name} {torch.cat(values).float().mean():.3f}" for name, values in right.items())
