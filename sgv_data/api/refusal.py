"""How much of a caption is refusal. The wordings, in some thirty languages, stand in `refusals.txt`; they are matched
at the start of a caption or of a sentence, never inside one, so that a sign that says SORRY and a detail that cannot be
made out are no refusals. All is linear in the length of the text.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sgv_data.words import split_words, visible

_LISTS = {
    "<cannot>": r"(?:can(?:no|')t|can not|could(?: not|n't)|(?:am|'m|are|'re|was) (?:un|not )able to|won't|will not"
    r"|(?:am|'m) not (?:in a position|comfortable|allowed|permitted|programmed|designed|equipped|capable)"
    r"|(?:don't|do not) (?:have|feel comfortable|see (?:an|any|the) (?:image|picture|photo))"
    r"|(?:must|have to|need to|will have to) (?:respectfully |politely |therefore )?(?:decline|refuse)"
    r"|(?:decline|refuse) to|(?:would|'d) (?:rather|prefer) not)",
    "<picture>": r"(?:image|picture|photo(?:graph)?|file|attachment)",
    "<handle>": r"(?:process|view|see|describe|analy[sz]e|provide|access|load|open|assist|help|identify|generate|create"
    r"|fulfill?|comply|display|caption|continue|answer|complete|recogni[sz]e|interpret|share|discuss)",
}
# "I CAN'T BREATHE is written on a banner": a description that opens with a text in the picture.
_TEXT_IN_PICTURE = re.compile(
    r"[^.!?\n]{0,120}\b(?:reads|says|(?:is|are|was|were) (?:written|printed|painted|lettered|engraved|sprayed)"
    r"|in (?:\w{2,12} ){0,2}(?:letters|lettering|capitals|writing)\b)"
)
_SHORT_APOLOGY = re.compile(
    r"(?:(?:so |very )?sorry|entschuldigung|perd[oó]n|maaf|undskyld|lamento|pardon)\s{0,3}(?:[,.!:;…–-]|$|about|for)"
)
# What makes a sentence behind the first one a refusal and not a hedge.
_CLEAR = re.compile(
    r"sorry|apolog|\bas an? (?:ai|artificial|language|large)"
    r"|\b(?:can(?:no|')t|can not|unable to|not able to|won't|will not|decline to) " + _LISTS["<handle>"] + r"\b"
)

# Not one of these words, no English refusal: a cheap test before sentences are looked at one by one.
_HINTS = (
    "sorry", "apolog", "i can", "i'm ", "i am ", "we can", "unable to", "language model", "an ai", "i must", "i won't",
    "please ",
)  # fmt: skip
_QUOTED = re.compile(r'"[^"\n]{0,400}"|“[^”\n]{0,400}”|«[^»\n]{0,400}»|„[^“”\n]{0,400}[“”]')
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LEAD = re.compile(
    r"[\s*_#>`~\-–—•\[({]{0,40}(?:<\w{1,6}>\s{0,3})?(?:\"?(?:caption|description|answer|assistant|response|output|ai|note|error|message|text)\"?\s?:\s{0,9})?[\s*_\"]{0,9}"
)
_GREETING = re.compile(r"(?:oh|hmm|well|hello|hi|hey|thank(?:s| you)[^.!,\n]{0,60}|no|sure|okay)[,.!]\s{1,3}")
_PAIRS = {'"': '"', "“": "”", "«": "»", "'": "'", "(": ")", "[": "]", "„": "“", "「": "」"}

_HEAD_CHARS = 400
_SHORT_WORDS = 30
# An answer of so few words that holds a refusal is one; a longer text that holds one is for the filter to judge.
_FEW_WORDS = 60
_FEW_CHARS = 500


def is_refusal(text: str) -> bool:
    """Whether an answer as a whole is a refusal: it opens with one, or it is short and mostly one."""
    shown = visible(text[: _FEW_CHARS + 1])
    num_words = split_words(shown).count if len(shown) <= _FEW_CHARS else _FEW_WORDS + 1
    if opens_with_refusal(shown, num_words):
        return True
    return num_words <= _FEW_WORDS and refusal_share(shown, num_words) >= 0.5


def refusal_share(shown: str, num_words: int) -> float:
    """How much of a caption is refusal, 0 to 1: 1.0 if it opens with one, 0.8 if one follows later in clear words, else
    the share of its words in sentences that read like one. Quoted text does not count."""
    if opens_with_refusal(shown, num_words):
        return 1.0
    low = shown.lower()
    if not any(hint in low for hint in _HINTS):
        return 0.0
    return _later_refusal(low, num_words)


def opens_with_refusal(shown: str, num_words: int) -> bool:
    """Whether the first sentence refuses or, in a caption of at most 30 words, apologises."""
    head = _unwrap(shown[:_HEAD_CHARS] if len(shown) > _HEAD_CHARS else shown.strip()).lower()
    start = _LEAD.match(head)
    position = start.end() if start else 0
    greeting = _GREETING.match(head, position)
    if _refusal().match(head, position) or (greeting and _refusal().match(head, greeting.end())):
        return not _TEXT_IN_PICTURE.match(head, position)
    apologises = num_words <= _SHORT_WORDS and _SHORT_APOLOGY.match(head, position) is not None
    return apologises and not _TEXT_IN_PICTURE.match(head, position)


@cache
def _refusal() -> re.Pattern[str]:
    lines = Path(__file__).with_name("refusals.txt").read_text(encoding="utf-8").splitlines()
    joined = "|".join(line for line in lines if line and not line.startswith("#"))
    for name, words in _LISTS.items():
        joined = joined.replace(name, words)
    return re.compile(joined)


def _unwrap(text: str) -> str:
    """Text without quotation marks around the whole of it."""
    if len(text) > 2 and _PAIRS.get(text[0]) == text[-1] and text.count(text[0]) <= 2:
        return text[1:-1]
    return text


def _later_refusal(low: str, num_words: int) -> float:
    num_refusing = 0
    for sentence in _SENTENCE_END.split(_QUOTED.sub("''", low)):
        if _refusal().match(sentence) and not _TEXT_IN_PICTURE.match(sentence):
            if _CLEAR.search(sentence[:_HEAD_CHARS]):
                return 0.8
            num_refusing += len(sentence.split())
    return min(1.0, num_refusing / max(num_words, 1))
