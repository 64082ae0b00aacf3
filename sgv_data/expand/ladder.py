"""Asking again: which captions are, and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sgv_data.captioner.setting import Setting
from sgv_data.expand.engine import Finish
from sgv_data.manifest import Expand, ExpandRung
from sgv_data.records import Outcome
from sgv_data.words import runs_of, split_words, visible

_RUN_WORDS = 8
_RUN_CHARACTERS = 14
"""A run of so many words (characters, in scripts without spaces) that stood in the caption before is a repetition;
ordinary English repeats shorter ones."""


def first_setting(expand: Expand) -> Setting:
    """How every picture is asked about first. Loops are stopped only where the ladder says what to do about them."""
    sampling = expand.sampling
    return Setting(
        expand.max_new_tokens, sampling.temperature, sampling.top_p, sampling.repetition_penalty,
        stops_loops=bool(expand.retry.repetition),
    )  # fmt: skip


def repeated_share(text: str) -> float:
    """Share of words that lie in runs of the caption said before."""
    words = split_words(visible(text))
    size = _RUN_CHARACTERS if words.spaceless else _RUN_WORDS
    seen: set[tuple[str, ...]] = set()
    marked = bytearray(len(words.tokens))
    for place, run in enumerate(runs_of(words.tokens, size)):
        if run in seen:
            marked[place : place + size] = b"\x01" * size
        seen.add(run)
    return sum(marked) / len(marked) if marked else 0.0


class Ladder:
    """The ladder of a manifest. What a rung leaves out stays as it was in the asking before."""

    def __init__(self, expand: Expand) -> None:
        retry = expand.retry
        self._rungs = {Outcome.LOOPED: retry.repetition, Outcome.TRUNCATED: retry.truncated}
        self._repeated_share = retry.repeated_share

    @property
    def is_used(self) -> bool:
        """Whether anything is ever asked again."""
        return any(self._rungs.values())

    def outcome(self, text: str, finish: Finish) -> Outcome:
        """What an answer is. That a caption which ended by itself repeats itself is for the filter to say, unless there
        are rungs for it."""
        if finish is Finish.FAILED:
            return Outcome.FAILED
        looks = bool(self._rungs[Outcome.LOOPED])
        if finish is Finish.REPETITION or (looks and repeated_share(text) >= self._repeated_share):
            return Outcome.LOOPED
        return Outcome.TRUNCATED if finish is Finish.LENGTH else Outcome.OK

    def next_setting(self, before: Setting, outcomes: list[Outcome]) -> Setting | None:
        """How to ask again after askings that ended so, the last one by `before`; None: not at all."""
        rungs = self._rungs.get(outcomes[-1], ())
        taken = Counter(outcomes)[outcomes[-1]] - 1
        return _changed(before, rungs[taken]) if taken < len(rungs) else None


def _changed(setting: Setting, rung: ExpandRung) -> Setting:
    return replace(setting, **rung.model_dump(exclude_none=True))
