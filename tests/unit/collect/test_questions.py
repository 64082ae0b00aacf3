from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgv_data.api.keys import SentImage
from sgv_data.api.prices import price_of
from sgv_data.collect.questions import Change, Questions
from sgv_data.collect.run import identity
from sgv_data.errors import ManifestError
from sgv_data.manifest import Manifest
from sgv_data.offer import OFFER_TEXT
from sgv_data.prompts import load_prompt
from tests.servers.collect_run import draw, index_row


def manifest(folder: Path, prompt: object, seed: int = 1, **teacher: Any) -> Manifest:
    for name in ("one", "two", "three"):
        (folder / f"{name}.md").write_text(f"---\nid: {name}\nversion: 1\nfor: tests\n---\nAsk {name}.\n")
    return Manifest.model_validate({
        "name": "t", "seed": seed, "prompts": str(folder), "teacher": {"model": "gpt-4o", **teacher},
        "images": [{"kind": "folder", "name": "numbers", "path": "p", "prompt": prompt}],
    })  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> list[Any]:
    draw(1).save(tmp_path / "1.png")
    row = index_row(tmp_path / "1.png")
    return [replace(row, image_id=f"numbers/{number}") for number in range(300)]


def test_several_prompts_share_the_pictures_about_equally_whatever_the_order(tmp_path: Path, rows: list[Any]) -> None:
    questions = Questions(manifest(tmp_path, ["one", "two", "three"]))
    drawn = {row.image_id: questions.for_row(row).prompt.prompt_id for row in rows}
    assert drawn == {row.image_id: questions.for_row(row).prompt.prompt_id for row in reversed(rows)}
    assert all(70 <= number <= 130 for number in Counter(drawn.values()).values())


def test_the_seed_changes_who_gets_which_prompt(tmp_path: Path, rows: list[Any]) -> None:
    first, second = (Questions(manifest(tmp_path, ["one", "two"], seed)) for seed in (1, 2))
    assert any(first.for_row(row).prompt != second.for_row(row).prompt for row in rows)


def test_an_unknown_prompt_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nothing_like_it"):
        Questions(manifest(tmp_path, "nothing_like_it"))


def test_the_worst_case_covers_the_request_itself(tmp_path: Path, rows: list[Any]) -> None:
    made = manifest(tmp_path, ["one", "three"])
    questions, price = Questions(made), price_of(made.teacher)
    assert price is not None
    for row in rows[:20]:
        request = questions.request(row, SentImage("0" * 64, "image/png", 1024, 768, 3), b"abc")
        asked_usd = price.cost_usd(request.most_prompt_tokens, request.most_completion_tokens)
        assert asked_usd <= questions.worst_usd("numbers", 4000, 3000, price)
        assert request.likely_tokens > 765 + 1024


@pytest.mark.parametrize("change", [
    {"model": "o3"}, {"temperature": 0.0}, {"seed": 5}, {"max_completion_tokens": 5}, {"image": {"detail": "low"}},
    {"image": {"max_side_px": 512}}, {"token_limit_name": "max_tokens"},
])  # fmt: skip
def test_what_changes_captions_is_in_the_identity(tmp_path: Path, change: dict[str, Any]) -> None:
    assert identity(manifest(tmp_path, "one"), "collect") != identity(manifest(tmp_path, "one", **change), "collect")


def test_the_prompts_words_are_in_the_identity(tmp_path: Path) -> None:
    before = identity(manifest(tmp_path, "one"), "collect")
    (tmp_path / "one.md").write_text("---\nid: one\nversion: 1\nfor: tests\n---\nOther words.\n")
    made = Manifest.model_validate(manifest_without_writing(tmp_path))
    assert identity(made, "collect") != before


def manifest_without_writing(folder: Path) -> dict[str, Any]:
    return {
        "name": "t", "seed": 1, "prompts": str(folder), "teacher": {"model": "gpt-4o"},
        "images": [{"kind": "folder", "name": "numbers", "path": "p", "prompt": "one"}],
    }  # fmt: skip


@pytest.mark.parametrize("change", [
    {"timeout_s": 9.0}, {"limits": {"in_flight": 2}}, {"retry": {"attempts": 2}}, {"budget_usd": 3.0},
    {"base_url": "http://localhost/v1"}, {"price": {"input_usd": 1, "output_usd": 1}},
])  # fmt: skip
def test_what_does_not_is_not(tmp_path: Path, change: dict[str, Any]) -> None:
    assert identity(manifest(tmp_path, "one"), "collect") == identity(manifest(tmp_path, "one", **change), "collect")


# --- words of the source ---

IMAGE = SentImage("0" * 64, "image/png", 1024, 768, 3)


def offering(folder: Path, **source: Any) -> Manifest:
    made = manifest(folder, "one").model_dump(mode="json")
    made["images"][0] |= {"offer_text": True, **source}
    return Manifest.model_validate(made)


def sent_text(questions: Questions, row: Any) -> str:
    return str(json.loads(questions.request(row, IMAGE, b"x").body)["messages"][0]["content"][0]["text"])


def test_the_pictures_own_words_are_sent_where_the_manifest_says_so(tmp_path: Path, rows: list[Any]) -> None:
    row = replace(rows[0], text='Eiffel "Tower"\nParis')
    questions = Questions(offering(tmp_path))
    assert sent_text(questions, row) == f"Ask one.\n\n{OFFER_TEXT}\n\n\"Eiffel 'Tower' Paris\""
    assert questions.for_row(row).offered_text == "Eiffel 'Tower' Paris"
    assert sent_text(Questions(manifest(tmp_path, "one")), row) == "Ask one."


def test_other_words_are_another_request(tmp_path: Path, rows: list[Any]) -> None:
    questions = Questions(offering(tmp_path))
    keys = {questions.key(replace(rows[0], text=text), IMAGE) for text in (None, "Louvre", "Eiffel Tower")}
    assert len(keys) == 3
    assert questions.key(rows[0], IMAGE) == Questions(manifest(tmp_path, "one")).key(rows[0], IMAGE)


def test_a_picture_without_words_gets_the_plain_prompt(tmp_path: Path, rows: list[Any]) -> None:
    question = Questions(offering(tmp_path)).for_row(replace(rows[0], text=" \n "))
    assert question.offered_text is None


def test_the_worst_case_covers_any_words(tmp_path: Path, rows: list[Any]) -> None:
    made = offering(tmp_path)
    questions, price = Questions(made), price_of(made.teacher)
    assert price is not None
    request = questions.request(replace(rows[0], text="\U0001f5fc" * 5_000 + "x"), IMAGE, b"x")
    asked_usd = price.cost_usd(request.most_prompt_tokens, request.most_completion_tokens)
    assert asked_usd <= questions.worst_usd("numbers", 1024, 768, price)


def test_offering_words_is_in_the_identity_and_not_offering_changes_nothing(tmp_path: Path) -> None:
    plain = identity(manifest(tmp_path, "one"), "collect")
    assert identity(offering(tmp_path), "collect") != plain
    assert identity(offering(tmp_path, offer_text=False), "collect") == plain


# --- later rounds ---


def test_a_repeated_request_is_the_same_but_for_its_key(tmp_path: Path, rows: list[Any]) -> None:
    made = manifest(tmp_path, ["one", "two"])
    first = Questions(made)
    later = [Questions(made, Change(made.teacher, None, sample)) for sample in (0, 1)]
    requests = [each.request(rows[0], IMAGE, b"x") for each in (first, *later)]
    assert len({request.body for request in requests}) == 1
    assert len({request.key for request in requests}) == 3


def test_another_request_has_the_key_of_whoever_asks_it_first(tmp_path: Path, rows: list[Any]) -> None:
    """So that an answer in a shared cache is found."""
    made, other = manifest(tmp_path, "one"), manifest(tmp_path, "two")
    changed = Change(made.teacher, load_prompt("two", (tmp_path,)), 0)
    assert Questions(made, changed).key(rows[0], IMAGE) == Questions(other).key(rows[0], IMAGE)


def test_a_round_whose_prompt_some_pictures_had_already_repeats_only_for_them(tmp_path: Path, rows: list[Any]) -> None:
    made = manifest(tmp_path, ["one", "two"])
    later = Questions(made, Change(made.teacher, load_prompt("two", (tmp_path,)), 0))
    first = Questions(made)
    samples = {(first.for_row(row).prompt.prompt_id, later.for_row(row).sample) for row in rows}
    assert samples == {("one", 0), ("two", 1)}


@pytest.mark.parametrize("change", [{"refused": {"prompt": "two"}}, {"failed": {"model": "m"}}])
def test_the_ladder_is_not_in_the_identity(tmp_path: Path, change: dict[str, Any]) -> None:
    plain = identity(manifest(tmp_path, "one"), "collect")
    assert identity(manifest(tmp_path, "one", retry=change), "collect") == plain
