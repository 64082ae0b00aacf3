"""What a caption claims about a drawn picture, statement by statement.

Reads the teacher's wordings and other plain English about shapes: synonyms, other word orders, missing parts. A caption
is taken at its word: nothing is guessed from the rest of it. Text in which nothing is recognized gives no claims.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from sgv_data.demo.scenes import Column, Row
from sgv_data.demo.vocabulary import (
    BACKGROUND_COLORS,
    CENTERS,
    COLORS,
    OUTER_COLUMNS,
    OUTER_ROWS,
    PLACES,
    SHAPES,
    SIZES,
    TEXTURES,
)
from sgv_data.demo.wording import NUMBER_WORDS


class ClaimKind(StrEnum):
    SHAPE = "shape"
    COLOR = "color"
    SIZE = "size"
    POSITION = "position"
    COUNT = "count"
    WORD = "word"
    BACKGROUND = "background"
    RELATION = "relation"


class Direction(StrEnum):
    LEFT = "left of"
    RIGHT = "right of"
    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Noun:
    """How a relation names an object: "the red circle"; `color` is None when it is not told."""

    shape: str
    color: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement. `value` is in the words of the closed sets ("red", "top left", "3", "CAFE", "left of").

    `mention` numbers the objects in the order in which the caption brings them up; it is None for statements about the
    whole picture, the word and relations. `nouns` are the two sides of a relation, empty when not both are named.
    """

    kind: ClaimKind
    value: str
    mention: int | None = None
    about_word: bool = False
    nouns: tuple[Noun, ...] = ()


_BACKGROUND = re.compile(r"\b(?:background|backdrop|ground)\b")
_TWO_WORD_COLOR = re.compile(r"\b(light|dark|pale) (gray|blue|green)\b")
_COUNT = re.compile(
    rf"\b({'|'.join(NUMBER_WORDS)}|single|\d+) (?:\w+ ){{0,2}}?(?:shape|object|figure|item|thing|element|form)s?\b"
)
_RELATION = re.compile(
    r"\b(?:(?:to |on )?(?:the )?(?P<side>left|right)(?: side)? of|(?P<over>above|over|on top of)"
    r"|below|under|underneath|beneath)\b(?! the (?:picture|image|canvas|cent|middle))"
)
_WRITING = re.compile(r"\b(?:word|words|letters|text|reads?|printed|written|lettering|caption)\b")
_QUOTED = re.compile(r"[\"“']([A-Za-z]{2,})[.,]?[\"”']")
_CAPITALS = re.compile(r"\b[A-Z]{3,}\b")
_SENTENCE_END = re.compile(r"(?<=[.!?;])[\"”]?\s+")
_CLAUSE_END = re.compile(r",? while |, (?:and |but |with )?|; ")
_DETERMINERS = frozenset(("a", "an", "the", "one", "another", "single", "this"))
_MAX_PLACE_GAP = 5
_MAX_ADJECTIVES = 4


@dataclass(slots=True)
class _Mention:
    """An object as one noun phrase has it, with what the rest of its clause says about it."""

    shape: str
    color: str | None = None
    size: str | None = None
    place: str | None = None
    definite: bool = False

    def add(self, other: _Mention) -> None:
        self.color = self.color or other.color
        self.size = self.size or other.size
        self.place = self.place or other.place

    def fits(self, other: _Mention) -> bool:
        return self.shape == other.shape and (None in (self.color, other.color) or self.color == other.color)


@dataclass(slots=True)
class _Reading:
    claims: list[Claim] = field(default_factory=list)
    mentions: list[_Mention] = field(default_factory=list)


def parse_claims(text: str) -> list[Claim]:
    """All claims of a caption, none twice: first those about objects, mention by mention, then the others in order."""
    reading = _Reading()
    for sentence in _SENTENCE_END.split(" ".join(text.split())):
        _read_sentence(sentence, reading)
    claims: list[Claim] = []
    for number, mention in enumerate(reading.mentions):
        stated = (
            (ClaimKind.SHAPE, mention.shape),
            (ClaimKind.COLOR, mention.color),
            (ClaimKind.SIZE, mention.size),
            (ClaimKind.POSITION, mention.place),
        )
        claims += [Claim(kind, value, mention=number) for kind, value in stated if value is not None]
    return claims + list(dict.fromkeys(reading.claims))


def _read_sentence(sentence: str, reading: _Reading) -> None:
    lower = sentence.lower().replace("grey", "gray").rstrip(".!?; ")
    if _WRITING.search(lower) and _read_word(sentence, lower, reading):
        return
    count = _COUNT.search(lower)
    if count is not None:
        reading.claims.append(Claim(ClaimKind.COUNT, _number(count[1])))
        lower = lower[: count.start()] + lower[count.end() :]
    if _BACKGROUND.search(lower):
        lower = _read_background(lower, reading)
    relation = _RELATION.search(lower)
    if relation is not None and _read_relation(lower, relation, reading):
        return
    for clause in _clauses(lower):
        _read_clause(clause, reading)


def _clauses(sentence: str) -> list[str]:
    """Parts of a sentence that name an object each; parts between commas that name none belong to a neighbour.

    They belong to the part after them when the sentence begins with such a part ("In the center, a ring"), else to the
    one before.
    """
    parts = _CLAUSE_END.split(sentence)
    naming = [bool(_noun_phrases(_tokens(part))) for part in parts]
    if not any(naming):
        return []
    clauses: list[str] = []
    begin = True
    for part, names in zip(parts, naming, strict=True):
        if begin or (names and naming[0]):
            clauses.append(part)
        else:
            clauses[-1] += f" {part}"
        begin = names and not naming[0]
    return clauses


def _number(word: str) -> str:
    if word == "single":
        return "1"
    return str(NUMBER_WORDS.index(word)) if word in NUMBER_WORDS else str(int(word))


def _read_word(sentence: str, lower: str, reading: _Reading) -> bool:
    """Whether the sentence tells a printed word; its row is claimed too where it is told."""
    found = _QUOTED.search(sentence) or _CAPITALS.search(sentence)
    if found is None:
        return False
    text = found[1] if found.re is _QUOTED else found[0]
    reading.claims.append(Claim(ClaimKind.WORD, text.upper(), about_word=True))
    place = _read_place([token for token in _tokens(lower) if token in PLACES])
    if place is not None:
        row = next((row for row in Row if row in place.split()), None)
        if row is not None:
            reading.claims.append(Claim(ClaimKind.POSITION, row, about_word=True))
    return True


def _read_background(lower: str, reading: _Reading) -> str:
    """Claims about the background; returns the sentence without its words."""
    joined = _TWO_WORD_COLOR.sub(r"\1_\2", lower)
    tokens = _tokens(joined)
    at = next(index for index, token in enumerate(tokens) if _BACKGROUND.fullmatch(token))
    color = next((BACKGROUND_COLORS[token] for token in tokens if token in BACKGROUND_COLORS), None)
    if color is None:
        near = tokens[max(0, at - 1) : at] + (tokens[at + 2 : at + 4] if tokens[at + 1 : at + 2] == ["is"] else [])
        color = next((COLORS[token] for token in near if token in COLORS), None)
    if color is not None:
        reading.claims.append(Claim(ClaimKind.BACKGROUND, color))
    texture = next((TEXTURES[token] for token in tokens if token in TEXTURES), None)
    if texture is not None:
        reading.claims.append(Claim(ClaimKind.BACKGROUND, texture))
    return " ".join(token for token in tokens if token not in BACKGROUND_COLORS and token not in TEXTURES)


def _read_relation(lower: str, relation: re.Match[str], reading: _Reading) -> bool:
    """Whether the sentence relates two objects; half a relation is claimed without nouns, which nothing bears out."""
    parts = lower[: relation.start()], lower[relation.end() :]
    before, after = (_noun_phrases(_tokens(part)) for part in parts)
    if not before and not after:
        return False
    if relation["side"]:
        direction = Direction.LEFT if relation["side"] == "left" else Direction.RIGHT
    else:
        direction = Direction.ABOVE if relation["over"] else Direction.BELOW
    ends = [mention for _, _, mention in (*before[-1:], *after[:1])] if before and after else []
    nouns = tuple(Noun(mention.shape, mention.color) for mention in ends)
    reading.claims.append(Claim(ClaimKind.RELATION, direction, nouns=nouns))
    for part, phrases in zip(parts, (before, after), strict=True):
        if any(not mention.definite for _, _, mention in phrases):
            _read_clause(part, reading)
    return True


def _read_clause(clause: str, reading: _Reading) -> None:
    tokens = _tokens(clause)
    phrases = _noun_phrases(tokens)
    if not phrases:
        return
    places = _place_phrases(tokens, [(start, end) for start, end, _ in phrases])
    places_lead = bool(places) and places[0][0] < phrases[0][0]
    for index, (start, end, mention) in enumerate(phrases):
        next_start = phrases[index + 1][0] if index + 1 < len(phrases) else len(tokens)
        previous_end = phrases[index - 1][1] if index else 0
        low, high = (previous_end, start) if places_lead else (end, next_start)
        mention.place = next((place for at, place in places if low <= at < high), None)
        said_after = tokens[end:next_start]
        mention.size = mention.size or next((SIZES[token] for token in said_after if token in SIZES), None)
        mention.color = mention.color or next((COLORS[token] for token in said_after if token in COLORS), None)
        known = [earlier for earlier in reading.mentions if earlier.fits(mention)] if mention.definite else []
        if known:
            known[0].add(mention)
        else:
            reading.mentions.append(mention)


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.replace("-", " "))


def _noun_phrases(tokens: list[str]) -> list[tuple[int, int, _Mention]]:
    """Start, end and content of every phrase that names a shape, such as "a small blue square"."""
    phrases = []
    last_end = 0
    for index, token in enumerate(tokens):
        shape = SHAPES.get(token) or SHAPES.get(token.removesuffix("s"))
        if shape is None:
            continue
        mention = _Mention(shape)
        start = index
        while start > last_end and index - start < _MAX_ADJECTIVES and _describe(tokens[start - 1], mention):
            start -= 1
        if start > last_end and tokens[start - 1] in _DETERMINERS:
            start -= 1
            mention.definite = tokens[start] in ("the", "this")
        followed_by = tokens[index + 1] if index + 1 < len(tokens) else ""
        if start < index and followed_by not in ("picture", "photo", "photograph", "image"):
            phrases.append((start, index + 1, mention))
            last_end = index + 1
    return phrases


def _describe(token: str, mention: _Mention) -> bool:
    """Note an adjective of a noun phrase; False when the word is none."""
    if token in COLORS:
        mention.color = mention.color or COLORS[token]
    elif token in SIZES:
        mention.size = mention.size or SIZES[token]
    else:
        return token in ("bright", "dark", "light", "and", "colored")
    return True


def _place_phrases(tokens: list[str], taken: list[tuple[int, int]]) -> list[tuple[int, str]]:
    """Where place words stand and the place they tell; words of one place may be a few words apart."""
    found: list[tuple[int, str]] = []
    group: list[int] = []
    for index in [*(index for index, token in enumerate(tokens) if token in PLACES), len(tokens) + _MAX_PLACE_GAP + 1]:
        apart = bool(group) and (
            index - group[-1] > _MAX_PLACE_GAP or any(group[-1] < start < index for start, _ in taken)
        )
        if apart:
            place = _read_place([tokens[at] for at in group])
            if place is not None:
                found.append((group[0], place))
            group = []
        group.append(index)
    return found


def _read_place(words: list[str]) -> str | None:
    """ "top left" from the words of a place; only a row or a column where no more is told."""
    row = next((OUTER_ROWS[word] for word in words if word in OUTER_ROWS), None)
    column = next((OUTER_COLUMNS[word] for word in words if word in OUTER_COLUMNS), None)
    if any(word in CENTERS for word in words):
        row, column = row or Row.MIDDLE, column or Column.CENTER
    return " ".join(part for part in (row, column) if part is not None) or None
