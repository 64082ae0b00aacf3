"""`sgv verify`: a folder of shards read back and compared with everything that is said about them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sgv_data.dataset_format import DATA, METADATA, SAMPLES
from sgv_data.errors import InputError, RunFolderError
from sgv_data.processes import in_order, usable_cores
from sgv_data.progress import Progress
from sgv_data.records import SampleRow
from sgv_data.shard.beside import check_card, check_checksums, check_shard_table, check_sizes
from sgv_data.shard.check import TarFacts, TarTask, check_tar, split_name
from sgv_data.shard.findings import Findings, Problem, VerifyReport, joined
from sgv_data.shard.scan import DamagedTar, TarScan
from sgv_data.tables import read_table, table_files

# Below this, starting processes takes longer than the work.
_ALONE_BYTES = 32_000_000


def verify_dataset(folder: Path, progress: Progress, decode_all: bool = False) -> VerifyReport:
    """Reads every tar once and checks it, its contents and what lies beside it.

    Pictures with the hash that the index states are only decoded with `decode_all`: they were when it was written.

    `folder` is a run folder, its `shard` folder, a published dataset, or any folder of tars (then without an index).

    Raises:
        InputError: if there is nothing to verify.
    """
    folder = folder / "shard" if (folder / "shard" / DATA).is_dir() else folder
    tars = _tars(folder)
    indexed = bool(table_files(folder / METADATA, SAMPLES))
    if not tars and not indexed:
        raise InputError(f"{folder}: no such folder, or it holds no tars")
    progress.begin("verifying", len(tars))
    index = _Index(folder, tars, indexed, decode_all)
    num_processes = 1 if sum(path.stat().st_size for path in tars.values()) < _ALONE_BYTES else usable_cores()
    facts: dict[str, TarFacts] = {}
    for found in in_order(check_tar, index.tasks(), min(num_processes, max(1, len(tars)))):
        facts[found.name] = found
        progress.advance(1, found.name)
    beside = [check(folder, facts) for check in (check_checksums, check_sizes, check_shard_table, check_card)]
    across = [] if indexed else [_keys_across_tars(tars, list(facts.values()))]
    parts = [*(each.findings for each in facts.values()), index.findings, *across, *beside]
    findings, num_findings = joined(parts)
    return VerifyReport(
        folder=folder,
        indexed=indexed,
        num_shards=len(facts),
        num_samples=sum(each.num_samples for each in facts.values()),
        num_bytes=sum(each.num_bytes for each in facts.values()),
        findings=findings,
        num_findings=num_findings,
    )


def _tars(folder: Path) -> dict[str, Path]:
    """Name within the dataset -> path; tars below hidden folders do not count."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.tar")) if path.is_file()}
    return {name: path for name, path in found.items() if not any(part.startswith(".") for part in name.split("/"))}


class _Index:
    """The samples table dealt out to its tars; what is wrong with the table itself goes into `findings`."""

    def __init__(self, folder: Path, tars: dict[str, Path], indexed: bool, decode_all: bool) -> None:
        self._folder, self._tars, self._indexed, self._decode_all = folder, tars, indexed, decode_all
        self.findings = Findings(f"{METADATA}/{SAMPLES}")

    def tasks(self) -> Iterator[TarTask]:
        """One task per tar. A tar that the index does not name is checked as one that should be empty."""
        if not self._indexed:
            yield from (TarTask(path, name, None, self._decode_all) for name, path in self._tars.items())
            return
        done = set()
        for shard, rows in self._rows_by_shard():
            name = f"{DATA}/{shard}"
            if name in done:
                self.findings.add(Problem.DAMAGED_FILE, f"the rows of {shard} do not follow each other")
            elif name in self._tars:
                done.add(name)
                yield TarTask(self._tars[name], name, tuple(rows), self._decode_all)
            else:
                self.findings.add(Problem.MISSING_FILE, f"names {name}, which is not there")
        for name in self._tars.keys() - done:
            self.findings.add(Problem.EXTRA_FILE, f"does not name {name}")
            yield TarTask(self._tars[name], name, (), self._decode_all)

    def _rows_by_shard(self) -> Iterator[tuple[str, list[SampleRow]]]:
        """Rows lie in hash order, tars of a split one after the other: so one tar per split is open at a time."""
        open_rows: dict[str, list[SampleRow]] = {}
        last_key = ""
        try:
            for row in read_table(self._folder / METADATA, SAMPLES, SampleRow):
                if row.key <= last_key:
                    self.findings.add(Problem.DUPLICATE_KEY, "rows are not in order or occur twice", row.key)
                last_key = row.key
                rows = open_rows.setdefault(row.split, [])
                if rows and rows[0].shard != row.shard:
                    yield rows[0].shard, rows
                    rows = open_rows[row.split] = []
                rows.append(row)
        except RunFolderError as exc:
            self.findings.add(Problem.DAMAGED_FILE, str(exc))
        for rows in open_rows.values():
            yield rows[0].shard, rows


def _keys_across_tars(tars: dict[str, Path], facts: Sequence[TarFacts]) -> Findings:
    """Keys that occur in more than one tar, which only matters where no index says where each belongs."""
    findings = Findings("(all tars)")
    hashes = np.concatenate([_hashes(each.keys) for each in facts]) if facts else np.empty(0, np.uint64)
    values, counts = np.unique(hashes, return_counts=True)
    twice = set(values[counts > 1].tolist())
    for name, path in tars.items() if twice else ():
        for key in _keys_of(path):
            if int(_hashes([key])[0]) in twice:
                findings.add(Problem.DUPLICATE_KEY, f"occurs in several tars, one of them {name}", key)
    return findings


def _hashes(keys: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    digests = b"".join(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, np.uint64)


def _keys_of(path: Path) -> Iterator[str]:
    last = ""
    try:
        for member in TarScan(path).members():
            named = split_name(member.name)
            if named is not None and named[0] != last:
                last = named[0]
                yield last
    except DamagedTar:
        return
