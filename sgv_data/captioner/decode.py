"""Decoding in a batch that rolls: captions that are finished leave it, new ones join it.

`generate` of transformers goes on with every row until the last one has ended; where lengths differ, that is a third of
the work for nothing. Used for models whose positions are known to be counted as here; all others go through `generate`
(`whole.py`).

Rows lie right-aligned in one cache: whoever joins a longer batch gets padding in front, and what is padding in every
row is cut off. B rows, T tokens in the cache, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from sgv_data.captioner.cache import roomy_cache
from sgv_data.captioner.collate import collate
from sgv_data.captioner.pick import Picker
from sgv_data.captioner.render import Inputs
from sgv_data.captioner.setting import Setting, ends_in_loop

_PLAINLY_COUNTED = frozenset({"llava", "llava_next"})
_COUNTED_IN_THREE = frozenset({"qwen2_vl", "qwen2_5_vl"})
"""Model types for which this is tested to give what `generate` gives; those of the second kind number a picture's
tokens by time, row and column, and what follows by one number that lies a constant away from the count."""

_LEAVE_FROM_SHARE = 1 / 8
"""Rows leave once so large a share has ended: each leaving copies the keys and values of those that stay."""

_LOOP_EVERY_TOKENS = 8


@dataclass(slots=True, eq=False)
class Row:
    """A caption under way. `ended` is how it ended: stop, length or repetition; "" while it has not."""

    tag: int
    sample: Inputs
    setting: Setting
    seed: int
    tokens: list[int] = field(default_factory=list)
    ended: str = ""
    limit: int = 0

    @property
    def prompt_tokens(self) -> int:
        return len(self.sample["input_ids"])

    def starts(self, room_tokens: int | None) -> None:
        """From the beginning; `room_tokens` is what the model's context holds."""
        room = None if room_tokens is None else max(1, room_tokens - self.prompt_tokens)
        self.limit = self.setting.max_new_tokens if room is None else min(self.setting.max_new_tokens, room)
        self.tokens, self.ended = [], ""

    def adds(self, token: int, end_ids: frozenset[int]) -> bool:
        """Takes the next token, or nothing once it has ended; whether it has."""
        if self.ended:
            return True
        self.tokens.append(token)
        if token in end_ids:
            self.ended = "stop"
        elif (
            self.setting.stops_loops and len(self.tokens) % _LOOP_EVERY_TOKENS == 0 and ends_in_loop(self.tokens)
        ):
            self.ended = "repetition"
        elif len(self.tokens) >= self.limit:
            self.ended = "length"
        return bool(self.ended)


class Batch(Protocol):
    """Rows being decoded. An error out of `join` or `step` leaves it usable after `clear`."""

    @property
    def num_rows(self) -> int:
        """Rows that have not ended, or were not handed back yet."""

    @property
    def joins_running(self) -> bool:
        """Whether rows may join while others are under way."""

    def join(self, rows: Sequence[Row]) -> None:
        """Takes in new rows."""

    def step(self) -> list[Row]:
        """Goes on; returns the rows that have ended since."""

    def clear(self) -> list[Row]:
        """Drops everything; returns the rows that were not handed back, which are to be begun anew."""


def can_roll(model: Any) -> bool:
    """Whether `RollingBatch` knows how to run this model."""
    known = _PLAINLY_COUNTED | _COUNTED_IN_THREE
    return model.config.model_type in known and roomy_cache(model) is not None


@dataclass(slots=True)
class _State:
    """What lies on the device. `seen_BV` only where a penalty needs it; `delta_B1`: from count to position."""

    cache: Any
    mask_BT: torch.Tensor
    next_B1: torch.Tensor
    position_B1: torch.Tensor
    count_B1: torch.Tensor
    delta_B1: torch.Tensor
    seen_BV: torch.Tensor | None
    picker: Picker


class RollingBatch:
    """See above. On a GPU, tokens are read a few steps late, so that it never waits for the host to look."""

    joins_running = True

    def __init__(self, model: Any, end_ids: Sequence[int], pad_id: int, room_tokens: int | None) -> None:
        self._model, self._end_ids, self._pad_id = model, frozenset(end_ids), pad_id
        self._room_tokens = room_tokens
        self._in_three = model.config.model_type in _COUNTED_IN_THREE
        self._steps_per_look = 4 if model.device.type == "cuda" else 1
        self._rows: list[Row] = []
        self._starts: list[int] = []  # per row: how many tokens of padding it has in front
        self._at_hand: list[Row] = []
        self._state: _State | None = None

    @property
    def num_rows(self) -> int:
        return sum(1 for row in self._rows if not row.ended) + len(self._at_hand)

    def join(self, rows: Sequence[Row]) -> None:
        for row in rows:
            row.starts(self._room_tokens)
        new, starts = self._prefilled(rows)
        for row, token in zip(rows, new.next_B1.flatten().tolist(), strict=True):
            row.adds(token, self._end_ids)
        self._at_hand += [row for row in rows if row.ended]
        if self._state is None:
            self._rows, self._starts, self._state = list(rows), starts, new
            return
        self._compact()
        self._state, self._starts = self._joined(self._state, new, starts)
        self._rows += rows

    def step(self) -> list[Row]:
        if self._state is not None and any(not row.ended for row in self._rows):
            self._go_on(self._state)
        else:
            self._rows, self._starts, self._state = [], [], None
        ended, self._at_hand = self._at_hand, []
        return ended

    def _go_on(self, state: _State) -> None:
        unread = []
        for _ in range(self._steps_per_look):
            self._forward(state)
            unread.append(state.next_B1)
        num_ended = 0
        for row, tokens in zip(self._rows, torch.cat(unread, dim=1).tolist(), strict=True):
            if not row.ended and any(row.adds(token, self._end_ids) for token in tokens):
                self._at_hand.append(row)
            num_ended += bool(row.ended)
        if num_ended >= _LEAVE_FROM_SHARE * len(self._rows):
            self._compact()

    def clear(self) -> list[Row]:
        left = [*self._at_hand, *(row for row in self._rows if not row.ended)]
        self._rows, self._starts, self._at_hand, self._state = [], [], [], None
        return left

    # --- the device ---

    def _prefilled(self, rows: Sequence[Row]) -> tuple[_State, list[int]]:
        """The state of new rows after their prompts, and how much padding each has."""
        model = self._model
        batch = collate([row.sample for row in rows], "left", self._pad_id)
        inputs: dict[str, Any] = {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for name, value in batch.items()
        }
        mask_BT = inputs["attention_mask"]
        width = mask_BT.shape[1]
        starts = [width - row.prompt_tokens for row in rows]
        # Without padding no mask is needed, and attention is faster without one.
        inputs["attention_mask"] = mask_BT if any(starts) else None
        position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        if not self._in_three:
            inputs["position_ids"] = position_BT
        cache = roomy_cache(model)
        output = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        last_B1 = position_BT[:, -1:]
        delta_B1 = model.model.rope_deltas.view(-1, 1).clone() if self._in_three else torch.zeros_like(last_B1)
        picker = Picker.of([row.setting for row in rows], [row.seed for row in rows], model.device)
        seen_BV = None
        if picker.penalises:
            seen_BV = self._seen(batch["input_ids"].to(model.device), mask_BT, output.logits.shape[-1])
        count_B1 = torch.zeros_like(last_B1)
        state = _State(cache, mask_BT, last_B1, last_B1, count_B1, delta_B1, seen_BV, picker)
        self._pick(state, output.logits[:, -1])
        return state, starts

    def _forward(self, state: _State) -> None:
        """One more token for each row."""
        state.position_B1 = state.position_B1 + 1
        state.mask_BT = torch.nn.functional.pad(state.mask_BT, (0, 1), value=1)
        positions = state.position_B1 + state.delta_B1
        output = self._model(
            input_ids=state.next_B1,
            attention_mask=state.mask_BT if any(self._starts) else None,
            position_ids=positions[None].expand(3, -1, -1) if self._in_three else positions,
            past_key_values=state.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._pick(state, output.logits[:, -1])

    def _pick(self, state: _State, logits_BV: torch.Tensor) -> None:
        state.next_B1 = state.picker.pick(logits_BV, state.count_B1, state.seen_BV)
        state.count_B1 = state.count_B1 + 1
        if state.seen_BV is not None:
            state.seen_BV.scatter_(1, state.next_B1, True)

    def _seen(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, num_tokens: int) -> torch.Tensor:
        seen_BV = torch.zeros((len(ids_BT), num_tokens), dtype=torch.bool, device=ids_BT.device)
        # Padding stands for the row's own last token, which is in the prompt anyway.
        return seen_BV.scatter_(1, torch.where(mask_BT.bool(), ids_BT, ids_BT[:, -1:]), True)

    def _compact(self) -> None:
        """Rows that have ended leave, and with them the padding that only they made necessary."""
        self._state = self._compacted(self._state)

    def _compacted(self, state: _State | None) -> _State | None:
        staying = [place for place, row in enumerate(self._rows) if not row.ended]
        if state is None or len(staying) == len(self._rows):
            return state
        if not staying:
            self._rows, self._starts = [], []
            return None
        trim = min(self._starts[place] for place in staying)
        places_R = torch.tensor(staying, device=state.next_B1.device)
        for layer in state.cache.layers:
            layer.keep(places_R, trim)
        state.mask_BT = state.mask_BT[places_R, trim:]
        state.next_B1, state.position_B1 = state.next_B1[places_R], state.position_B1[places_R]
        state.count_B1, state.delta_B1 = state.count_B1[places_R], state.delta_B1[places_R]
        state.seen_BV = None if state.seen_BV is None else state.seen_BV[places_R]
        state.picker = state.picker.select(places_R)
        self._rows = [self._rows[place] for place in staying]
        self._starts = [self._starts[place] - trim for place in staying]
        return state

    def _joined(self, old: _State | None, new: _State, starts: list[int]) -> tuple[_State, list[int]]:
        if old is None:
            return new, starts
        # The newest token of each row is not in the cache yet.
        width = max(old.mask_BT.shape[1], new.mask_BT.shape[1])
        ahead, behind = width - old.mask_BT.shape[1], width - new.mask_BT.shape[1]
        for mine, theirs in zip(old.cache.layers, new.cache.layers, strict=True):
            mine.join(theirs)
        pad = torch.nn.functional.pad
        wide = [pad(old.mask_BT, (ahead, 0)), pad(new.mask_BT, (behind, 0))]
        both = _State(
            old.cache, torch.cat(wide), torch.cat([old.next_B1, new.next_B1]),
            torch.cat([old.position_B1, new.position_B1]), torch.cat([old.count_B1, new.count_B1]),
            torch.cat([old.delta_B1, new.delta_B1]), _seen_by_both(old, new), old.picker.joined(new.picker),
        )  # fmt: skip
        return both, [start + ahead for start in self._starts] + [start + behind for start in starts]


def _seen_by_both(old: _State, new: _State) -> torch.Tensor | None:
    """A row without a penalty needs no memory of its own: it is never lowered."""
    if old.seen_BV is None and new.seen_BV is None:
        return None
    known = old.seen_BV if old.seen_BV is not None else new.seen_BV
    assert known is not None
    parts = []
    for state in (old, new):
        blank_BV = known.new_zeros((len(state.next_B1), known.shape[1]))
        parts.append(blank_BV if state.seen_BV is None else state.seen_BV)
    return torch.cat(parts)
