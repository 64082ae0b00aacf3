"""What has to happen to a repository so that it holds a dataset, decided from two listings and without a network.

A repository is changed in commits of a bounded size. Where one commit is not enough, an interim card without any claim
stands in the repository while files are replaced, and the card comes back in the last commit: at no commit does the
card say anything that the files do not hold. Deletions come after all files that replace what is deleted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sgv_data.dataset_format import CARD, DATA, METADATA
from sgv_data.errors import InputError
from sgv_data.records import FileStamp

FILES_PER_COMMIT = 100
"""The Hub asks for 50 to 100 files in a commit made by hand."""

INTERIM_CARD = """---
viewer: false
---

The files of this dataset are being replaced. The card comes back with the last of them; until then use a tagged
revision.
"""

PROMPTS = "prompts"
_FOLDERS = (f"{DATA}/", f"{METADATA}/", f"{PROMPTS}/")
_MOST_FILES = 100_000
_MOST_IN_FOLDER = 10_000
_MOST_FILE_BYTES = 200_000_000_000
_FREE_PRIVATE_BYTES = 100_000_000_000


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a repository. `sha256` is None where it is kept in git itself, under its blob's sha1."""

    num_bytes: int
    sha256: str | None
    git_sha1: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of files to send and to delete."""

    send: tuple[str, ...]
    delete: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.send or self.delete)


@dataclass(frozen=True, slots=True)
class Step:
    """One commit; with `interim` it also puts the interim card in the card's place."""

    send: tuple[str, ...]
    delete: tuple[str, ...]
    interim: bool = False


def changes(folder: Path, wanted: Mapping[str, FileStamp], remote: Mapping[str, RemoteFile]) -> Changes:
    """From what the repository holds to `wanted`, whose files lie in `folder`.

    Only what lies where a dataset has its files is ever deleted: a licence or a picture beside the card stays.
    """
    send = [name for name, stamp in wanted.items() if not is_same(folder / name, stamp, remote.get(name))]
    delete = [name for name in remote if name not in wanted and name.startswith(_FOLDERS)]
    return Changes(tuple(sorted(send)), tuple(sorted(delete)))


def is_same(path: Path, stamp: FileStamp, remote: RemoteFile | None) -> bool:
    """Whether the repository holds these bytes; only files that git itself holds, which are small, are read."""
    if remote is None or remote.num_bytes != stamp.num_bytes:
        return False
    return remote.sha256 == stamp.sha256 if remote.sha256 else remote.git_sha1 == git_sha1(path.read_bytes())


def git_sha1(content: bytes) -> str:
    """What git calls a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def steps(todo: Changes, card_there: RemoteFile | None, per_commit: int = FILES_PER_COMMIT) -> list[Step]:
    """The commits, in order. `card_there` is the card that the repository has now."""
    if len(todo.send) + len(todo.delete) <= per_commit:
        return [Step(todo.send, todo.delete)] if todo else []
    last = tuple(name for name in todo.send if not name.startswith(_FOLDERS))
    early = [name for name in todo.send if name.startswith(_FOLDERS)]
    made = [Step(tuple(part), ()) for part in _parts(early, per_commit)]
    made += [Step((), tuple(part)) for part in _parts(todo.delete, per_commit)]
    interim_there = card_there is not None and card_there.git_sha1 == git_sha1(INTERIM_CARD.encode())
    if card_there is not None and not interim_there:
        made[0] = Step(made[0].send, made[0].delete, interim=True)
    return [*made, Step(last if CARD in last else (*last, CARD), ())]


def _parts(names: Iterable[str], size: int) -> list[list[str]]:
    every = list(names)
    return [every[start : start + size] for start in range(0, len(every), size)]


def check_limits(files: Mapping[str, FileStamp], private: bool) -> list[str]:
    """Limits of the Hub that this dataset comes near to, as sentences (read from its documentation in August 2026).

    Raises:
        InputError: if it breaks one that the Hub enforces.
    """
    num_bytes = sum(stamp.num_bytes for stamp in files.values())
    folder, most = Counter(name.rpartition("/")[0] for name in files).most_common(1)[0]
    largest = max(files, key=lambda name: files[name].num_bytes)
    broken = []
    if len(files) >= _MOST_FILES:
        broken.append(f"{len(files)} files; the Hub takes fewer than {_MOST_FILES} in a repository")
    if most >= _MOST_IN_FOLDER:
        broken.append(f"{most} files in {folder}/; the Hub takes fewer than {_MOST_IN_FOLDER} in a folder")
    if files[largest].num_bytes >= _MOST_FILE_BYTES:
        broken.append(f"{largest} has {files[largest].num_bytes} bytes; the Hub wants less than {_MOST_FILE_BYTES}")
    if broken:
        raise InputError(f"publish: {'; '.join(broken)}. Change shard.max_samples and shard.max_bytes")
    if private and num_bytes > _FREE_PRIVATE_BYTES:
        return [f"{num_bytes / 1e9:.0f} GB in a private repository need a paid plan (100 GB are free)"]
    return []
