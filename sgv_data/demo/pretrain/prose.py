"""Captions in whole sentences."""

from __future__ import annotations

from sgv_data.demo.pretrain.catalogue import choose_relation
from sgv_data.demo.pretrain.voice import Voice
from sgv_data.demo.scenes import Column, Row, Scene, SceneObject

_NUMBERS = ("one", "two", "three", "four")
_RELATION_SHARE = 0.85


def write_prose(scene: Scene, voice: Voice) -> str:
    """A caption in sentences; the order of its statements is chosen anew for each."""
    rng = voice.rng
    facts = [_count(scene, voice), _background(scene, voice)]
    if scene.word is not None:
        facts.append(_word(scene, voice))
    rng.shuffle(facts)
    num_before = rng.randint(0, len(facts))
    form = rng.randrange(3)
    objects = _join([_object(item, form, voice) for item in scene.objects], voice)
    sentences = [*facts[:num_before], *objects, *facts[num_before:]]
    if len(scene.objects) > 1 and rng.random() < _RELATION_SHARE:
        sentences.insert(rng.choice((len(sentences), num_before + len(objects))), _relation(scene, voice))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _count(scene: Scene, voice: Voice) -> str:
    num_objects = len(scene.objects)
    counted = f"{_NUMBERS[num_objects - 1]} {voice.say('item' if num_objects == 1 else 'items')}"
    return voice.rng.choice(
        (f"I count {counted}", f"{counted} can be seen", f"we see {counted} here", f"it has {counted}")
    )


def _background(scene: Scene, voice: Voice) -> str:
    texture, color = voice.say(scene.background_texture), voice.say(scene.background_color)
    ground = voice.say("backdrop")
    return voice.rng.choice(
        (
            f"it all rests on a {texture} {color} {ground}",
            f"its {ground} is {color}, {texture}",
            f"the {color} {ground} looks {texture}",
            f"a {texture} {color} {ground} fills the rest",
        )
    )


def _word(scene: Scene, voice: Voice) -> str:
    assert scene.word is not None
    text, row = f'"{scene.word.text}"', voice.say(scene.word.row)
    return voice.rng.choice(
        (
            f"one reads {text} at the {row}",
            f"the {row} has the letters {text}",
            f"somebody has printed {text} along the {row}",
            f"you can read the word {text} in the {row}",
        )
    )


def _object(item: SceneObject, form: int, voice: Voice) -> str:
    noun = f"a {voice.say(item.size)} {voice.say(item.color)} {voice.say(item.shape)}"
    place = _place(item, voice)
    forms = (
        (f"{noun} can be seen {place}", f"{noun} stands {place}"),
        (f"{place} you find {noun}", f"{place} one sees {noun}"),
        (f"we have {noun} {place}", f"next comes {noun} {place}"),
    )
    return voice.rng.choice(forms[form])


def _place(item: SceneObject, voice: Voice) -> str:
    row, column = voice.say(item.row), voice.say(item.column)
    if item.row is Row.MIDDLE and item.column is Column.CENTER:
        return f"just in the {column}"
    corner = " corner" if item.row is not Row.MIDDLE and item.column is not Column.CENTER else " part"
    return f"{voice.rng.choice(('near', 'in', 'at'))} the {row} {column}{voice.rng.choice(('', corner))}"


def _join(clauses: list[str], voice: Voice) -> list[str]:
    """Sentences of one clause or two."""
    sentences: list[str] = []
    for clause in clauses:
        if sentences and " and " not in sentences[-1] and voice.rng.random() < 0.3:
            sentences[-1] += f", and {clause}"
        else:
            sentences.append(clause)
    return sentences


def _relation(scene: Scene, voice: Voice) -> str:
    one, relation, other = choose_relation(scene, voice)
    relation = voice.rng.choice(("", "to the ")) + relation if relation.endswith(" of") else relation
    return voice.rng.choice((f"{one} can be found {relation} {other}", f"{one} stands {relation} {other}"))
