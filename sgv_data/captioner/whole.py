"""Decoding through `generate` of transformers: a batch goes on until its last caption has ended. For every model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sgv_data.captioner.cache import roomy_cache
from sgv_data.captioner.collate import collate
from sgv_data.captioner.decode import Row
from sgv_data.captioner.pick import Picker
from sgv_data.captioner.quiet import quiet_libraries


class WholeBatch:
    """Rows that begin and end together. Each is decoded by its own setting all the same."""

    joins_running = False

    def __init__(self, model: Any, end_ids: Sequence[int], pad_id: int, room_tokens: int | None) -> None:
        self._model, self._end_ids, self._pad_id = model, list(end_ids), pad_id
        self._room_tokens = room_tokens
        self._rows: list[Row] = []

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    def join(self, rows: Sequence[Row]) -> None:
        for row in rows:
            row.starts(self._room_tokens)
        self._rows += rows

    def step(self) -> list[Row]:
        rows = self._rows
        if rows:
            self._generate(rows)
        self._rows = []
        return rows

    def clear(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def _generate(self, rows: Sequence[Row]) -> None:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        model, batch = self._model, collate([row.sample for row in rows], "left", self._pad_id)
        inputs = {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for name, value in batch.items()
        }
        num_prompt = inputs["input_ids"].shape[1]
        picker = Picker.of([row.setting for row in rows], [row.seed for row in rows], model.device)
        follower = _Follower(rows, frozenset(self._end_ids), picker, num_prompt)
        with quiet_libraries(), self._own_settings(max(row.limit for row in rows)):
            model.generate(
                **inputs,
                past_key_values=roomy_cache(model),
                logits_processor=LogitsProcessorList([follower.pick]),
                stopping_criteria=StoppingCriteriaList([follower.have_ended]),
            )
        for row in rows:
            row.ended = row.ended or "length"

    @contextmanager
    def _own_settings(self, new_tokens: int) -> Iterator[None]:
        """Replaces the model's generation settings: they often ask for sampling that nobody set here."""
        from transformers import GenerationConfig

        before = self._model.generation_config
        self._model.generation_config = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=new_tokens, use_cache=True,
            eos_token_id=self._end_ids or None, pad_token_id=self._pad_id,
        )  # fmt: skip
        try:
            yield
        finally:
            self._model.generation_config = before


class _Follower:
    """Picks the tokens in place of `generate` and reads them as they come. P tokens of the prompt."""

    def __init__(self, rows: Sequence[Row], end_ids: frozenset[int], picker: Picker, num_prompt: int) -> None:
        self._rows, self._end_ids, self._picker, self._num_prompt = rows, end_ids, picker, num_prompt

    def pick(self, ids_BT: torch.Tensor, scores_BV: torch.Tensor) -> torch.Tensor:
        """Scores in which only the picked token can win."""
        seen_BV = None
        if self._picker.penalises:
            seen_BV = torch.zeros_like(scores_BV, dtype=torch.bool).scatter_(1, self._prompt_and_caption(ids_BT), True)
        count_B1 = ids_BT.new_full((len(ids_BT), 1), ids_BT.shape[1] - self._num_prompt)
        next_B1 = self._picker.pick(scores_BV, count_B1, seen_BV)
        return torch.full_like(scores_BV, -torch.inf).scatter_(1, next_B1, 0.0)

    def have_ended(self, ids_BT: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        """Which rows have ended, (B,)."""
        for row, token in zip(self._rows, ids_BT[:, -1].tolist(), strict=True):
            row.adds(token, self._end_ids)
        return torch.tensor([bool(row.ended) for row in self._rows], device=ids_BT.device)

    def _prompt_and_caption(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """The ids without the padding in front, which is replaced by a token that is in the prompt anyway."""
        ids_BT = ids_BT.clone()
        for place, row in enumerate(self._rows):
            ids_BT[place, : self._num_prompt - row.prompt_tokens] = ids_BT[place, self._num_prompt - 1]
        return ids_BT
