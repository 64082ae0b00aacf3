"""Keys and values of generated tokens, written in place.

transformers' own cache concatenates all keys and values anew for each token, which on a CPU is most of the time a small
model needs. Here they lie in a buffer with room for tokens to come.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_ROOM_TOKENS = 64


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A `DynamicLayer` whose `keys` and `values` are views of larger buffers (batch, heads, tokens, head size)."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._key_buffer: torch.Tensor | None = None
        self._value_buffer: torch.Tensor | None = None
        self._last_view: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends the new states; returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        # Rows may have been selected or cropped from outside since: then the buffers are of another shape.
        own = self._last_view is not None and self.keys is self._last_view
        if not own or self._key_buffer is None or self._value_buffer is None or after > self._key_buffer.shape[-2]:
            self._key_buffer = _with_room(self.keys, key_states, before, after)
            self._value_buffer = _with_room(self.values, value_states, before, after)
        self._key_buffer[..., before:after, :] = key_states
        self._value_buffer[..., before:after, :] = value_states
        self.keys = self._last_view = self._key_buffer[..., :after, :]
        self.values = self._value_buffer[..., :after, :]
        return self.keys, self.values


def _with_room(old: torch.Tensor, new: torch.Tensor, before: int, after: int) -> torch.Tensor:
    room = after + max(_ROOM_TOKENS, after // 2)
    buffer = new.new_empty((*new.shape[:-2], room, new.shape[-1]))
    if before:
        buffer[..., :before, :] = old
    return buffer


def roomy_cache(model: Any) -> Cache | None:
    """An empty cache for `model`, or None where its layers keep something else than all keys and values."""
    config = model.config.get_text_config(decoder=True)
    if getattr(model.config, "is_encoder_decoder", False):
        return None
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [RoomyLayer() for _ in cache.layers]
    return cache
