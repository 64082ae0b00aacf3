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
from sgv_data.captioner.setting import Setting
from sgv_data.records import FailureClass


class Finish(StrEnum):
    """How a caption ended: by itself, at the token limit, stopped since it only repeated itself, or not at all since
    there is none."""

    STOP = "stop"
    LENGTH = "length"
    REPETITION = "repetition"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture and how it is to be described. `place` is handed back with its answer and means nothing to the
    engine; `seed` counts where the setting samples."""

    place: int
    pixels: Pixels
    setting: Setting
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The caption of one picture; with `Finish.FAILED`, `text` says why there is none and `failure` of which kind that
    is."""

    place: int
    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    failure: FailureClass = FailureClass.BAD_IMAGE
    request_id: str | None = None
    request_key: str | None = None


@dataclass(slots=True)
class Load:
    """Where an engine's time went, in seconds, and how many captions it had under way at most."""

    waiting_s: float = 0.0
    model_s: float = 0.0
    peak_batch: int = 0
    num_halved: int = 0


class Engine(Protocol):
    """A captioner at work."""

    load: Load

    def describe(self, pictures: Iterator[Picture | None]) -> Generator[Answer]:
        """One answer per picture, in any order; pulls pictures only as it has room for them, from any one thread.

        None among the pictures says that no more come before some of those under way are answered: go on with what is
        there. Closing it early ends whatever it has started.

        Raises:
            SgvError: the engine cannot go on; answers already yielded are good.
        """
