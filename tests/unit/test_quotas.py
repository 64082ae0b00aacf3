from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.manifest import FolderSource, Quota
from sgv_data.quotas import Role, choose, draw, wanted


def source(teacher: Quota, expand: Quota, apart: bool = False) -> FolderSource:
    return FolderSource(name="p", kind="folder", path="x", teacher=teacher, expand=expand, apart=apart)


def draws(num_pictures: int) -> tuple[np.ndarray, np.ndarray]:
    ids = [f"p/{number}.jpg" for number in range(num_pictures)]
    return (
        np.array([draw(1, Role.TEACHER, name) for name in ids], np.uint64),
        np.array([draw(1, Role.EXPAND, name) for name in ids], np.uint64),
    )


@pytest.mark.parametrize(
    ("quota", "number"),
    [("all", 7), ("none", 0), (3, 3), (9, 9), (0, 0), (0.0, 0), (1.0, 7), (0.5, 4), (1, 1), (0.01, 0)],
)
def test_what_a_quota_asks_for_of_7_pictures(quota: Quota, number: int) -> None:
    assert wanted(quota, 7) == number


def test_numbers_and_shares_are_met() -> None:
    for_teacher, for_expand, notes = choose(source(10, 0.25), *draws(40))
    assert (for_teacher.sum(), for_expand.sum(), notes) == (10, 10, [])


def test_the_two_roles_are_drawn_independently() -> None:
    for_teacher, for_expand, _ = choose(source(100, 100), *draws(200))
    assert 25 < (for_teacher & for_expand).sum() < 75


def test_apart_means_no_picture_for_both() -> None:
    for_teacher, for_expand, _ = choose(source(0.25, "all", apart=True), *draws(40))
    assert (for_teacher.sum(), for_expand.sum()) == (10, 30)
    assert not (for_teacher & for_expand).any()


def test_asking_for_more_than_there_is_takes_all_and_says_so() -> None:
    for_teacher, for_expand, notes = choose(source(50, 20, apart=True), *draws(60))
    assert (for_teacher.sum(), for_expand.sum()) == (50, 10)
    assert notes == ["p: expand asks for 20 pictures, there are 10 to choose from; all are taken"]


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_larger_quota_takes_the_same_and_more(few: int, more: int) -> None:
    small, _, _ = choose(source(few, "none"), *draws(30))
    large, _, _ = choose(source(few + more, "none"), *draws(30))
    assert (large | small).tolist() == large.tolist()


def test_another_seed_draws_others() -> None:
    assert draw(1, Role.TEACHER, "p/a") != draw(2, Role.TEACHER, "p/a") != draw(2, Role.EXPAND, "p/a")
