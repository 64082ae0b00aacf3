"""What goes wrong with the file of the reply cache, said in one sentence with the remedy."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sgv_data.errors import DiskError, RunFolderError, SgvError, disk_error

_PRIMARY = 0xFF
_NO_SPACE = (sqlite3.SQLITE_FULL,)
_DEVICE = (sqlite3.SQLITE_IOERR,)
_NOT_ALLOWED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def may_pass(exc: Exception) -> bool:
    """Whether the same write may succeed a moment later: no space, an error of the device, another writer."""
    return _code(exc) in (*_NO_SPACE, *_DEVICE, *_IN_USE)


def is_no_space(exc: Exception) -> bool:
    """Whether a write failed for want of space. An error of the device counts: that is how some quotas tell it."""
    return _code(exc) in (*_NO_SPACE, *_DEVICE)


def cache_error(path: Path, exc: Exception) -> SgvError:
    """What an error of SQLite, zlib or the file system means to the user."""
    code = _code(exc)
    if code in _NO_SPACE:
        return DiskError(
            f"no space left on the disk that holds {path}; every reply acknowledged so far is in it. Free some and run "
            "the same command again"
        )
    if code in _DEVICE:
        return DiskError(f"{path}: the disk cannot be read or written ({exc}); see to the disk, then run again")
    if code in _NOT_ALLOWED:
        return DiskError(f"{path}: the reply cache, or its folder, cannot be opened for writing ({exc})")
    if code in _IN_USE:
        return RunFolderError(f"{path}: another process has kept the reply cache locked for too long; try again later")
    return disk_error(exc) or damaged(path, str(exc))


def damaged(path: Path, what: str) -> RunFolderError:
    """The error for a file that holds something else than was written."""
    return RunFolderError(
        f"{path}: the reply cache is damaged ({what}). It holds paid replies: leave it as it is and save what can "
        f"still be read with: sgv cache recover {path} NEW.sqlite"
    )


def _code(exc: Exception) -> int | None:
    code = getattr(exc, "sqlite_errorcode", None)
    return code & _PRIMARY if isinstance(code, int) else None
