"""What a sample says about itself: the content of its `KEY.json`, and the types of its values.

Equal runs write equal provenance: dates, latencies, request ids and attempts stay in the run's tables. Every value has
one JSON type in all samples and none is null, so that any reader's schema holds; text that is not there is "".
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sgv_data.errors import RunFolderError
from sgv_data.records import CaptionRow, ImageRow, Verdict
from sgv_data.run_folder import canonical_json

SCHEMA_VERSION = 2

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the captioner comes from; all "" for captions of the teacher. `model_sha256` covers its files' hashes."""

    base_model: str = ""
    base_revision: str = ""
    model_sha256: str = ""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """The picture in the shard. `original_sha256` differs from `sha256` only if it was re-encoded."""

    format: str
    width_px: int
    height_px: int
    num_bytes: int
    sha256: str
    phash: str
    reencoded: bool
    original_sha256: str


@dataclass(frozen=True, slots=True)
class CaptionFacts:
    """Who wrote the caption, asked how. `sha256` is over its UTF-8, `sent_sha256` over the bytes the model saw.

    `source_text_offered`: the picture's own words (the sample's `source_text`, shortened and cleaned) stood in the
    prompt. `asked_again_for` is how a first asking ended that brought no caption; "" for a caption of the first asking.
    """

    sha256: str
    producer: str
    model: str
    model_revision: str
    prompt_id: str
    prompt_version: int
    prompt_sha256: str
    sampling: dict[str, Scalar]
    finish_reason: str
    sent_sha256: str
    prompt_tokens: int
    completion_tokens: int
    source_text_offered: bool
    asked_again_for: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """The whole record. `scores` are those of the caption's `Verdict`."""

    schema_version: int
    image_id: str
    source: str
    license: str
    source_text: str
    image: PictureFacts
    caption: CaptionFacts
    scores: dict[str, Scalar]
    captioner: Lineage

    def to_json(self) -> str:
        """Canonical JSON."""
        return canonical_json(_plain(self))


def provenance_of(
    image: ImageRow, caption: CaptionRow, verdict: Verdict, text_sha256: str, lineage: Lineage
) -> Provenance:
    """The provenance of a sample that holds the picture's own bytes."""
    return Provenance(
        schema_version=SCHEMA_VERSION,
        image_id=image.image_id,
        source=image.source,
        license=image.license,
        source_text=image.text or "",
        image=PictureFacts(
            format=image.format, width_px=image.width_px, height_px=image.height_px, num_bytes=image.num_bytes,
            sha256=image.sha256, phash=image.phash, reencoded=False, original_sha256=image.sha256,
        ),
        caption=CaptionFacts(
            sha256=text_sha256, producer=str(caption.producer), model=caption.model,
            model_revision=caption.model_revision, prompt_id=caption.prompt_id, prompt_version=caption.prompt_version,
            prompt_sha256=caption.prompt_sha256, sampling=sampling_of(caption.sampling),
            finish_reason=caption.finish_reason, sent_sha256=caption.sent_sha256, prompt_tokens=caption.prompt_tokens,
            completion_tokens=caption.completion_tokens, source_text_offered=caption.offered_text is not None,
            asked_again_for=str(caption.asked_again_for or ""),
        ),
        scores={name: getattr(verdict, name) for name in _score_types()},
        captioner=lineage,
    )


def _plain(record: Any) -> dict[str, Any]:
    """A record as a dictionary, those inside it too; without the copies of `dataclasses.asdict`, which take longer."""
    return {
        name: _plain(getattr(record, name)) if is_record else getattr(record, name)
        for name, is_record in _fields(typing.cast(typing.Hashable, type(record)))
    }


@cache
def _fields(record: Any) -> tuple[tuple[str, bool], ...]:
    """Name of each field, and whether it holds another record."""
    hints = typing.get_type_hints(record)
    return tuple((field.name, dataclasses.is_dataclass(hints[field.name])) for field in dataclasses.fields(record))


def with_picture(provenance_json: str, facts: dict[str, Scalar]) -> str:
    """The same provenance with other picture facts, for a re-encoded picture."""
    record = json.loads(provenance_json)
    record["image"].update(facts)
    return canonical_json(record)


def sampling_of(text: str) -> dict[str, Scalar]:
    """Decoding settings as plain values: nulls are left out, lists and objects become their JSON text."""
    settings = json.loads(text) if text else {}
    return {
        name: value if isinstance(value, str | int | float | bool) else canonical_json(value)
        for name, value in sorted(settings.items())
        if value is not None
    }


# --- types -------------------------------------------------------------------------------------------------------

_DTYPES: dict[type, str] = {str: "string", int: "int64", float: "float64", bool: "bool"}


def json_features(samplings: Iterable[str]) -> list[dict[str, Any]]:
    """The schema of `KEY.json` as the Hub's YAML writes a struct. `samplings`: every distinct setting in the dataset.

    Raises:
        RunFolderError: if a setting has values of two kinds that no one type can hold.
    """
    return _struct(Provenance, _sampling_types(samplings))


def _struct(record: type, sampling: dict[str, type]) -> list[dict[str, Any]]:
    hints = typing.get_type_hints(record)
    fields: list[dict[str, Any]] = []
    for field in dataclasses.fields(record):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            fields.append({"name": field.name, "struct": _struct(typing.cast(type, kind), sampling)})
        elif kind in _DTYPES:
            fields.append({"name": field.name, "dtype": _DTYPES[kind]})
        elif named := (_score_types() if field.name == "scores" else sampling):
            inner = [{"name": name, "dtype": _DTYPES[each]} for name, each in named.items()]
            fields.append({"name": field.name, "struct": inner})
    return fields


@cache
def _score_types() -> dict[str, type]:
    """The scores of a verdict: every number in it."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(Verdict).items():
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if parts[0] in (int, float):
            found[name] = parts[0]
    return found


def _sampling_types(samplings: Iterable[str]) -> dict[str, type]:
    found: dict[str, type] = {}
    for text in sorted(set(samplings)):
        for name, value in sampling_of(text).items():
            kinds = {type(value), found.get(name, type(value))}
            if len(kinds) > 1 and kinds != {int, float}:
                both = " and ".join(sorted(kind.__name__ for kind in kinds))
                raise RunFolderError(f"the sampling setting {name!r} has values of two kinds, {both}")
            found[name] = float if float in kinds else kinds.pop()
    return dict(sorted(found.items()))
