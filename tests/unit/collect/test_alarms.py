from __future__ import annotations

import pytest

from sgv_data.collect.alarms import AlarmBell
from sgv_data.errors import AlarmRaised
from sgv_data.manifest import Alarms
from sgv_data.records import FailureClass, Outcome

OVER = 10


def bell(**thresholds: float | None) -> AlarmBell:
    """Only the alarms named are on."""
    off = dict.fromkeys(("refused_share", "truncated_share", "failed_share", "same_text_share"))
    return AlarmBell(Alarms.model_validate({"over": OVER, **off, **thresholds}))


def refuse(ringing: AlarmBell, count: int, text: str = "No.") -> None:
    for _ in range(count):
        ringing.ended(Outcome.REFUSED, None, text)


def fine(ringing: AlarmBell, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        ringing.ended(Outcome.OK, None, f"The picture has the number {number}.")


KINDS = {
    "refused_share": (Outcome.REFUSED, None, "I'm sorry, I can't help with that.", "are refusals"),
    "truncated_share": (Outcome.TRUNCATED, None, "", "are cut off"),
    "failed_share": (Outcome.FAILED, FailureClass.BAD_REPLY, "no JSON", "failed with bad_reply"),
    "same_text_share": (Outcome.OK, None, "A photo.", "say the same words"),
}


@pytest.mark.parametrize("field", KINDS)
def test_an_alarm_rings_when_its_share_of_the_window_is_reached(field: str) -> None:
    outcome, failure, text, words = KINDS[field]
    ringing = bell(**{field: 0.3})
    fine(ringing, 20)
    ringing.ended(outcome, failure, text)
    ringing.ended(outcome, failure, text)
    with pytest.raises(AlarmRaised, match=rf"3 of the last 10 answers {words}.*teacher\.alarms\.{field} is 0\.3"):
        ringing.ended(outcome, failure, text)


@pytest.mark.parametrize("field", KINDS)
def test_an_alarm_that_is_switched_off_never_rings(field: str) -> None:
    outcome, failure, text, _ = KINDS[field]
    ringing = bell(**{field: None})
    for _ in range(3 * OVER):
        ringing.ended(outcome, failure, text)


def test_a_handful_rings_nothing_until_the_window_is_full() -> None:
    ringing = bell(refused_share=0.5)
    refuse(ringing, OVER - 1)
    with pytest.raises(AlarmRaised):
        refuse(ringing, 1)


def test_what_was_wrong_before_the_window_filled_counts_when_a_fine_answer_fills_it() -> None:
    ringing = bell(refused_share=0.5)
    refuse(ringing, 5)
    fine(ringing, 4)
    with pytest.raises(AlarmRaised, match="5 of the last 10"):
        fine(ringing, 1, start=99)


def test_what_left_the_window_counts_no_more() -> None:
    ringing = bell(refused_share=0.5)
    for number in range(40):
        outcome = Outcome.REFUSED if number % 10 < 4 else Outcome.OK
        ringing.ended(outcome, None, str(number))


def test_it_rings_once_although_answers_on_their_way_still_come_in() -> None:
    ringing = bell(refused_share=0.5)
    with pytest.raises(AlarmRaised):
        refuse(ringing, OVER)
    refuse(ringing, OVER)


def test_failures_of_different_classes_are_not_added_up() -> None:
    ringing = bell(failed_share=0.6)
    classes = list(FailureClass)
    for number in range(5 * OVER):
        ringing.ended(Outcome.FAILED, classes[number % len(classes)], "")


def test_case_spaces_and_punctuation_do_not_make_texts_differ() -> None:
    ringing = bell(same_text_share=0.3)
    fine(ringing, OVER)
    ringing.ended(Outcome.OK, None, "A photo, of something.")
    ringing.ended(Outcome.OK, None, "a photo of  something")
    with pytest.raises(AlarmRaised):
        ringing.ended(Outcome.TRUNCATED, None, "A PHOTO of something …")


def test_refusals_and_empty_answers_are_no_equal_captions() -> None:
    ringing = bell(same_text_share=0.1)
    for _ in range(OVER):
        ringing.ended(Outcome.REFUSED, None, "I'm sorry.")
        ringing.ended(Outcome.OK, None, " … ")


def test_the_sentence_quotes_shortly_and_says_how_to_go_on() -> None:
    ringing = bell(refused_share=1.0)
    with pytest.raises(AlarmRaised) as raised:
        refuse(ringing, OVER, "\x1b[2Jkey sk-abcdefghijkl\n\u202e" + "very " * 100)
    sentence = str(raised.value)
    assert raised.value.exit_code == 12
    assert "“key *** very very" in sentence
    assert not {"\x1b", "\u202e", "\n"} & set(sentence)
    assert len(sentence) < 500
    assert "Everything answered is stored" in sentence
    assert "--set teacher.alarms.refused_share=null" in sentence
