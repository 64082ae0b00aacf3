"""What the page counts while pictures stream by: reasons per source, caption lengths, prompts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sgv_data.records import CaptionSet, ImageReject
from sgv_data.report.pictures import Picture

# Longer captions share the last bin of the histogram.
MAX_WORDS_SHOWN = 2_000

_WRITERS = ((CaptionSet.TEACHER, "teacher"), (CaptionSet.STUDENT, "captioner"))


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """How often something went wrong, source by source. `step` is `index`, `teacher` or `captioner`."""

    step: str
    reason: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Over all sources."""
        return sum(self.counts)


class Tally:
    """Counters over all pictures; their size does not grow with the number of pictures."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        self.sources = sources
        self.num_words: dict[CaptionSet, Counter[int]] = {each: Counter() for each in CaptionSet}
        self.num_captions: Counter[tuple[str, str]] = Counter()
        self._reasons: Counter[tuple[int, str, str, str]] = Counter()

    def add(self, picture: Picture) -> None:
        """Counts one picture."""
        image = picture.image
        if image.reject is not None:
            self._reasons[-1, "index", image.reject, image.source] += 1
        for position, (caption_set, who) in enumerate(_WRITERS):
            answer = picture.answer(caption_set)
            if answer is None:
                continue
            caption, verdict = answer.caption, answer.verdict
            self.num_captions[caption.prompt_id, who] += 1
            if caption.failure is not None:
                self._reasons[position, who, f"failed: {caption.failure}", image.source] += 1
            if verdict is None:
                continue
            self.num_words[caption_set][min(verdict.num_words, MAX_WORDS_SHOWN)] += 1
            if verdict.reason is not None:
                self._reasons[position, who, verdict.reason, image.source] += 1

    def reasons(self) -> list[ReasonRow]:
        """Every reason that occurred, in the order of the steps, the most frequent first."""
        totals: Counter[tuple[int, str, str]] = Counter()
        for (order, step, reason, _), count in self._reasons.items():
            totals[order, step, reason] += count
        keys = sorted(totals, key=lambda key: (key[0], -totals[key], key[2]))
        return [
            ReasonRow(step, _plain(reason), tuple(self._reasons[order, step, reason, name] for name in self.sources))
            for order, step, reason in keys
        ]


def _plain(reason: str) -> str:
    return "duplicate of another" if reason == ImageReject.DUPLICATE_OF else reason.replace("_", " ")
