from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.printable import printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]0;new title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("one\r\ntwo\tthree", "one two three"),
        ("back\x08\x08\x08space\x00", "backspace"),
        ("\u202eevil\u202c \u2066x\u2069", "evil x"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("half \ud800 a character", "half a character".replace("half a", "half  a")),
        ("[bold]markup stays text[/bold]", "[bold]markup stays text[/bold]"),
        ("שלום naïve 画", "שלום naïve 画"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    assert {unicodedata.category(char)[0] for char in printable(text)} <= set("LMNPSZ")


@given(st.text(), st.integers(1, 40))
def test_it_is_never_longer_than_asked_for(text: str, most: int) -> None:
    assert len(printable(text, most)) <= most


def test_a_cut_is_shown() -> None:
    assert printable("a long sentence", 7) == "a long…"
