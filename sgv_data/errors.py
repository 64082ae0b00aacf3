"""The error tree. Every error a user can cause or meet is one of these, and each kind has an exit code.

    SgvError                    1   anything else that stops a run
    ├── ManifestError           2   a manifest, prompt or --set value is wrong
    ├── InputError              3   pictures: no such folder, an empty one, changed since indexing
    ├── ProviderError           4   the captioning server: refused key, unknown model, not there
    ├── BudgetReached           5   teacher.budget_usd is used up; everything answered is stored
    ├── RunFolderError          6   the run folder: of another manifest, locked, damaged
    ├── DiskError               7   no space or no permission to write
    ├── BalanceError            8   numbers of a stage do not add up
    ├── MissingPart             9   an optional part is not installed
    ├── VerifyFailed           10   shards are not what their index says
    ├── TrainingError          11   training cannot start or cannot go on
    ├── AlarmRaised            12   answers look so wrong that spending was stopped (teacher.alarms)
    └── StillWaiting           13   batches are under way; run the same command later to collect them

Ctrl-C ends with 130, as shells do.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3


class SgvError(Exception):
    """An error with one clear sentence for the user; `exit_code` is what `sgv` ends with."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ManifestError(SgvError):
    exit_code = 2


class InputError(SgvError):
    exit_code = 3


class ProviderError(SgvError):
    exit_code = 4


class BudgetReached(SgvError):
    exit_code = 5


class RunFolderError(SgvError):
    exit_code = 6


class DiskError(SgvError):
    exit_code = 7


class BalanceError(SgvError):
    exit_code = 8


class MissingPart(SgvError):
    exit_code = 9


class VerifyFailed(SgvError):
    exit_code = 10


class TrainingError(SgvError):
    exit_code = 11


class AlarmRaised(SgvError):
    exit_code = 12


class StillWaiting(SgvError):
    exit_code = 13


_SECRET = re.compile(r"\b(sk-[\w-]{6,}|hf_\w{6,}|(?<=Bearer )[\w.\-]{6,})")
_SECRET_VARIABLE = re.compile(r"(API_KEY|TOKEN|SECRET)$")


def redact(text: str) -> str:
    """`text` with everything that is or looks like a secret replaced by `***`.

    Covers values of environment variables ending in API_KEY, TOKEN or SECRET (8 characters or more) and the
    usual shapes of provider and Hub keys.
    """
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_VARIABLE.search(name):
            text = text.replace(value, "***")
    return _SECRET.sub("***", text)


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_error(exc: BaseException) -> DiskError | None:
    """The `DiskError` that a foreign exception means, or None when it is about something else."""
    if isinstance(exc, sqlite3.Error) and "disk" in str(exc) and "full" in str(exc):
        return DiskError(f"no space left on the disk ({exc}); free some and run the same command again")
    if not isinstance(exc, OSError):
        return None
    place = f" at {exc.filename}" if exc.filename else ""
    if exc.errno in _DISK_FULL or "No space left" in str(exc):
        return DiskError(f"no space left on the disk{place}; free some and run the same command again")
    if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return DiskError(f"cannot read or write{place} ({exc.strerror})")
    return None
