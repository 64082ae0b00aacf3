"""The contact sheet: a few pictures with every caption there is of them, beside one another."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sgv_data.errors import InputError
from sgv_data.images.decode import BadPicture, decode
from sgv_data.images.encode import encode
from sgv_data.manifest import Manifest
from sgv_data.records import CaptionSet, Outcome
from sgv_data.report.pictures import Answer, ModelSample, Picture
from sgv_data.report.states import PictureState, State
from sgv_data.sources.reader import PictureReader

MAX_PICTURES = 60
MAX_CAPTION_CHARS = 1_500
_SIDE_PX = 280
_QUALITY = 72

# How many pictures of each kind; pictures come in hash order, so the first of a kind are a fair draw.
_COMPARED, _KEPT, _PER_REASON, _REJECTS = 18, 12, 3, 24
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class ShownCaption:
    """A caption as shown: clamped, without control characters. `kept` is None where nothing was judged."""

    who: str
    text: str
    num_hidden_chars: int
    kept: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Card:
    """One picture on the sheet. `thumbnail` is a data URI, or None with `problem` saying why."""

    image_id: str
    size: str
    thumbnail: str | None
    problem: str
    state: str
    reason: str
    captions: tuple[ShownCaption, ...]


class ContactSheet:
    """Chooses pictures while they stream by and holds at most MAX_PICTURES of them."""

    def __init__(self, manifest: Manifest, samples: dict[str, ModelSample]) -> None:
        self._manifest = manifest
        self._samples = samples
        self._chosen: list[tuple[Picture, PictureState]] = []
        self._taken: Counter[str] = Counter()

    def add(self, picture: Picture, state: PictureState) -> None:
        """Takes the picture if there is still room for its kind."""
        kind, room = self._kind(picture, state)
        if self._taken[kind] < room and len(self._chosen) < MAX_PICTURES:
            if kind.startswith("no:"):
                if self._taken["no"] >= _REJECTS:
                    return
                self._taken["no"] += 1
            self._taken[kind] += 1
            self._chosen.append((picture, state))

    def _kind(self, picture: Picture, state: PictureState) -> tuple[str, int]:
        for caption_set in CaptionSet:
            answer = picture.answer(caption_set)
            if answer is not None and answer.verdict is not None and not answer.verdict.kept:
                return f"no:{caption_set}:{answer.verdict.reason}", _PER_REASON
        if state.state in (State.REJECTED, State.DUPLICATE, State.FAILED):
            return f"no:{state.state}:{'' if state.state is State.DUPLICATE else state.reason}", _PER_REASON
        if picture.image.image_id in self._samples:
            return "compared", _COMPARED
        return f"kept:{'both' if picture.teacher and picture.student else 'one'}", _KEPT

    def cards(self) -> Iterator[Card]:
        """The sheet, those with the most captions first."""
        reader = PictureReader(self._manifest)
        for picture, state in sorted(self._chosen, key=lambda each: -len(self._captions(each[0]))):
            thumbnail, problem = _thumbnail(picture, reader, self._manifest)
            image = picture.image
            yield Card(
                image_id=shown(image.image_id)[0],
                size=f"{image.width_px} × {image.height_px} px" if image.width_px else "",
                thumbnail=thumbnail,
                problem=problem,
                state=state.state,
                reason="captioner" if state.reason == CaptionSet.STUDENT else shown(state.reason)[0],
                captions=self._captions(picture),
            )

    def _captions(self, picture: Picture) -> tuple[ShownCaption, ...]:
        captions = []
        for caption_set, who in ((CaptionSet.TEACHER, "teacher"), (CaptionSet.STUDENT, "captioner")):
            if (answer := picture.answer(caption_set)) is not None:
                captions.append(_shown_answer(who, answer))
        if (sample := self._samples.get(picture.image.image_id)) is not None:
            if picture.student is None:
                captions.append(_shown("captioner, after training", sample.trained))
            captions.append(_shown("base model, before training", sample.base))
        return tuple(captions)


def shown(text: str) -> tuple[str, int]:
    """Text fit for a page, and how many characters of it are left out. Escaping is the template's."""
    cut = text[:MAX_CAPTION_CHARS]
    visible = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", cut).encode("utf-8", "replace").decode("utf-8")
    return visible, len(text) - len(cut)


def _shown(who: str, text: str, kept: bool | None = None, reason: str = "") -> ShownCaption:
    visible, num_hidden_chars = shown(text)
    return ShownCaption(who, visible, num_hidden_chars, kept, reason)


def _shown_answer(who: str, answer: Answer) -> ShownCaption:
    if answer.caption.outcome is Outcome.FAILED:
        return _shown(who, "", False, f"failed: {answer.caption.failure}")
    if answer.verdict is None:
        return _shown(who, answer.caption.text)
    return _shown(who, answer.caption.text, answer.verdict.kept, answer.verdict.reason or "")


def _thumbnail(picture: Picture, reader: PictureReader, manifest: Manifest) -> tuple[str | None, str]:
    try:
        data = reader.read(picture.image.source, picture.image.location)
        _, image = decode(data, manifest.pictures, max_side_px=_SIDE_PX)
    except BadPicture as exc:
        return None, f"cannot be shown: {exc.reject}"
    except (OSError, InputError):
        return None, "cannot be read any more"
    encoded = base64.b64encode(encode(image, "jpeg", _QUALITY)).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}", ""
