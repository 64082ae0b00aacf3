"""What `verify` can find, and the report it gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sgv_data.errors import VerifyFailed

MOST_PER_TAR = 50
_SHOWN_IN_ERROR = 5


class Problem(StrEnum):
    """Kinds of finding."""

    DAMAGED_TAR = "damaged_tar"
    WRONG_CHECKSUM = "wrong_checksum"
    WRONG_COUNT = "wrong_count"
    MISSING_FILE = "missing_file"
    EXTRA_FILE = "extra_file"
    DAMAGED_FILE = "damaged_file"
    BAD_NAME = "bad_name"
    NOT_ADJACENT = "not_adjacent"
    DUPLICATE_KEY = "duplicate_key"
    DUPLICATE_MEMBER = "duplicate_member"
    MISSING_SAMPLE = "missing_sample"
    EXTRA_SAMPLE = "extra_sample"
    MISSING_MEMBER = "missing_member"
    EXTRA_MEMBER = "extra_member"
    WRONG_PLACE = "wrong_place"
    WRONG_BYTES = "wrong_bytes"
    BAD_TEXT = "bad_text"
    BAD_JSON = "bad_json"
    DISAGREES = "disagrees"
    BAD_PICTURE = "bad_picture"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: in which file, with which sample (None: with the file as a whole), and what."""

    file: str
    key: str | None
    problem: Problem
    detail: str

    def __str__(self) -> str:
        sample = f", sample {self.key}" if self.key is not None else ""
        return f"{self.file}{sample}: {self.detail} [{self.problem}]"


class Findings:
    """A bounded list of findings in one file, and their number."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.kept: list[Finding] = []
        self.count = 0

    def add(self, problem: Problem, detail: str, key: str | None = None) -> None:
        """Notes a finding; beyond `MOST_PER_TAR` it is only counted."""
        self.count += 1
        if len(self.kept) < MOST_PER_TAR:
            self.kept.append(Finding(self._file, key, problem, detail))


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a dataset holds and what is wrong with it.

    `indexed`: whether it was compared with an index of ours; without one, only structure and content are checked.
    `num_findings` may be more than there are `findings`: at most `MOST_PER_TAR` are kept per file.
    """

    folder: Path
    indexed: bool
    num_shards: int
    num_samples: int
    num_bytes: int
    findings: tuple[Finding, ...]
    num_findings: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.num_findings == 0

    def require_sound(self) -> None:
        """Raises VerifyFailed, with the first findings, unless everything is as it should be."""
        if self.is_sound:
            return
        shown = [str(finding) for finding in self.findings[:_SHOWN_IN_ERROR]]
        more = self.num_findings - len(shown)
        tail = [f"and {more} more"] if more else []
        raise VerifyFailed("\n".join([f"{self.folder}: {self.num_findings} finding(s)", *shown, *tail]))


def joined(parts: Iterable[Findings]) -> tuple[tuple[Finding, ...], int]:
    """All kept findings and the number of all."""
    parts = list(parts)
    return tuple(each for part in parts for each in part.kept), sum(part.count for part in parts)
