"""Captions for the base model to learn: half of them as in a catalogue, half in sentences.

Neither in the sentences of the demo's teacher: those are what fine-tuning is to teach.
"""

from __future__ import annotations

import random

from sgv_data.demo.photo import PhotoMeasurement, Side
from sgv_data.demo.pretrain.catalogue import write_entry
from sgv_data.demo.pretrain.prose import write_prose
from sgv_data.demo.pretrain.voice import Voice
from sgv_data.demo.scenes import Row, Scene

_PROSE_SHARE = 0.65


def describe_scene(scene: Scene, rng: random.Random) -> str:
    """A caption of a drawn scene."""
    voice = Voice(rng)
    return write_prose(scene, voice) if rng.random() < _PROSE_SHARE else write_entry(scene, voice)


def describe_photo(photo: PhotoMeasurement, rng: random.Random) -> str:
    """A caption of a blurred picture by its light and colours."""
    voice = Voice(rng)
    one, other = rng.choice(((Side.TOP, Side.BOTTOM), (Side.LEFT, Side.RIGHT)))
    facts = [
        f"{voice.say(photo.brightness)}, {voice.say(photo.contrast)} contrast",
        "mainly " + ", ".join(voice.say(tone) for tone in photo.colors),
        f"{_part(one, voice)} {voice.say(photo.side_colors[one])}, "
        f"{_part(other, voice)} {voice.say(photo.side_colors[other])}",
    ]
    if photo.brightest_side is not None:
        facts.append(f"lightest {_part(photo.brightest_side, voice)}")
    rng.shuffle(facts)
    return f"{rng.choice(('Blurred photo', 'Snapshot', 'Photo'))}: {'; '.join(facts)}."


def _part(side: Side, voice: Voice) -> str:
    return f"{voice.say(Row(side)) if side in (Side.TOP, Side.BOTTOM) else side} part"
