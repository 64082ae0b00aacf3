"""The run folder: where things lie, what is done, and the one door for durable writes.

    runs/<name>/
      manifest.yaml                the manifest as resolved for the latest command
      .lock                        held by the one `sgv` that works here
      <stage>/_STARTED.json        what the stage is being made from; written first
      <stage>/_RECORD.json         the same with report and file hashes; written last: the stage is done
      <stage>/.again.json          a finished stage is being worked on once more; there until the new record is
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sgv_data.errors import RunFolderError
from sgv_data.records import FileStamp, StageRecord

STARTED = "_STARTED.json"
RECORD = "_RECORD.json"
AGAIN = ".again.json"


def utc_now() -> str:
    """The time as `2026-01-31T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of `value`, as hex."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- the one door for durable writes -----------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_file(temporary: Path, final: Path) -> None:
    """Gives a complete temporary file its final name: fsync, rename, fsync of the folder."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    sync_folder(final.parent)


def publish_folder(temporary: Path, final: Path) -> None:
    """Gives a complete temporary folder its final name; every file in it is synced first. `final` must not exist."""
    for path in temporary.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(temporary)
    os.rename(temporary, final)
    sync_folder(final.parent)


def write_durably(path: Path, content: str | bytes) -> None:
    """Writes a whole file so that, after any crash, either the old or the new content is there."""
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    publish_file(temporary, path)


# --- the folder --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`runs/<name>` and the folders of its stages."""

    root: Path

    def stage(self, name: str) -> Path:
        """The folder of a stage (`index`, `filter-teacher`, …)."""
        return self.root / name

    def record(self, stage: str) -> StageRecord | None:
        """The record of a finished stage, or None.

        Raises:
            RunFolderError: if the record cannot be read.
        """
        return _read_record(self.stage(stage) / RECORD)

    def started(self, stage: str) -> StageRecord | None:
        """What an unfinished stage was started with, or None."""
        return _read_record(self.stage(stage) / STARTED)

    def is_held(self) -> bool:
        """Whether a process works in the folder now."""
        try:
            with (self.root / ".lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process.

        Raises:
            RunFolderError: if another process works in it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise RunFolderError(
                    f"{self.root}: another sgv (process {owner}) is working here; wait for it or stop it"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _read_record(path: Path) -> StageRecord | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return StageRecord.model_validate_json(text)
    except ValidationError as exc:
        raise RunFolderError(
            f"{path} is damaged or of another version of sgv_data; run the stage again with --redo"
        ) from exc


def stamp_files(folder: Path, leave_out: tuple[str, ...]) -> dict[str, FileStamp]:
    """Size and sha256 of every file below `folder`, except hidden ones, records and names matching `leave_out`."""
    stamps = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not path.is_file() or hidden or name in (STARTED, RECORD) or any(path.match(p) for p in leave_out):
            continue
        stamps[name] = FileStamp(num_bytes=path.stat().st_size, sha256=file_sha256(path))
    return stamps


def check_files(folder: Path, record: StageRecord) -> None:
    """Sees that every file of a finished stage is still there with its size.

    Raises:
        RunFolderError: naming the first file that is missing or has changed.
    """
    for name, stamp in record.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != stamp.num_bytes:
            what = "is missing" if size is None else f"has {size} bytes instead of {stamp.num_bytes}"
            raise RunFolderError(f"{path} {what}; make the stage again with --redo {record.stage}")
