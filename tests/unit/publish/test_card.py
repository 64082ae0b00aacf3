"""Text in the card that comes from elsewhere stays text."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from sgv_data.prompts import Prompt
from sgv_data.publish.card import render_card, size_category
from sgv_data.publish.facts import DatasetFacts, SplitFacts, Writer
from sgv_data.records import StageReport


def facts(**changes: object) -> DatasetFacts:
    values: dict[str, object] = {
        "name": "set", "title": "A set", "license": "cc-by-4.0", "splits": [SplitFacts("train", 2, 10, 1, 10_240)],
        "image_fields": ["jpg"], "features": [{"name": "jpg", "dtype": "image"}],
        "sources": Counter({("pics", "CC0-1.0"): 2}),
        "writers": Counter({Writer("teacher", "model", "", "p", 1, "00", '{"t":1}'): 2}), "num_words": 40,
        "prompts": [Prompt("p", 1, "tests", "Describe.", "00")],
        "funnel": [StageReport(stage="index", num_in=3, num_out=2, rejected={"too_small": 1})], "thresholds": [],
    }  # fmt: skip
    return DatasetFacts(**{**values, **changes})  # type: ignore[arg-type]


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def test_front_matter_is_valid_whatever_the_title() -> None:
    card = render_card(facts(title='"a": [b\n---\nc'), "set")
    assert yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))["pretty_name"] == '"a": [b\n---\nc'


@pytest.mark.parametrize("name", ["a|b", "<script>alert(1)</script>", "a\nb", "`code`", "[x](http://y)"])
def test_names_cannot_leave_their_cell(name: str) -> None:
    card = body(render_card(facts(writers=Counter({Writer("teacher", name, "", "p", 1, "00", "{}"): 2})), "set"))
    (row,) = (line for line in card.splitlines() if line.startswith("| teacher |"))
    assert row.replace("\\|", "").count("|") == 7
    assert "<script>" not in row.replace("\\<", "")
    assert "](" not in row.replace("\\]", "")


def test_a_prompt_with_fences_stays_one_block() -> None:
    text = "before\n````\ninside\n```\nafter"
    card = body(render_card(facts(prompts=[Prompt("p", 1, "tests", text, "00")]), "set"))
    assert f"`````text\n{text}\n`````" in card


def test_the_funnel_is_told_with_its_reasons() -> None:
    card = render_card(facts(), "set")
    assert "| index | 3 | 2 | 1 | 0 | 0 |" in card
    assert "| index | too\\_small | 1 |" in card


@pytest.mark.parametrize(
    ("count", "name"), [(999, "n<1K"), (1_000, "1K<n<10K"), (1_200_000, "1M<n<10M"), (10**10, "n>1B")]
)
def test_size_categories_are_those_of_the_hub(count: int, name: str) -> None:
    assert size_category(count) == name


def test_equal_facts_give_equal_cards() -> None:
    assert render_card(facts(), "set") == render_card(facts(), "set")
