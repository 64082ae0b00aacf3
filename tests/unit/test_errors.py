from __future__ import annotations

import errno
import re
import sqlite3

import pytest

import sgv_data.errors as errors


def test_a_key_from_the_environment_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "topsecretvalue")
    assert str(errors.ProviderError("the server said topsecretvalue")) == "the server said ***"


@pytest.mark.parametrize("secret", ["sk-proj-abc123456", "hf_abcdefghij", "Bearer abc.def-ghi"])
def test_what_looks_like_a_key_never_shows(secret: str) -> None:
    assert secret not in errors.redact(f"got {secret} back")


def test_ordinary_words_are_left_alone() -> None:
    text = "risk-averse task-force at https://host/v1 with model gpt-4o"
    assert errors.redact(text) == text


@pytest.mark.parametrize(
    "exc",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
)
def test_a_full_disk_is_known_by_all_its_names(exc: Exception) -> None:
    assert "no space left" in str(errors.disk_error(exc))


def test_other_failures_are_not_the_disks() -> None:
    assert errors.disk_error(ValueError("disk")) is None


def test_every_error_stands_in_the_drawn_tree_with_its_exit_code() -> None:
    drawn = dict(re.findall(r"(?:── )?(\w+) +(\d+) {3}", errors.__doc__ or ""))
    kinds = [errors.SgvError, *errors.SgvError.__subclasses__()]
    assert drawn == {kind.__name__: str(kind.exit_code) for kind in kinds}
