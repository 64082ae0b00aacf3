from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgv_data.api.cache import ReplyCache, StoredReply
from sgv_data.api.calibration import Calibration, calibration
from sgv_data.api.keys import SentImage
from sgv_data.api.reply import parse_reply
from sgv_data.api.tokens import image_tokens
from sgv_data.api.wire import RequestTemplate
from sgv_data.manifest import Manifest
from sgv_data.offer import clean
from sgv_data.plan.run import make_plan
from sgv_data.progress import Silent
from sgv_data.prompts import load_prompt
from sgv_data.records import ImageRow, image_order
from sgv_data.run_folder import RunFolder
from sgv_data.tables import write_table
from tests.servers.collect_run import draw, index_row

NUM_PICTURES = 12


def manifest(folder: Path, offer_text: bool = False, **teacher: Any) -> Manifest:
    return Manifest.model_validate({
        "name": "t",
        "images": [{"name": "p", "kind": "folder", "path": str(folder), "prompt": ["detailed", "people"],
                    "offer_text": offer_text}],
        "teacher": {"model": "gpt-4o", "image": {"max_side_px": 1024}, **teacher},
    })  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> list[ImageRow]:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    made = []
    for number in range(NUM_PICTURES):
        path = pictures / f"{number:02d}.png"
        draw(number).save(path)
        row = replace(index_row(path), image_id=f"p/{path.name}", source="p", location=path.name)
        made.append(replace(row, text=f"Tower {number}"))
    made.sort(key=lambda row: image_order(row.image_id))
    write_table(tmp_path / "run" / "index", "images", ImageRow, made)
    return made


def answer(made: Manifest, folder: Path, rows: list[ImageRow], extra: int, output: int) -> int:
    """Stores a reply for each row, by turns to the two prompts, billed `extra` tokens more than the picture alone."""
    num_image_tokens = 0
    (folder / "run" / "collect").mkdir(parents=True, exist_ok=True)
    with ReplyCache(folder / "run" / "collect" / "replies.sqlite") as cache:
        for number, row in enumerate(rows):
            image = SentImage(row.sha256, "image/png", row.width_px, row.height_px, row.num_bytes)
            prompt = load_prompt(("detailed", "people")[number % 2])
            words = clean(row.text) if made.images[0].offer_text else None
            template = RequestTemplate(made.teacher, prompt.offering(words) if words else prompt.text)
            tokens = image_tokens("gpt-4o", row.width_px, row.height_px) or 0
            num_image_tokens += tokens
            usage = {"prompt_tokens": tokens + extra, "completion_tokens": output * (1 + number % 2)}
            body = json.dumps({
                "choices": [{"message": {"content": "A tower."}, "finish_reason": "stop"}], "usage": usage
            }).encode()  # fmt: skip
            reply = StoredReply(template.key(image), body, "gpt-4o", None, 1, 2.5, "2026-01-01T00:00:00Z", 0.01)
            cache.put_sent(row.sha256, "any", image).result()
            cache.put(reply, parse_reply(body)).result()
    return num_image_tokens


def measured(made: Manifest, folder: Path) -> Calibration | None:
    return calibration(made, folder / "run" / "index", folder / "run" / "collect" / "replies.sqlite")


def test_predicted_and_billed_are_of_the_same_replies(tmp_path: Path, rows: list[ImageRow]) -> None:
    made = manifest(tmp_path / "pictures")
    billed = answer(made, tmp_path, rows[:8], extra=100, output=40)
    found = measured(made, tmp_path)
    assert found is not None
    texts = [load_prompt(name).text for name in ("detailed", "people")]
    text = sum(RequestTemplate(made.teacher, each).likely_text_tokens for each in texts)
    assert (found.num_replies, found.billed_prompt_tokens) == (8, billed + 800)
    assert found.predicted_prompt_tokens == billed + 4 * text
    assert (found.billed_output_tokens, found.latency_s) == (8 * 60, 2.5)
    assert found.output_tokens_by_prompt == {"detailed": 40, "people": 80}


def test_words_offered_with_a_picture_are_part_of_its_question(tmp_path: Path, rows: list[ImageRow]) -> None:
    made = manifest(tmp_path / "pictures", offer_text=True)
    answer(made, tmp_path, rows, extra=1, output=1)
    found = measured(made, tmp_path)
    assert found is not None
    assert found.num_replies == NUM_PICTURES


@pytest.mark.parametrize("change", [{"model": "o3"}, {"image": {"max_side_px": 1024, "detail": "low"}}])
def test_replies_to_other_questions_do_not_count(tmp_path: Path, rows: list[ImageRow], change: dict[str, Any]) -> None:
    answer(manifest(tmp_path / "pictures"), tmp_path, rows, extra=100, output=40)
    assert measured(manifest(tmp_path / "pictures", **change), tmp_path) is None


def test_without_replies_there_is_none(tmp_path: Path, rows: list[ImageRow]) -> None:
    assert measured(manifest(tmp_path / "pictures"), tmp_path) is None


def test_a_cache_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, rows: list[ImageRow]) -> None:
    (tmp_path / "run" / "collect").mkdir()
    (tmp_path / "run" / "collect" / "replies.sqlite").write_bytes(b"no database" * 100)
    assert measured(manifest(tmp_path / "pictures"), tmp_path) is None


def test_it_can_be_read_while_it_is_written(tmp_path: Path, rows: list[ImageRow]) -> None:
    made = manifest(tmp_path / "pictures")
    answer(made, tmp_path, rows, extra=100, output=40)
    with ReplyCache(tmp_path / "run" / "collect" / "replies.sqlite"):
        assert measured(made, tmp_path) is not None


def test_a_plan_uses_what_was_billed(tmp_path: Path, rows: list[ImageRow]) -> None:
    made = manifest(tmp_path / "pictures")
    answer(made, tmp_path, rows[:6], extra=100, output=40)
    plan = make_plan(made, RunFolder(tmp_path / "run"), Silent())
    assert plan.calibration is not None
    assert plan.total.prompt_tokens == pytest.approx(NUM_PICTURES * (255 + 100), rel=0.01)
    assert plan.total.output_tokens == NUM_PICTURES * 60
    assert (plan.live.latency_s, plan.live.latency_is_billed) == (2.5, True)
