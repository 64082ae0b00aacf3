"""A unit is one worker's at a time, and comes free when that worker is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sgv_data.errors import SgvError
from sgv_data.expand.claims import Claims


def take_and_fail(units: Path, error: BaseException) -> None:
    with Claims(units) as claims:
        claims.take("a")
        raise error


def test_a_claimed_unit_is_not_given_twice(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("a") == 0
        assert other.take("a") is None
        assert other.take("b") == 0


def test_what_is_given_back_politely_is_no_try(tmp_path: Path) -> None:
    with Claims(tmp_path) as one:
        one.take("a")
    with pytest.raises(SgvError):
        take_and_fail(tmp_path, SgvError("the provider is away"))
    with pytest.raises(KeyboardInterrupt):
        take_and_fail(tmp_path, KeyboardInterrupt())

    with Claims(tmp_path) as other:
        assert other.take("a") == 0


def test_a_try_that_broke_down_is_remembered_until_the_unit_is_done(tmp_path: Path) -> None:
    for tries in (0, 1):
        with Claims(tmp_path) as looking:
            assert looking.take("a") == tries
        with pytest.raises(RuntimeError):
            take_and_fail(tmp_path, RuntimeError("illegal memory access"))
    with Claims(tmp_path) as other:
        assert other.take("a") == 2
        other.done("a")
        assert other.take("a") == 0


def test_a_killed_workers_unit_is_free_at_once_on_the_same_machine(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sgv_data.expand.claims import Claims\n"
        "claims = Claims(Path(sys.argv[1])).__enter__(); claims.take('a'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / ".claims" / "a").is_file()

    with Claims(tmp_path) as other:
        assert other.take("a") == 1
        other.done("a")
        other.sweep()

    assert list((tmp_path / ".claims").iterdir()) == []


@pytest.mark.parametrize(("age_s", "is_free"), [(30.0, False), (90.0, True)])
def test_a_worker_of_another_machine_is_gone_when_it_was_not_seen_for_long(
    tmp_path: Path, age_s: float, is_free: bool
) -> None:
    with Claims(tmp_path) as mine:
        now = (tmp_path / ".claims").stat().st_mtime
        beat = tmp_path / ".claims" / "@elsewhere~1~ab"
        beat.touch()
        os.utime(beat, (now - age_s, now - age_s))
        (tmp_path / ".claims" / "a").write_text("elsewhere~1~ab")

        assert (mine.take("a") is not None) == is_free
