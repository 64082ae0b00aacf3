from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgv_data.collect.questions import Questions
from sgv_data.collect.run import identity
from sgv_data.errors import ManifestError
from sgv_data.manifest import Manifest
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
    from sgv_data.api.keys import SentImage
    from sgv_data.api.prices import price_of

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
