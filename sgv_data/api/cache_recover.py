"""Saving what can still be read of a damaged reply cache into a new one. The damaged file is only read."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import zlib
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from sgv_data.api.cache import ReplyCache
from sgv_data.api.cache_facts import check_whole_file
from sgv_data.api.cache_file import APPLICATION_ID, FORMAT, connect, prepare
from sgv_data.api.cache_pages import Row, replies_in_pages
from sgv_data.api.reply import PARSER_VERSION, parse_reply
from sgv_data.errors import RunFolderError, SgvError
from sgv_data.records import Lane
from sgv_data.run_folder import publish_file

_HEAD_NUM_BYTES = 100
_MOST_USD = 1000.0
_BEFORE_FORMAT_2 = ("", "live", "")


@dataclass(frozen=True, slots=True)
class Recovered:
    """`was_sound`: nothing was wrong with the old file. `damaged_tables`: those of which rows may be missing."""

    num_replies: int
    was_sound: bool
    damaged_tables: tuple[str, ...]


def recover(old: Path, new: Path) -> Recovered:
    """Makes `new` from all that `old` still holds.

    Raises:
        RunFolderError: `old` is missing or of a newer version, `new` exists, or nothing could be read.
        DiskError: no room for the new file and a copy of the old one.
    """
    if not old.is_file():
        raise RunFolderError(f"{old}: there is no such file")
    if new.exists():
        raise RunFolderError(f"{new} exists already; name a file that does not")
    _refuse_newer(old)
    new.parent.mkdir(parents=True, exist_ok=True)
    # SQLite changes what it opens (it moves the log into the file): it gets a copy.
    with tempfile.TemporaryDirectory(dir=new.parent, prefix=".recover-") as folder:
        copy, made = Path(folder) / "copy.sqlite", Path(folder) / "made.sqlite"
        for end in ("", "-wal"):
            if (part := old.with_name(old.name + end)).exists():
                shutil.copyfile(part, copy.with_name(copy.name + end))
        num_replies = _num_in_sound(copy)
        if num_replies:
            publish_file(copy, new)
            return Recovered(num_replies, True, ())
        found = _saved(old, copy, made)
        if not found.num_replies:
            raise RunFolderError(f"{old} holds no reply that can still be read")
        publish_file(made, new)
    return found


def _refuse_newer(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEAD_NUM_BYTES).ljust(_HEAD_NUM_BYTES, b"\0")
    found, application = (int.from_bytes(head[place : place + 4], "big") for place in (60, 68))
    if application == APPLICATION_ID and found > FORMAT:
        raise RunFolderError(f"{path} was written by a newer sgv_data (format {found}); update sgv_data")


def _num_in_sound(path: Path) -> int | None:
    """The number of replies in a file of which every byte is as it was written; its log is empty then. Else None."""
    try:
        with ReplyCache(path) as cache:
            num_replies = check_whole_file(cache)
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (SgvError, sqlite3.Error):
        return None
    return num_replies


def _saved(old: Path, copy: Path, made: Path) -> Recovered:
    prepare(made)
    with closing(connect(made)) as target:
        target.execute("PRAGMA synchronous = OFF")
        target.execute("BEGIN")
        for row in replies_in_pages(old):
            _store_reply(target, row)
        others = [name for (name,) in target.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'replies'")]  # fmt: skip
        damaged = tuple(table for table in others if not _copied(copy, target, table))
        (num_replies,) = target.execute("SELECT count(*) FROM replies").fetchone()
        target.execute("COMMIT")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Recovered(num_replies, False, damaged)


def _store_reply(target: sqlite3.Connection, row: Row) -> None:
    """Stores a reply unless it is there. Only key and body are sure; of the rest is taken what can be true."""
    number, key, body, _, _, _, model, request_id, attempts, latency_s, created_utc, _, _, cost_usd, *newer = row
    run, lane, served_model = (*newer, *_BEFORE_FORMAT_2)[:3]
    parsed = parse_reply(zlib.decompress(body))
    values = (
        number, key, body, parsed.outcome.value, parsed.finished, PARSER_VERSION, str(model),
        request_id if isinstance(request_id, str) else None, attempts if isinstance(attempts, int) else 1,
        latency_s if isinstance(latency_s, int | float) else 0.0, str(created_utc), parsed.prompt_tokens,
        parsed.completion_tokens, _believable_usd(cost_usd), str(run), lane if lane in set(Lane) else Lane.LIVE.value,
        str(served_model),
    )  # fmt: skip
    with suppress(sqlite3.Error):
        target.execute(f"INSERT OR IGNORE INTO replies VALUES ({','.join('?' * len(values))})", values)


def _believable_usd(cost_usd: object) -> float | None:
    """None, the price of a reply of unknown price, is worked out anew from its tokens."""
    return cost_usd if isinstance(cost_usd, int | float) and 0 <= cost_usd < _MOST_USD else None


def _copied(source: Path, target: sqlite3.Connection, table: str) -> bool:
    """Copies the rows of a small table, from both ends as far as they can be read; whether all could be."""
    for direction in ("", " DESC"):
        try:
            with closing(connect(source)) as connection:
                rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1{direction}")
                marks = ",".join("?" * len(rows.description))
                for row in rows:
                    target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
            return True
        except sqlite3.Error:
            continue
    return False
