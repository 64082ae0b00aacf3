"""Captions for a batch of pictures: greedy, so that a caption depends on its picture alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sgv_data.captioner.collate import collate
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.captioner.render import Inputs, Renderer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Written:
    """One generated caption. `completion_tokens` counts the end token where there is one."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


def greedy_settings(max_new_tokens: int) -> dict[str, Any]:
    """The decoding as it is recorded with every caption."""
    return {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "max_new_tokens": max_new_tokens}


class CaptionGenerator:
    """Greedy decoding with one model, in float32 the same for a picture whatever batch it is in."""

    def __init__(self, captioner: Captioner, renderer: Renderer, max_new_tokens: int) -> None:
        self._model, self._device = captioner.model, captioner.device
        self._renderer, self._max_new_tokens = renderer, max_new_tokens

    def write(self, samples: Sequence[Inputs]) -> list[Written]:
        """Captions for rendered prompts (`Renderer.prompt_inputs`), in their order.

        Raises:
            torch.OutOfMemoryError, RuntimeError: if the batch does not fit in memory.
        """
        import torch

        batch = collate(samples, "left", self._renderer.pad_id)
        dtype = self._model.dtype
        moved = {
            name: value.to(self._device, dtype if value.is_floating_point() else None) for name, value in batch.items()
        }
        with torch.inference_mode():
            rows = self._decode(moved)
        return [self._read(row, len(sample["input_ids"])) for row, sample in zip(rows, samples, strict=True)]

    def _decode(self, batch: dict[str, Any]) -> list[list[int]]:
        """New token ids per row; rows may go on behind their end token."""
        from sgv_data.captioner.cache import roomy_cache
        from sgv_data.captioner.decode import can_decode, greedy

        num_prompt = batch["input_ids"].shape[1]
        room = self._renderer.max_tokens
        new_tokens = self._max_new_tokens if room is None else max(1, min(self._max_new_tokens, room - num_prompt))
        if can_decode(self._model):
            return greedy(self._model, batch, new_tokens, self._renderer.end_ids)
        with quiet_libraries(), self._own_settings(new_tokens):
            ids_BT = self._model.generate(**batch, past_key_values=roomy_cache(self._model))
        rows: list[list[int]] = ids_BT[:, num_prompt:].tolist()
        return rows

    @contextmanager
    def _own_settings(self, new_tokens: int) -> Iterator[None]:
        """Replaces the model's generation settings: they often ask for sampling that nobody set here."""
        from transformers import GenerationConfig

        before = self._model.generation_config
        self._model.generation_config = GenerationConfig(
            **{**greedy_settings(new_tokens), "use_cache": True},
            eos_token_id=self._renderer.end_ids,
            pad_token_id=self._renderer.pad_id,
        )
        try:
            yield
        finally:
            self._model.generation_config = before

    def _read(self, row: list[int], prompt_tokens: int) -> Written:
        ends = set(self._renderer.end_ids)
        end = next((place for place, token in enumerate(row) if token in ends), None)
        if end is None:
            return Written(self._renderer.caption_text(row), "length", prompt_tokens, len(row))
        return Written(self._renderer.caption_text(row[:end]), "stop", prompt_tokens, end + 1)


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether torch says that there was not enough memory, on a GPU or on the CPU."""
    import torch

    if isinstance(exc, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU allocator has no class of its own for it.
    return isinstance(exc, RuntimeError) and "DefaultCPUAllocator" in str(exc)
