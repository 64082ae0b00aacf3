"""Terse captions, as in a catalogue."""

from __future__ import annotations

from sgv_data.demo.pretrain.voice import Voice
from sgv_data.demo.scenes import Column, Row, Scene, SceneObject


def write_entry(scene: Scene, voice: Voice) -> str:
    """A caption as in a catalogue; the order of its statements is chosen anew for each."""
    rng = voice.rng
    facts = [_backdrop(scene, voice), _count(scene, voice)]
    if scene.word is not None:
        facts.append(_lettering(scene, voice))
    rng.shuffle(facts)
    num_before = rng.randint(0, len(facts))
    parts = [*facts[:num_before], _list(scene, voice), *facts[num_before:]]
    if len(scene.objects) > 1 and rng.random() < 0.6:
        parts.append("{} {} {}".format(*choose_relation(scene, voice)))
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def choose_relation(scene: Scene, voice: Voice) -> tuple[str, str, str]:
    """How two of the objects lie to each other: the one, the relation, the other."""
    one, other = voice.rng.sample(scene.objects, 2)
    rows, columns = list(Row), list(Column)
    relations = []
    if one.row is not other.row:
        higher = rows.index(one.row) < rows.index(other.row)
        relations.append(voice.rng.choice(("over", "above") if higher else ("under", "beneath", "below")))
    if one.column is not other.column:
        side = "left" if columns.index(one.column) < columns.index(other.column) else "right"
        relations.append(f"{side} of")
    nouns = [f"the {voice.say(item.color)} {voice.say(item.shape)}" for item in (one, other)]
    return nouns[0], voice.rng.choice(relations), nouns[1]


def _backdrop(scene: Scene, voice: Voice) -> str:
    ground = f"{voice.say(scene.background_texture)} {voice.say(scene.background_color)} {voice.say('backdrop')}"
    return voice.rng.choice((ground, f"with a {ground}"))


def _count(scene: Scene, voice: Voice) -> str:
    num_objects = len(scene.objects)
    counted = f"{num_objects} {voice.say('item' if num_objects == 1 else 'items')}"
    return voice.rng.choice((counted, f"{counted} in all"))


def _lettering(scene: Scene, voice: Voice) -> str:
    assert scene.word is not None
    text = scene.word.text if voice.rng.random() < 0.5 else f'"{scene.word.text}"'
    return f"{voice.say('lettering')} {text}, {voice.say(scene.word.row)} {voice.rng.choice(('row', 'band'))}"


def _list(scene: Scene, voice: Voice) -> str:
    form = voice.rng.randrange(4)
    entries = [_entry(item, form, voice) for item in scene.objects]
    return voice.rng.choice(("; ", ". ")).join(entries)


def _entry(item: SceneObject, form: int, voice: Voice) -> str:
    shape, color, size = voice.say(item.shape), voice.say(item.color), voice.say(item.size)
    place = _place(item, voice)
    return (
        f"{place}: a {size} {color} {shape}",
        f"a {size} {color} {shape}, {place}",
        f"{color} {shape}, {size}, {place}",
        f"{size} {color} {shape} ({place})",
    )[form]


def _place(item: SceneObject, voice: Voice) -> str:
    column = voice.say(item.column)
    if item.row is Row.MIDDLE:
        return f"dead {column}" if item.column is Column.CENTER else f"{voice.say(Row.MIDDLE)} {column}"
    return f"{voice.say(item.row)} {column}"
