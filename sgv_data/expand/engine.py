"""What an engine is: something that is handed pictures and hands back captions, in whatever order suits it.

An engine pulls pictures from an iterator when it has room for them and yields answers as they are finished. Batches,
continuous batching and requests to a server all fit behind that.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sgv_data.captioner.picture import Pixels


class Finish(StrEnum):
    """How a caption ended: by itself, at the token limit, or not at all since the picture could not be processed."""

    STOP = "stop"
    LENGTH = "length"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture. `place` is handed back with its answer and means nothing to the engine."""

    place: int
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Answer:
    """The caption of one picture; with `Finish.FAILED`, `text` says why there is none."""

    place: int
    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(slots=True)
class Load:
    """Where an engine's time went, in seconds, and its largest batch so far."""

    waiting_s: float = 0.0
    model_s: float = 0.0
    peak_batch: int = 0

    @property
    def bottleneck(self) -> str:
        """The side that the other one waited for."""
        return "decoding" if self.waiting_s > self.model_s else "model"


class Engine(Protocol):
    """A captioner at work."""

    load: Load

    def describe(self, pictures: Iterator[Picture]) -> Generator[Answer]:
        """One answer per picture, in any order; pulls pictures only as it has room for them, from any one thread.

        Closing it early ends whatever it has started.

        Raises:
            SgvError: the engine cannot go on; answers already yielded are good.
        """
