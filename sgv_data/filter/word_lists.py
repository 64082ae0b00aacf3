"""Words that rules look up: in sets, so that a look-up costs the same whatever their number."""

from __future__ import annotations

from importlib.resources import files

# Frequent in English prose and not in other languages: "a", "in", "is", "as" and "no" are left out, and what is also
# Danish or Norwegian: "at", "by", "over", "under", "have".
_ENGLISH = (
    "the and of with on from are its that to this which behind their there has it while into along toward but was were "
    "near one two above below against other another beside between front each some white black left right side his "
    "these those they who where through across around background foreground stands"
)
ENGLISH = frozenset(_ENGLISH.split())

# Words by which a sentence takes back what it says. "may" and "might" are verbs of doubt in captions; "could" is also
# plain past ("so that she could reach").
_HEDGES = (
    "appears appear appearing seems seem seeming seemingly apparently possibly perhaps probably likely presumably "
    "maybe might may could suggests suggest suggesting suggestive indicating implying implies potentially "
    "supposedly"
)
HEDGES = frozenset(_HEDGES.split())

# About what is in no picture: the past, the future, thoughts, sounds, smells, the viewer's feelings.
SPECULATIONS = (
    "one can imagine", "one can almost", "you can almost", "we can imagine", "it is easy to imagine", "it's easy to",
    "one might imagine", "one could imagine", "leaves the viewer", "leaving the viewer", "invites the viewer",
    "inviting the viewer", "invite the viewer", "left to wonder", "wonder what", "as if to say", "must have been",
    "must be feeling", "might be thinking", "may be thinking", "is thinking about", "are thinking about",
    "is probably thinking", "lost in thought", "deep in thought", "might have been", "may have been", "could have been",
    "just outside the frame", "beyond the frame", "story behind", "tells a story", "tell a story", "the scent of",
    "the smell of", "the aroma of", "the sound of", "the sounds of", "the taste of", "filled with laughter",
    "is about to", "are about to", "will soon", "later that day", "earlier that day", "perhaps they", "perhaps he",
    "perhaps she", "perhaps because", "perhaps on their way", "a testament to", "evokes a sense", "evoking a sense",
    "evokes memories", "a reminder of", "reminds us", "memories of", "sense of nostalgia", "hopes and dreams",
)  # fmt: skip
_BY_LONGEST_WORD = {text: max(text.split(), key=len) for text in SPECULATIONS}
_LONGEST_WORDS = frozenset(_BY_LONGEST_WORD.values())

# Openings that say nothing: what CaptionFlow strips, ShareGPT4V's and LLaVA's captions begin with.
_STARTS_WITH_VERB = [
    f"{start} {verb} "
    for start in (
        "the image", "this image", "the picture", "this picture", "the photo", "this photo", "the photograph",
        "this photograph", "the scene", "the given image", "the provided image",
    )
    for verb in (
        "shows", "depicts", "features", "contains", "presents", "captures", "displays", "portrays", "showcases", "is",
        "illustrates",
    )
]  # fmt: skip
STOCK_OPENINGS = (
    *_STARTS_WITH_VERB,
    "in this image", "in the image", "in this picture", "in the picture", "in this photo", "in the photo",
    "here is a", "here we", "this is a picture", "this is an image", "this is a photo", "we can see", "we see",
    "a picture of", "an image of", "a photo of", "a photograph of", "image of", "picture of", "photo of",
)  # fmt: skip


def toxic_words() -> frozenset[str]:
    """Slurs and obscene words without another meaning in descriptions of pictures, one a line in `toxic.txt`."""
    lines = files("sgv_data.filter").joinpath("toxic.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


TOXIC = toxic_words()


def speculation_count(low: str, distinct: set[str]) -> int:
    """How many times a lower-case text speaks of what no picture shows. `distinct`: its words."""
    found = _LONGEST_WORDS & distinct
    return sum(low.count(text) for text, word in _BY_LONGEST_WORD.items() if word in found) if found else 0
