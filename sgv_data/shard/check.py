"""One tar checked in one pass: archive, grouping of members, contents, and the index where there is one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sgv_data.dataset_format import IMAGE_FIELDS
from sgv_data.records import SampleRow
from sgv_data.shard.contents import check_against_row, check_contents
from sgv_data.shard.findings import Findings, Problem
from sgv_data.shard.scan import DamagedTar, Member, TarScan

# The key ends at the first dot of the base name, the rest is the field: the rule of webdataset.
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TarTask:
    """A tar to check, called `name` in findings; `rows` are its rows in the index, None if there is none.

    `decode_all`: also pictures whose hash is the index's are decoded.
    """

    path: Path
    name: str
    rows: tuple[SampleRow, ...] | None
    decode_all: bool = False


@dataclass(slots=True)
class TarFacts:
    """What a tar holds. `keys` only without an index: with one, a key that occurs twice is an extra sample."""

    name: str
    findings: Findings
    num_samples: int = 0
    num_bytes: int = 0
    sha256: str = ""
    keys: list[str] = field(default_factory=list)


def split_name(name: str) -> tuple[str, str] | None:
    """Key and field of a member name, or None if loaders would pass it over."""
    matched = _NAME.match(name)
    return (matched[1], matched[2]) if matched else None


def check_tar(task: TarTask) -> TarFacts:
    """Everything that is wrong with one tar."""
    facts = TarFacts(task.name, Findings(task.name))
    samples = _Samples(facts, task.rows, task.decode_all)
    scan = TarScan(task.path)
    try:
        for member in scan.members():
            samples.add(member)
    except DamagedTar as exc:
        facts.findings.add(Problem.DAMAGED_TAR, str(exc))
    samples.end()
    facts.num_bytes, facts.sha256 = scan.num_bytes, scan.sha256
    return facts


class _Samples:
    """Groups members into samples as loaders do, and checks each as soon as it is whole."""

    def __init__(self, facts: TarFacts, rows: tuple[SampleRow, ...] | None, decode_all: bool) -> None:
        self._facts, self._decode_all = facts, decode_all
        self._findings = facts.findings
        self._expected = None if rows is None else {row.key: row for row in rows}
        self._key: str | None = None
        self._members: dict[str, Member] = {}
        self._seen: dict[str, frozenset[str]] = {}

    def add(self, member: Member) -> None:
        """The next member of the tar."""
        named = split_name(member.name)
        if named is None or named[0].rpartition("/")[2].startswith("__"):
            self._findings.add(Problem.BAD_NAME, f"loaders pass over the member {member.name!r}: it is no KEY.FIELD")
            return
        key, name = named
        if key != self._key:
            self._close()
            self._key = key
            if key in self._seen:
                self._report_again(key, name)
        if name in self._members:
            self._findings.add(Problem.DUPLICATE_MEMBER, f"has two members {name}", key)
        self._members[name] = member

    def end(self) -> None:
        """The tar is over."""
        self._close()
        self._facts.num_samples = len(self._seen)
        if self._expected is None:
            self._facts.keys = list(self._seen)
            self._check_alike()
            return
        for key in self._expected.keys() - self._seen.keys():
            self._findings.add(Problem.MISSING_SAMPLE, "is in the index but not in the tar", key)

    def _report_again(self, key: str, name: str) -> None:
        if name in self._seen[key]:
            self._findings.add(Problem.DUPLICATE_KEY, "occurs twice in the tar", key)
        else:
            self._findings.add(Problem.NOT_ADJACENT, f"its members do not follow each other ({name} comes later)", key)

    def _close(self) -> None:
        """Checks the sample that has just ended."""
        key, members, self._members = self._key, self._members, {}
        if key is None:
            return
        row = None if self._decode_all or self._expected is None else self._expected.get(key)
        for problem, detail in check_contents(key, members, row.image_sha256 if row else None):
            self._findings.add(problem, detail, key)
        if self._expected is not None and key not in self._seen:
            self._check_expected(key, members)
        self._seen[key] = self._seen.get(key, frozenset()) | members.keys()

    def _check_expected(self, key: str, members: dict[str, Member]) -> None:
        assert self._expected is not None
        if (row := self._expected.get(key)) is None:
            self._findings.add(Problem.EXTRA_SAMPLE, "is in the tar but not in the index", key)
            return
        for problem, detail in check_against_row(row, members):
            self._findings.add(problem, detail, key)

    def _check_alike(self) -> None:
        """Without an index: whether every sample has what most have. Any picture format counts as the picture."""
        kinds = {key: frozenset("picture" if f.lower() in IMAGE_FIELDS else f for f in fields)
                 for key, fields in self._seen.items()}  # fmt: skip
        usual = Counter(kinds.values()).most_common(1)
        for key, kind in kinds.items():
            missing, extra = (" and ".join(sorted(some)) for some in (usual[0][0] - kind, kind - usual[0][0]))
            if missing:
                self._findings.add(Problem.MISSING_MEMBER, f"lacks {missing}, which most samples have", key)
            if extra:
                self._findings.add(Problem.EXTRA_MEMBER, f"has {extra}, which most samples lack", key)
