"""Checks on what lies beside the tars: checksums, sizes, the table of shards, the numbers in the card."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sgv_data.dataset_format import (
    CARD,
    CHECKSUMS,
    DATA,
    METADATA,
    SHARDS,
    SIZES,
    parse_checksums,
    visible_files,
)
from sgv_data.errors import RunFolderError
from sgv_data.records import ShardRow
from sgv_data.run_folder import file_sha256
from sgv_data.shard.check import TarFacts
from sgv_data.shard.findings import Findings, Problem
from sgv_data.tables import read_table, table_files


def check_checksums(folder: Path, tars: Mapping[str, TarFacts]) -> Findings:
    """SHA256SUMS against every file of the dataset; the hashes of tars are known already."""
    findings = Findings(CHECKSUMS)
    if not (folder / CHECKSUMS).is_file():
        return findings
    try:
        sums = parse_checksums((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except ValueError as exc:
        findings.add(Problem.DAMAGED_FILE, f"is damaged: {exc}")
        return findings
    present = set(visible_files(folder))
    for name, wanted in sums.items():
        if name not in present:
            findings.add(Problem.MISSING_FILE, f"names {name}, which is not there")
        elif (tars[name].sha256 if name in tars else file_sha256(folder / name)) != wanted:
            findings.add(Problem.WRONG_CHECKSUM, f"{name} has another sha256")
    for name in sorted(present - sums.keys() - {CHECKSUMS}):
        if name.startswith((f"{DATA}/", f"{METADATA}/")):
            findings.add(Problem.EXTRA_FILE, f"does not name {name}")
    return findings


def check_sizes(folder: Path, tars: Mapping[str, TarFacts]) -> Findings:
    """`sizes.json` against the samples counted."""
    findings = Findings(SIZES)
    if not (folder / SIZES).is_file():
        return findings
    try:
        sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
    except ValueError as exc:
        findings.add(Problem.DAMAGED_FILE, f"is damaged: {exc}")
        return findings
    counted = {Path(name).name: facts.num_samples for name, facts in tars.items()}
    for name in sorted(counted.keys() | sizes.keys()):
        said, held = sizes.get(name), counted.get(name)
        if said != held:
            findings.add(Problem.WRONG_COUNT, f"says {said} samples for {name}, which holds {held}")
    return findings


def check_shard_table(folder: Path, tars: Mapping[str, TarFacts]) -> Findings:
    """The table of shards against the tars read."""
    findings = Findings(f"{METADATA}/{SHARDS}")
    if not table_files(folder / METADATA, SHARDS):
        return findings
    try:
        rows = {f"{DATA}/{row.shard}": row for row in read_table(folder / METADATA, SHARDS, ShardRow)}
    except RunFolderError as exc:
        findings.add(Problem.DAMAGED_FILE, str(exc))
        return findings
    for name in sorted(rows.keys() - tars.keys()):
        findings.add(Problem.MISSING_FILE, f"names {name}, which is not there")
    for name in sorted(tars.keys() - rows.keys()):
        findings.add(Problem.EXTRA_FILE, f"does not name {name}")
    for name in sorted(tars.keys() & rows.keys()):
        row, facts = rows[name], tars[name]
        if row.num_samples != facts.num_samples:
            held = facts.num_samples
            findings.add(Problem.WRONG_COUNT, f"says {row.num_samples} samples for {name}, which holds {held}")
        if (row.num_bytes, row.sha256) != (facts.num_bytes, facts.sha256):
            findings.add(Problem.WRONG_CHECKSUM, f"{name} has another size or sha256")
    return findings


def check_card(folder: Path, tars: Mapping[str, TarFacts]) -> Findings:
    """`num_examples` of the card's splits against the samples in the tars that its configs give them."""
    findings = Findings(CARD)
    if not (folder / CARD).is_file():
        return findings
    try:
        head = _front_matter((folder / CARD).read_text(encoding="utf-8"))
        patterns = {each["split"]: each["path"] for each in head["configs"][0]["data_files"]}
        said = {each["name"]: each["num_examples"] for each in head["dataset_info"]["splits"]}
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError):
        findings.add(Problem.DAMAGED_FILE, "has no front matter with configs and dataset_info.splits")
        return findings
    for split, pattern in patterns.items():
        globs = [pattern] if isinstance(pattern, str) else pattern
        held = sum(facts.num_samples for name, facts in tars.items() if any(fnmatch.fnmatch(name, g) for g in globs))
        if said.get(split) != held:
            findings.add(Problem.WRONG_COUNT, f"says {said.get(split)} examples in {split}, which holds {held}")
    return findings


def _front_matter(text: str) -> dict[str, Any]:
    _, _, rest = text.partition("---\n")
    head, _, _ = rest.partition("\n---\n")
    values = yaml.safe_load(head)
    return values if isinstance(values, dict) else {}
