"""What each rule is, in words: the text of docs/filters.md, which a test holds to rules and measurement."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from sgv_data.filter.policy import DUPLICATE_READS, REASONS, RULES
from sgv_data.filter.rules import SCORING_VERSION
from sgv_data.manifest import FilterPolicy
from sgv_data.records import CaptionReject

Measured = Mapping[str, Mapping[str, float | int]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is looked for, where the threshold comes from, and a caption that is rejected."""

    what: str
    source: str
    example: str


_OURS = "our measurement on 155 long captions of photographs, good and with injected defects (2026-11)"

ENTRIES: dict[CaptionReject, Entry] = {
    CaptionReject.REFUSAL: Entry(
        "The server says that it refused, or the text opens with one of the refusals and apologies in about thirty "
        "languages, or turns to one later. Only starts of captions and sentences count, and quoted text does not: a "
        "sign that says SORRY and a detail that cannot be determined are no refusals.",
        f"{_OURS}: scores are 0, 0.8 or 1 but for texts that hedge in the first person",
        "I'm sorry, but I can't identify the people in this picture.",
    ),
    CaptionReject.EMPTY: Entry("No word at all.", "by definition", "…"),
    CaptionReject.BROKEN_ENCODING: Entry(
        "Mojibake (found by the library ftfy), replacement and control characters, lone surrogates, HTML entities and "
        "backslash escapes, zero-width characters inside Latin words.",
        f"{_OURS}: good captions have none",
        "A sign at the cafÃ© reads â€œopenâ€œ.",
    ),
    CaptionReject.LIST_OR_MARKUP: Entry(
        "Lines that are items, headings, table rows or labels; numbers that count up, or bullets, in running text; "
        "Markdown and HTML marks.",
        f"{_OURS}: good captions have none; one mark is let through",
        "1. A red car. 2. A blue car. 3. A tree behind them.",
    ),
    CaptionReject.PROMPT_LEAK: Entry(
        "Five words in a row that also stand in a prompt of the run or in a sentence known to leak (ShareGPT4V issue "
        "12 and its variants), as a share of the densest 25 words; marks of chat templates.",
        f"{_OURS}: six words out of a prompt are 0.24, good captions have 0",
        "The image does not contain any imaginary content, and all descriptions are based on the visible content.",
    ),
    CaptionReject.REPETITION: Entry(
        "Words inside runs of eight that stood in the caption before, and loops (a phrase of up to seven words three "
        "times in a row), as a share of the densest 30 words.",
        f"{_OURS}: one repeated sentence of 10 words is 0.33, good captions have 0; compare Gopher's 5- to 10-grams "
        "(Rae et al. 2021, table A1), tuned for web pages",
        "A red car stands left of the red car, left of the red car, left of the red car, left of the red car.",
    ),
    CaptionReject.CUT_OFF: Entry(
        "The server stopped at its token limit, or the text ends in an open mark, a dangling word, dots, or without a "
        "full stop after sentences that have one.",
        f"{_OURS}: between a doubtful ending (0.2) and an abbreviation or open bracket (0.6)",
        "A dog runs along the beach. Behind it the sea is calm and the",
    ),
    CaptionReject.WRONG_LANGUAGE: Entry(
        "Each 20 words are English if enough frequent English words are among them, else what the library py3langid "
        "says. Rejected if most of the caption, or more than the share, is in no wanted language. What is wanted is "
        "the language of the run's prompts, unless the manifest names others.",
        f"{_OURS}: pieces of good captions have 10 % frequent words or more, of seven other languages none",
        "Ein rotes Fahrrad lehnt an einer weißen Wand, daneben steht eine hölzerne Bank.",
    ),
    CaptionReject.TOO_SHORT: Entry(
        "Fewer words or characters than asked for. In scripts without spaces words are estimated from characters.",
        "ShareGPT4V's captions average 942 characters, about 160 words (its project page)",
        "A red bicycle.",
    ),
    CaptionReject.TOO_LONG: Entry(
        "More words or characters than any prompt asks for.",
        "two and a half times the average of ShareGPT4V's captions",
        "(four hundred words and more)",
    ),
    CaptionReject.HEDGING: Entry(
        "Words that take back what they say: appears, seems, possibly, might, likely, suggesting.",
        f"{_OURS}: good captions have at most 1.1 per 100 words",
        "It appears to be possibly a dog, or perhaps what might be a cat.",
    ),
    CaptionReject.SPECULATION: Entry(
        "Phrases about what no picture shows: past and future, thoughts, sounds, smells, the viewer's feelings.",
        f"{_OURS}: good captions have at most 0.6 per 100 words",
        "One can imagine the laughter; the scene tells a story and leaves the viewer to wonder what will soon come.",
    ),
    CaptionReject.PERSONAL_DATA: Entry(
        "E-mail addresses and telephone numbers, by their form.",
        f"{_OURS}: good captions have none",
        "A card reads jane.miller@example.org.",
    ),
    CaptionReject.TOXIC: Entry(
        "Slurs and obscene words as whole words, from a short list without those that also name animals, plants or "
        "tools. Quoted graffiti counts too.",
        f"{_OURS}: good captions have none",
        "(see sgv_data/filter/toxic.txt)",
    ),
    CaptionReject.BOILERPLATE: Entry(
        "Openings that say nothing (\"The image shows\"), if the manifest forbids them, and openings that too large a "
        "share of the set has. Off by default; both shares stand in the stage's notes.",
        "openings that CaptionFlow strips, and those of ShareGPT4V's and LLaVA's captions",
        "The image shows a dog.",
    ),
    CaptionReject.NEAR_DUPLICATE: Entry(
        "MinHash (128 values, library rensa) over runs of three words: the share of runs that a caption has in common "
        "with one before it in hash order, on whatever picture. The first of a group is kept.",
        "7 changed words of 150 leave 0.75; captions of different photographs have less than 0.1, the demo's of "
        "drawn scenes, all by one small grammar, at most 0.5 (412 captions) (2026-11)",
        "(a caption that another picture has too, with a word changed)",
    ),
}


def page(measured: Measured) -> str:
    """docs/filters.md."""
    return "\n".join(_lines(measured)) + "\n"


def _lines(measured: Measured) -> Iterator[str]:
    good = measured["good"]
    yield "# Filter rules\n"
    yield "<!-- Made by tests/unit/filter/test_documented.py from the rules; change sgv_data/filter/catalogue.py. -->\n"
    yield _wrapped(
        "Every caption gets scores, the manifest's section `filter` holds thresholds on them, and the first rule below "
        "that applies is the reason of a rejection. Captions are never edited. Scores are stored "
        f"(`scores-*.parquet`, scoring version {SCORING_VERSION}): `sgv filter MANIFEST --what-if KEY.PATH=VALUE` "
        "shows in seconds what another threshold would do, and after a change of thresholds `--redo` makes only "
        "verdicts anew. "
        "`sgv filter MANIFEST --audit N` writes a page on which a person judges captions blind, and `--answers FILE` "
        "tells precision and recall with 95 % intervals."
    )
    yield "\n" + _wrapped(
        f"Precision and recall are measured by the test suite on {good['num']} good captions and on defects injected "
        "by generators of its own (`tests/unit/filter/labelled.py`). The rules were tuned on other captions and other "
        "generators, but for the size of the pieces of which the language is told: it was made smaller after a first "
        "measurement on captions that change their language. Injected defects are plainer than real ones: audit your "
        f"own. Of the good captions, {good['rejected']} were rejected."
    )
    yield ""
    yield "| reason | setting | default | defects | precision | recall |"
    yield "|---|---|---|---|---|---|"
    settings = {rule.reason: rule.settings for rule in RULES}
    settings[CaptionReject.NEAR_DUPLICATE] = ("near_duplicates.min_similarity",)
    for reason in REASONS:
        names = ", ".join(f"`{name}`" for name in settings[reason]) or "none"
        defaults = ", ".join(str(_default(name)) for name in settings[reason]) or "-"
        yield f"| `{reason}` | {names} | {defaults} | {_numbers(measured.get(reason.value))} |"
    reads = {rule.reason: rule.reads for rule in RULES} | {CaptionReject.NEAR_DUPLICATE: DUPLICATE_READS[:1]}
    for reason in REASONS:
        yield from _section(reason, reads[reason])


def _section(reason: CaptionReject, reads: tuple[str, ...]) -> Iterator[str]:
    entry = ENTRIES[reason]
    yield f"\n## {reason}\n"
    yield _wrapped(entry.what)
    yield "\n" + _wrapped(f"Scores: {', '.join(f'`{name}`' for name in reads)}. Threshold: {entry.source}.")
    yield f"\n> {entry.example}"


def _numbers(measured: Mapping[str, float | int] | None) -> str:
    if measured is None:
        return "- | - | -"
    return f"{measured['num']} | {measured['precision']:.3f} | {measured['recall']:.3f}"


def _default(name: str) -> object:
    value: object = FilterPolicy()
    for part in name.split("."):
        assert isinstance(value, BaseModel)
        value = getattr(value, part)
    return "those of the prompts" if value is None else value


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 118))
