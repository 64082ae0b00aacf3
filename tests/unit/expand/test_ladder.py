"""Which captions are asked about again, and how."""

from __future__ import annotations

from sgv_data.captioner.setting import Setting
from sgv_data.expand.engine import Finish
from sgv_data.expand.ladder import Ladder, first_setting, repeated_share
from sgv_data.manifest import Expand
from sgv_data.records import Outcome

LADDER = Expand.model_validate({
    "max_new_tokens": 100,
    "retry": {
        "repetition": [{"temperature": 0.7}, {"repetition_penalty": 1.2}],
        "truncated": [{"max_new_tokens": 200}],
    },
})  # fmt: skip
LOOP = "a red house by the lake under a blue sky " * 6


def test_rungs_are_taken_one_by_one_and_what_they_leave_out_stays() -> None:
    ladder, first = Ladder(LADDER), first_setting(LADDER)

    second = ladder.next_setting(first, [Outcome.LOOPED])
    assert second == Setting(100, temperature=0.7, stops_loops=True)
    third = ladder.next_setting(second, [Outcome.LOOPED, Outcome.LOOPED])
    assert third == Setting(100, temperature=0.7, repetition_penalty=1.2, stops_loops=True)
    assert ladder.next_setting(third, [Outcome.LOOPED] * 3) is None


def test_each_fault_has_rungs_of_its_own() -> None:
    ladder, first = Ladder(LADDER), first_setting(LADDER)

    second = ladder.next_setting(first, [Outcome.LOOPED])
    assert second is not None
    assert ladder.next_setting(second, [Outcome.LOOPED, Outcome.TRUNCATED]) == Setting(200, 0.7, stops_loops=True)


def test_a_caption_in_order_is_not_asked_again() -> None:
    ladder = Ladder(LADDER)

    assert ladder.outcome("A red house by the lake.", Finish.STOP) is Outcome.OK
    assert ladder.next_setting(first_setting(LADDER), [Outcome.OK]) is None


def test_a_caption_that_loops_is_seen_however_it_ended() -> None:
    ladder = Ladder(LADDER)

    assert repeated_share(LOOP) > 0.8
    for finish in (Finish.STOP, Finish.LENGTH, Finish.REPETITION):
        assert ladder.outcome(LOOP, finish) is Outcome.LOOPED


def test_without_rungs_nothing_is_looked_for() -> None:
    plain = Expand()

    assert not first_setting(plain).stops_loops
    assert not Ladder(plain).is_used
    assert Ladder(plain).outcome(LOOP, Finish.STOP) is Outcome.OK
