"""What a sample says about itself, and the schema it is pinned to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sgv_data.errors import RunFolderError
from sgv_data.provenance import Lineage, json_features, provenance_of, sampling_of, with_picture
from sgv_data.records import CaptionRow, CaptionSet, ImageRow, Lane, Outcome, Verdict

IMAGE = ImageRow(
    image_id="s/a", source="s", key="a", location="/home/me/a.png", license="CC0-1.0", text=None, num_bytes=5,
    sha256="11", format="png", width_px=3, height_px=4, phash="00", reject=None, duplicate_of=None, detail=None,
    for_teacher=True, for_expand=True,
)  # fmt: skip
CAPTION = CaptionRow(
    image_id="s/a", text="text", outcome=Outcome.OK, failure=None, detail=None, producer=CaptionSet.TEACHER,
    model="m", model_revision="", prompt_id="p", prompt_version=1, prompt_sha256="22",
    sampling='{"temperature":0.7,"seed":null,"stop":["a","b"]}', finish_reason="stop", image_sha256="11",
    sent_sha256="33", prompt_tokens=1, completion_tokens=2, cost_usd=0.1, request_key="secret-key",
    request_id="volatile", attempts=3, latency_s=9.75, created_utc="2026-01-01T00:00:00Z",
)  # fmt: skip
VERDICT = Verdict("s/a", True, None, 0.0, 0.5, 0.0, 0.0, 1, 4)


def record(caption: CaptionRow = CAPTION, image: ImageRow = IMAGE) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(provenance_of(image, caption, VERDICT, "44", Lineage()).to_json())
    return made


def test_a_caption_says_where_it_came_from() -> None:
    """Every value arrives: the picture's, the request's, the verdict's."""
    made = record()
    sampling = made["caption"].pop("sampling")
    assert made["caption"] == {
        "sha256": "44", "producer": "teacher", "model": "m", "model_revision": "", "prompt_id": "p",
        "prompt_version": 1, "prompt_sha256": "22", "finish_reason": "stop", "sent_sha256": "33",
        "prompt_tokens": 1, "completion_tokens": 2, "source_text_offered": False, "asked_again_for": "",
    }  # fmt: skip
    assert sampling == sampling_of(CAPTION.sampling)
    assert made["image"] == {
        "format": "png", "width_px": 3, "height_px": 4, "num_bytes": 5, "sha256": "11", "phash": "00",
        "reencoded": False, "original_sha256": "11",
    }  # fmt: skip
    assert (made["image_id"], made["source"], made["license"]) == ("s/a", "s", "CC0-1.0")
    assert made["scores"]["cut_off_score"] == 0.5


def test_it_says_that_words_were_offered_and_that_it_was_asked_for_again() -> None:
    caption = record(replace(CAPTION, offered_text="Eiffel Tower", asked_again_for=Outcome.REFUSED))["caption"]
    assert (caption["source_text_offered"], caption["asked_again_for"]) == (True, "refused")


def test_what_differs_between_equal_runs_changes_nothing() -> None:
    later = replace(
        CAPTION, request_id="other", attempts=1, latency_s=0.1, created_utc="2027-01-01T00:00:00Z", cost_usd=None,
        lane=Lane.BATCH,
    )  # fmt: skip
    moved = replace(IMAGE, location="/elsewhere/a.png")
    assert record(later, moved) == record()


def test_values_have_the_types_of_the_pinned_schema() -> None:
    _check_struct(json_features([CAPTION.sampling]), record())


def _check_struct(fields: list[dict[str, Any]], values: dict[str, Any]) -> None:
    types = {"string": str, "int64": int, "float64": float, "bool": bool}
    assert {field["name"] for field in fields} == values.keys()
    for field in fields:
        value = values[field["name"]]
        if "struct" in field:
            _check_struct(field["struct"], value)
        else:
            assert type(value) is types[field["dtype"]], field["name"]


def test_sampling_holds_plain_values_and_no_nulls() -> None:
    assert sampling_of(CAPTION.sampling) == {"stop": '["a","b"]', "temperature": 0.7}
    assert sampling_of("") == {}


def test_settings_of_all_samples_are_pinned_and_whole_numbers_widen() -> None:
    (sampling,) = (
        field["struct"]
        for caption in json_features(['{"t":1}', '{"t":0.5}', '{"n":2}', '{"flag":true}'])
        if caption["name"] == "caption"
        for field in caption["struct"]
        if field["name"] == "sampling"
    )
    assert sampling == [
        {"name": "flag", "dtype": "bool"}, {"name": "n", "dtype": "int64"}, {"name": "t", "dtype": "float64"},
    ]  # fmt: skip


def test_a_setting_of_two_kinds_is_refused() -> None:
    with pytest.raises(RunFolderError, match="'stop' has values of two kinds, int and str"):
        json_features(['{"stop":1}', '{"stop":"x"}'])


def test_a_reencoded_picture_keeps_the_hash_of_the_original() -> None:
    text = provenance_of(IMAGE, CAPTION, VERDICT, "44", Lineage()).to_json()
    image = json.loads(with_picture(text, {"sha256": "99", "reencoded": True}))["image"]
    assert (image["sha256"], image["original_sha256"], image["reencoded"]) == ("99", "11", True)
