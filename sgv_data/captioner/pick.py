"""From logits to tokens, each row by its own setting. B rows, V tokens of the vocabulary, N draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sgv_data.captioner.setting import Setting


@dataclass(frozen=True, slots=True)
class Picker:
    """What the rows of a batch are decoded by. Every row's draws are fixed before it begins, so that a sampled caption
    depends on its picture and its seed alone, not on the batch it is in."""

    temperature_B1: torch.Tensor
    top_p_B1: torch.Tensor
    penalty_B1: torch.Tensor
    draws_BN: torch.Tensor
    samples: bool
    penalises: bool

    @staticmethod
    def of(settings: Sequence[Setting], seeds: Sequence[int], device: torch.device) -> Picker:
        """The picker of new rows."""
        samples = any(setting.samples for setting in settings)
        most = max(setting.max_new_tokens for setting in settings) + 1 if samples else 1
        draws = np.zeros((len(settings), most), np.float32)
        for row, (setting, seed) in enumerate(zip(settings, seeds, strict=True)):
            if setting.samples:
                draws[row] = np.random.Generator(np.random.PCG64(seed)).random(most, np.float32)

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        return Picker(
            column([setting.temperature for setting in settings]),
            column([setting.top_p for setting in settings]),
            column([setting.repetition_penalty for setting in settings]),
            torch.from_numpy(draws).to(device),
            samples,
            any(setting.repetition_penalty != 1.0 for setting in settings),
        )

    def select(self, places_R: torch.Tensor) -> Picker:
        """The picker of some of the rows."""
        return Picker(
            self.temperature_B1[places_R], self.top_p_B1[places_R], self.penalty_B1[places_R],
            self.draws_BN[places_R], self.samples, self.penalises,
        )  # fmt: skip

    def joined(self, other: Picker) -> Picker:
        """The picker of these rows and then those."""
        most = max(self.draws_BN.shape[1], other.draws_BN.shape[1])
        wide = [torch.nn.functional.pad(each, (0, most - each.shape[1])) for each in (self.draws_BN, other.draws_BN)]
        return Picker(
            torch.cat([self.temperature_B1, other.temperature_B1]),
            torch.cat([self.top_p_B1, other.top_p_B1]),
            torch.cat([self.penalty_B1, other.penalty_B1]),
            torch.cat(wide),
            self.samples or other.samples,
            self.penalises or other.penalises,
        )

    def pick(self, logits_BV: torch.Tensor, count_B1: torch.Tensor, seen_BV: torch.Tensor | None) -> torch.Tensor:
        """The next token of each row, (B, 1). `count_B1`: tokens written so far; `seen_BV`: those that stand in the
        prompt or the caption, needed where a repetition penalty is set."""
        if seen_BV is not None and self.penalises:
            lowered_BV = torch.where(logits_BV > 0, logits_BV / self.penalty_B1, logits_BV * self.penalty_B1)
            logits_BV = torch.where(seen_BV, lowered_BV.to(logits_BV.dtype), logits_BV)
        likeliest_B1 = logits_BV.argmax(-1, keepdim=True)
        if not self.samples:
            return likeliest_B1
        drawn_B1 = self._draw(logits_BV.float(), count_B1)
        return torch.where(self.temperature_B1 > 0, drawn_B1, likeliest_B1)

    def _draw(self, logits_BV: torch.Tensor, count_B1: torch.Tensor) -> torch.Tensor:
        """By the inverse of the cumulative distribution over the likeliest tokens that make up `top_p`."""
        probability_BV = torch.softmax(logits_BV / self.temperature_B1.clamp(min=1e-6), dim=-1)
        sorted_BV, token_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
        up_to_BV = sorted_BV.cumsum(-1)
        kept_BV = up_to_BV - sorted_BV < self.top_p_B1
        total_B1 = (sorted_BV * kept_BV).sum(-1, keepdim=True)
        draw_B1 = self.draws_BN.gather(1, count_B1.clamp(max=self.draws_BN.shape[1] - 1))
        place_B1 = (up_to_BV <= draw_B1 * total_B1).sum(-1, keepdim=True)
        place_B1 = torch.minimum(place_B1, kept_BV.sum(-1, keepdim=True) - 1)
        return token_BV.gather(1, place_B1)
