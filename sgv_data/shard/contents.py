"""Checks on the content of one sample: pure functions from its members to what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sgv_data.dataset_format import IMAGE_FIELDS, JSON_FIELD, TEXT_FIELD, image_field
from sgv_data.images.decode import BadPicture, decode
from sgv_data.images.formats import HEAD_BYTES, sniff
from sgv_data.manifest import Pictures
from sgv_data.records import SampleRow, image_order
from sgv_data.shard.findings import Problem
from sgv_data.shard.scan import Member

# A dataset may hold pictures of any shape; only a size no machine can decode is refused.
_ANY_PICTURE = Pictures(min_side_px=1, max_pixels=1_000_000_000, max_aspect=1e9)
# Nobody looks at the pixels: a JPEG read for this size takes half the time, and is still read to its end.
_SIDE_PX = 16
_SAME_FORMAT = {"jpeg": "jpg", "tif": "tiff"}

Wrong = Iterator[tuple[Problem, str]]


def check_contents(key: str, members: Mapping[str, Member], vouched_for: str | None = None) -> Wrong:
    """What can be said of a sample by itself: readable members that agree with each other.

    A picture with the sha256 `vouched_for` is not decoded: whoever wrote that hash down had decoded it.
    """
    for field, member in members.items():
        extension = field.rpartition(".")[2].lower()
        if extension in IMAGE_FIELDS:
            if member.sha256 == vouched_for:
                yield from _check_format(field, extension, sniff(member.payload[:HEAD_BYTES]))
                continue
            yield from _check_picture(field, extension, member.payload)
        elif extension == TEXT_FIELD:
            yield from _check_text(field, member.payload)
        elif extension == JSON_FIELD:
            yield from _check_json(key, field, members)


def check_against_row(row: SampleRow, members: Mapping[str, Member]) -> Wrong:
    """What differs between a sample and its row in the index."""
    image_name = row.image_name.partition(".")[2]
    expected = {
        image_name: (row.image_offset_bytes, row.image_num_bytes, row.image_sha256),
        JSON_FIELD: (row.json_offset_bytes, row.json_num_bytes, row.json_sha256),
        TEXT_FIELD: (row.text_offset_bytes, row.text_num_bytes, row.text_sha256),
    }
    for field in members.keys() - expected.keys():
        yield Problem.EXTRA_MEMBER, f"has a member {field} that the index does not know"
    for field, (offset_bytes, num_bytes, sha256) in expected.items():
        if field not in members:
            yield Problem.MISSING_MEMBER, f"has no member {field}"
            continue
        member = members[field]
        if len(member.payload) != num_bytes:
            yield Problem.WRONG_BYTES, f"{field} has {len(member.payload)} bytes, the index says {num_bytes}"
        elif member.sha256 != sha256:
            yield Problem.WRONG_BYTES, f"{field} has other bytes than the index says"
        if member.offset_bytes != offset_bytes:
            yield Problem.WRONG_PLACE, f"{field} begins at byte {member.offset_bytes}, the index says {offset_bytes}"


def _check_picture(field: str, extension: str, payload: bytes) -> Wrong:
    try:
        facts, _ = decode(payload, _ANY_PICTURE, _SIDE_PX)
    except BadPicture as exc:
        yield Problem.BAD_PICTURE, f"{field} does not decode ({exc})"
        return
    yield from _check_format(field, extension, facts.format)


def _check_format(field: str, extension: str, image_format: str | None) -> Wrong:
    if image_format is not None and image_field(image_format) != _SAME_FORMAT.get(extension, extension):
        yield Problem.BAD_PICTURE, f"{field} is a {image_format}"


def _check_text(field: str, payload: bytes) -> Wrong:
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as exc:
        yield Problem.BAD_TEXT, f"{field} is no UTF-8 (byte {exc.start})"
        return
    if not text.strip():
        yield Problem.BAD_TEXT, f"{field} is empty"


def _check_json(key: str, field: str, members: Mapping[str, Member]) -> Wrong:
    try:
        record = json.loads(members[field].payload.decode("utf-8"))
    except ValueError as exc:
        yield Problem.BAD_JSON, f"{field} is no JSON ({exc})"
        return
    if not isinstance(record, dict):
        yield Problem.BAD_JSON, f"{field} is no JSON object"
        return
    if "schema_version" in record:
        yield from _check_provenance(key, record, members)


def _check_provenance(key: str, record: dict[str, Any], members: Mapping[str, Member]) -> Wrong:
    """Whether a record of ours speaks of this picture, this caption and this key."""
    if (image_id := record.get("image_id")) is not None and image_order(str(image_id)) != key.rpartition("/")[2]:
        yield Problem.DISAGREES, f"json speaks of {image_id!r}, which has another key"
    for section, is_it in (("image", IMAGE_FIELDS), ("caption", (TEXT_FIELD,))):
        facts = record.get(section)
        wanted = facts.get("sha256") if isinstance(facts, dict) else None
        for field, member in members.items():
            if field in is_it and member.sha256 != wanted:
                yield Problem.DISAGREES, f"json was written for another {section} than {field}"
