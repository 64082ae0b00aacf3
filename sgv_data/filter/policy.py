"""From scores to a verdict. Replayable: stored scores and another policy give another funnel in no time.

Where the default thresholds come from (`manifest.FilterPolicy`), all on the 155 long captions of real photographs that
the rules were tried on (2026-11), good and with injected defects:

    refusal_min_score 0.5   scores are 0, 0.8 or 1 but for texts that hedge in the first person
    cut_off_min_score 0.5   between a doubtful ending (0.2) and an abbreviation or open bracket (0.6)
    leak.max_share 0.2      six words in a row out of a prompt are 0.24 of 25 words; good captions have 0
    repetition.max_share 0.3   one repeated sentence of 10 words is 0.33 of 30 words; good captions have 0
    length 20..400 words    ShareGPT4V's captions average 942 characters, about 160 words (its project page)
"""

from __future__ import annotations

from sgv_data.filter.rules import Scores
from sgv_data.manifest import FilterPolicy
from sgv_data.records import CaptionReject


def decide(scores: Scores, policy: FilterPolicy) -> CaptionReject | None:
    """The first reason, in the order of `CaptionReject`, for which a caption is not kept; None if it is."""
    if scores.refusal_score >= policy.refusal_min_score and scores.refusal_score > 0:
        return CaptionReject.REFUSAL
    if scores.cut_off_score >= policy.cut_off_min_score and scores.cut_off_score > 0:
        return CaptionReject.CUT_OFF
    if not scores.num_words:
        return CaptionReject.EMPTY
    if scores.leak_share > policy.leak.max_share:
        return CaptionReject.PROMPT_LEAK
    if scores.repeated_share > policy.repetition.max_share:
        return CaptionReject.REPETITION
    if scores.num_words < policy.length.min_words:
        return CaptionReject.TOO_SHORT
    if scores.num_words > policy.length.max_words:
        return CaptionReject.TOO_LONG
    return None
