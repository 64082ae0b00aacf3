"""The engine that is always there: batches through `transformers`, on a GPU or on the CPU."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from PIL import Image

from sgv_data.captioner.generate import CaptionGenerator, Written, is_out_of_memory
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.errors import SgvError
from sgv_data.expand.ahead import run_ahead
from sgv_data.expand.engine import Answer, Finish, Load, Picture

_BATCHES_AHEAD = 2

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A picture as the model takes it, or, with no `inputs`, why it cannot be."""

    place: int
    inputs: Inputs | None
    detail: str


class TransformersEngine:
    """Greedy captions, a batch at a time; a batch that does not fit in memory is halved, and so are those after it."""

    def __init__(self, captioner: Captioner, renderer: Renderer, max_new_tokens: int, batch_size: int) -> None:
        self._renderer = renderer
        self._generator = CaptionGenerator(captioner, renderer, max_new_tokens)
        self._batch_size = batch_size
        self.load = Load()

    def describe(self, pictures: Iterator[Picture]) -> Generator[Answer]:
        """One answer per picture, in order. The next batches are rendered while the model works."""
        started = time.monotonic()
        with closing(run_ahead(self._rendered(pictures), _BATCHES_AHEAD)) as batches:
            for batch in batches:
                self.load.waiting_s += time.monotonic() - started
                yield from self._describe_batch(batch)
                started = time.monotonic()

    def _rendered(self, pictures: Iterable[Picture]) -> Iterator[list[_Rendered]]:
        for batch in _in_batches(pictures, self._batch_size):
            yield [self._render(picture) for picture in batch]

    def _render(self, picture: Picture) -> _Rendered:
        try:
            return _Rendered(picture.place, self._renderer.prompt_inputs(Image.fromarray(picture.pixels)), "")
        except (ValueError, IndexError, ZeroDivisionError) as exc:
            # What image processors raise for sizes and shapes they cannot bring to their own.
            return _Rendered(picture.place, None, f"the model's image processor refused it ({exc})")

    def _describe_batch(self, batch: list[_Rendered]) -> Iterator[Answer]:
        for each in batch:
            if each.inputs is None:
                yield Answer(each.place, each.detail, Finish.FAILED, 0, 0, 0.0)
        good = [(each.place, each.inputs) for each in batch if each.inputs is not None]
        while good:
            now, good = good[: self._batch_size], good[self._batch_size :]
            started = time.monotonic()
            try:
                written = self._generator.write([inputs for _, inputs in now])
            except (MemoryError, RuntimeError) as exc:
                self._halve(exc, len(now))
                good = now + good
                continue
            seconds = time.monotonic() - started
            self.load.model_s += seconds
            self.load.peak_batch = max(self.load.peak_batch, len(now))
            for (place, _), caption in zip(now, written, strict=True):
                yield _answer(place, caption, seconds / len(now))

    def _halve(self, exc: BaseException, num_tried: int) -> None:
        if not is_out_of_memory(exc):
            raise exc
        if num_tried == 1:
            raise SgvError(f"not enough memory to describe a single picture with this model ({exc})") from exc
        self._batch_size = max(1, num_tried // 2)
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _answer(place: int, written: Written, seconds: float) -> Answer:
    finish = Finish(written.finish_reason)
    return Answer(place, written.text, finish, written.prompt_tokens, written.completion_tokens, seconds)


def _in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
