"""Captions for pictures as they are written down: text, how it ended, how many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.captioner.setting import Setting

if TYPE_CHECKING:
    from sgv_data.captioner.decode import Batch, Row


@dataclass(frozen=True, slots=True)
class Written:
    """One generated caption. `completion_tokens` counts the end token where there is one; `finish_reason` is stop,
    length or repetition."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def greedy_settings(max_new_tokens: int) -> dict[str, Any]:
    """Greedy decoding as it is recorded."""
    return Setting(max_new_tokens).described()


def new_batch(captioner: Captioner, renderer: Renderer) -> Batch:
    """An empty batch of the kind that suits the model."""
    from sgv_data.captioner.decode import RollingBatch, can_roll
    from sgv_data.captioner.whole import WholeBatch

    kind = RollingBatch if can_roll(captioner.model) else WholeBatch
    return kind(captioner.model, renderer.end_ids, renderer.pad_id, renderer.max_tokens)


def written(row: Row, renderer: Renderer) -> Written:
    """What an ended row says."""
    ids = row.tokens[:-1] if row.ended == "stop" else row.tokens
    return Written(renderer.caption_text(ids), row.ended, row.prompt_tokens, len(row.tokens))


class CaptionGenerator:
    """Greedy decoding with one model, in float32 the same for a picture whatever batch it is in."""

    def __init__(self, captioner: Captioner, renderer: Renderer, max_new_tokens: int) -> None:
        self._captioner, self._renderer = captioner, renderer
        self._setting = Setting(max_new_tokens)

    def write(self, samples: Sequence[Inputs], setting: Setting | None = None, seed: int = 0) -> list[Written]:
        """Captions for rendered prompts (`Renderer.prompt_inputs`), in their order.

        Raises:
            torch.OutOfMemoryError, RuntimeError: if the batch does not fit in memory.
        """
        import torch

        from sgv_data.captioner.decode import Row

        batch = new_batch(self._captioner, self._renderer)
        rows = [Row(place, sample, setting or self._setting, seed) for place, sample in enumerate(samples)]
        with torch.inference_mode():
            batch.join(rows)
            while batch.num_rows:
                batch.step()
        return [written(row, self._renderer) for row in rows]


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether torch says that there was not enough memory, on a GPU or on the CPU."""
    import torch

    if isinstance(exc, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU allocator has no class of its own for it.
    return isinstance(exc, RuntimeError) and "DefaultCPUAllocator" in str(exc)
