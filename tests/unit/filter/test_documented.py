"""docs/filters.md says what the rules are and how well they do on the labelled set; both must stay true."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgv_data.filter.catalogue import ENTRIES, Measured, page
from sgv_data.filter.policy import REASONS
from tests.unit.filter.labelled import DEFECTS, measured

_PAGE = Path(__file__).parents[3] / "docs" / "filters.md"


@pytest.fixture(scope="module")
def numbers() -> Measured:
    return measured()


def test_every_reason_is_documented_and_decided_by_a_rule() -> None:
    assert set(ENTRIES) == set(REASONS)
    assert len(set(REASONS)) == len(REASONS)


def test_the_page_is_what_the_rules_and_the_measurement_say(numbers: Measured) -> None:
    """When a rule changes on purpose: UPDATE_GOLDEN=1 pytest tests/unit/filter/test_documented.py"""
    made = page(numbers)
    if os.environ.get("UPDATE_GOLDEN"):
        _PAGE.write_text(made, encoding="utf-8")
    assert made == _PAGE.read_text(encoding="utf-8")


def test_under_one_percent_of_good_captions_are_rejected(numbers: Measured) -> None:
    assert numbers["good"]["rejected"] / numbers["good"]["num"] < 0.01


@pytest.mark.parametrize("reason", [*(reason.value for reason in DEFECTS), "near_duplicate"])
def test_injected_defects_are_found_and_called_by_their_name(numbers: Measured, reason: str) -> None:
    assert numbers[reason]["precision"] >= 0.98
    assert numbers[reason]["recall"] >= 0.95
