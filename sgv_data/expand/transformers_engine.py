"""The engine that is always there: a rolling batch through `transformers`, on a GPU or on the CPU."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from PIL import Image

from sgv_data.captioner.decode import Row
from sgv_data.captioner.generate import is_out_of_memory, new_batch, written
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.errors import SgvError
from sgv_data.expand.ahead import Ahead, Nothing
from sgv_data.expand.engine import Answer, Finish, Load, Picture
from sgv_data.expand.fit import BatchSize

_REFILL_SHARE = 1 / 4
"""New captions join once so large a share of the batch is free: each joining copies the keys and values of all."""


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A picture as the model takes it, or, with no `inputs`, why it cannot be."""

    picture: Picture
    inputs: Inputs | None
    detail: str


class TransformersEngine:
    """Captions that end make room for others; what does not fit in memory is begun anew in a batch half as large."""

    def __init__(self, captioner: Captioner, renderer: Renderer, batch_size: int) -> None:
        self._captioner, self._renderer = captioner, renderer
        self._batch = new_batch(captioner, renderer)
        self._size = BatchSize(batch_size)
        self._wanted = batch_size
        self._waiting: deque[Row] = deque()  # begun once and dropped for want of memory, or not begun yet
        self._refused: list[Answer] = []
        self._started: dict[int, float] = {}
        self._may_wait = True
        self.load = Load()

    def describe(self, pictures: Iterator[Picture | None]) -> Generator[Answer]:
        """One answer per picture, in any order. The next pictures are rendered while the model works."""
        with closing(Ahead(self._rendered(pictures), self._wanted)) as ahead:
            while True:
                self._fetch(ahead)
                refused, self._refused = self._refused, []
                yield from refused
                if not self._batch.num_rows and not self._waiting:
                    if ahead.is_over:
                        return
                    self._may_wait = True
                    continue
                yield from self._work(is_starved=not ahead.is_over and not ahead.num_at_hand)

    # --- pictures ---

    def _rendered(self, pictures: Iterable[Picture | None]) -> Iterator[_Rendered | None]:
        for picture in pictures:
            yield None if picture is None else self._render(picture)

    def _render(self, picture: Picture) -> _Rendered:
        try:
            return _Rendered(picture, self._renderer.prompt_inputs(Image.fromarray(picture.pixels)), "")
        except (ValueError, IndexError, ZeroDivisionError) as exc:
            # What image processors raise for sizes and shapes they cannot bring to their own.
            return _Rendered(picture, None, f"the model's image processor refused it ({exc})")

    def _fetch(self, ahead: Ahead[_Rendered | None]) -> None:
        """Takes what there is room for: with nothing under way a full batch, else what is at hand."""
        is_idle = not self._batch.num_rows
        started = time.monotonic()
        while self._batch.num_rows + len(self._waiting) < self._size.now:
            try:
                rendered = ahead.take(wait=is_idle and self._may_wait)
            except (Nothing, StopIteration):
                break
            if rendered is None:
                self._may_wait = False
                break
            if rendered.inputs is None:
                self._refused.append(Answer(rendered.picture.place, rendered.detail, Finish.FAILED, 0, 0, 0.0))
            else:
                picture = rendered.picture
                self._waiting.append(Row(picture.place, rendered.inputs, picture.setting, picture.seed))
        if is_idle:
            self.load.waiting_s += time.monotonic() - started

    # --- the model ---

    def _work(self, is_starved: bool) -> Iterator[Answer]:
        import torch

        started = time.monotonic()
        try:
            with torch.inference_mode():
                self._join()
                ended = self._batch.step()
        except (MemoryError, RuntimeError) as exc:
            self._halve(exc)
            ended = []
        passed_s = time.monotonic() - started
        # A batch that is half empty since no picture is there waits too, though it works.
        empty = 1 - self._batch.num_rows / self._size.now if is_starved else 0.0
        self.load.waiting_s += passed_s * empty
        self.load.model_s += passed_s * (1 - empty)
        self._size.described(len(ended))
        for row in ended:
            said = written(row, self._renderer)
            seconds = time.monotonic() - self._started.pop(row.tag)
            yield Answer(
                row.tag, said.text, Finish(said.finish_reason), said.prompt_tokens, said.completion_tokens, seconds
            )

    def _join(self) -> None:
        running = self._batch.num_rows
        num_free = self._size.now - running
        if running and not self._batch.joins_running:
            return
        if running and min(num_free, len(self._waiting)) < _REFILL_SHARE * self._size.now:
            return
        new = [self._waiting.popleft() for _ in range(min(num_free, len(self._waiting)))]
        if not new:
            return
        now = time.monotonic()
        self._started |= {row.tag: now for row in new}
        try:
            self._batch.join(new)
        except (MemoryError, RuntimeError):
            self._waiting.extendleft(reversed(new))
            raise
        self.load.peak_batch = max(self.load.peak_batch, self._batch.num_rows)

    def _halve(self, exc: BaseException) -> None:
        if not is_out_of_memory(exc):
            raise exc
        waiting = {row.tag for row in self._waiting}
        left = [row for row in self._batch.clear() if row.tag not in waiting]
        self._waiting.extendleft(reversed(left))
        num_tried = min(self._size.now, len(self._waiting))
        if num_tried <= 1:
            raise SgvError(f"not enough memory to describe a single picture with this model ({exc})") from exc
        self._size.fell_short(num_tried)
        self.load.num_halved += 1
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
