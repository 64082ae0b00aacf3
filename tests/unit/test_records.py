from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.errors import BalanceError
from sgv_data.records import StageReport, image_order


def test_the_order_of_a_picture_depends_on_its_id_alone() -> None:
    assert image_order("streets/a.jpg") == image_order("streets/a.jpg") != image_order("streets/b.jpg")


@given(st.text())
def test_any_id_has_an_order(image_id: str) -> None:
    assert len(image_order(image_id)) == 20


@given(
    rejected=st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3),
    failed=st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3),
    num_out=st.integers(0, 9),
    skipped=st.integers(0, 9),
    lost=st.integers(-3, 3),
)
def test_a_report_balances_only_when_nothing_is_lost(
    rejected: dict[str, int], failed: dict[str, int], num_out: int, skipped: int, lost: int
) -> None:
    total = sum(rejected.values()) + sum(failed.values()) + num_out + skipped
    report = StageReport(
        stage="s", num_in=total + lost, num_out=num_out, rejected=rejected, failed=failed, skipped=skipped
    )
    if lost:
        with pytest.raises(BalanceError):
            report.balance()
    else:
        assert report.balance() is report
