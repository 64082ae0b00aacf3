"""How fast captions are scored, near-duplicates found and policies replayed; datatrove's Gopher filters beside ours.

    python benchmarks/filter.py [--captions 10000] [--what-if 1200000] [--datatrove PYTHON]

Captions are made from long ones by joining their sentences anew, about 900 characters each. CPU seconds of one process
are counted for rules and filters, wall seconds for near-duplicates and `--what-if`. `--datatrove` names a Python that
has datatrove; it runs the Gopher repetition and quality filters over the same captions.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from sgv_data.filter.near_duplicates import Digests, digests_of, find_twins
from sgv_data.filter.phrases import instructions_of
from sgv_data.filter.policy import decide_table
from sgv_data.filter.rules import score
from sgv_data.filter.stored import scored_from, store_scores
from sgv_data.filter.what_if import compare
from sgv_data.manifest import FilterPolicy, RepetitionRule
from sgv_data.prompts import load_prompt
from sgv_data.records import Outcome, ScoreRow
from sgv_data.tables import schema_of
from sgv_data.words import split_words, visible

_DATA = Path(__file__).parents[1] / "tests" / "data" / "captions.jsonl"
_CHARS = 900
_BATCH = 4_096

_DATATROVE = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
texts = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
for one in (GopherRepetitionFilter(), GopherQualityFilter()):
    one.filter(documents[0])
    start, kept = time.process_time(), 0
    for document in documents:
        answer = one.filter(document)
        kept += (answer if isinstance(answer, bool) else answer[0])
    print(json.dumps([type(one).__name__, (time.process_time() - start) / len(documents), kept / len(documents)]))
"""


def made_captions(num: int, seed: int = 5) -> Iterator[str]:
    """Captions of about 900 characters out of the sentences of long ones, with numbers that set them apart."""
    rng = random.Random(seed)
    texts = [json.loads(line)["caption"] for line in _DATA.read_text(encoding="utf-8").splitlines()]
    sentences = [each for text in texts for each in re.split(r"(?<=[.!?])\s+", text)]
    words = sorted({word for text in texts for word in re.findall(r"\b[a-z]{6,}\b", text)})
    for _ in range(num):
        parts: list[str] = []
        size = 0
        for sentence in rng.sample(sentences, 20):
            changed = [
                rng.choice(words) if len(word) > 5 and word.isalpha() and rng.random() < 0.4 else word
                for word in sentence.split()
            ]
            parts.append(" ".join(changed))
            size += len(parts[-1]) + 1
            if size >= _CHARS:
                break
        yield " ".join(parts)


def rules(captions: list[str]) -> None:
    """One line: CPU time per caption and captions per second and core."""
    instructions = instructions_of([load_prompt("detailed").text])
    for text in captions[:200]:
        score(text, "stop", Outcome.OK, instructions)
    start = time.process_time()
    for text in captions:
        score(text, "stop", Outcome.OK, instructions)
    _line("sgv_data, all text rules", (time.process_time() - start) / len(captions), "")


def datatrove(python: str, captions: list[str]) -> None:
    """One line per Gopher filter."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in captions)
        file.flush()
        done = subprocess.run([python, "-c", _DATATROVE, file.name], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, seconds, kept = json.loads(line)
        _line(f"datatrove, {name}", seconds, f"keeps {kept:.1%}")


def near_duplicates(captions: list[str]) -> None:
    """Values, then twins; the second also for 1.2M captions, made by drawing values of the first."""
    start, cpu = time.perf_counter(), time.process_time()
    parts: list[Digests] = []
    for place in range(0, len(captions), _BATCH):
        parts.append(digests_of(split_words(visible(text)).tokens for text in captions[place : place + _BATCH]))
    spent = time.process_time() - cpu
    digests = np.concatenate(parts)
    print(f"MinHash values of {len(captions):,} captions: {time.perf_counter() - start:.1f} s ({spent:.1f} CPU s)")
    large = np.random.default_rng(3).integers(0, 2**32 - 1, (1_200_000, digests.shape[1]), dtype=np.uint32)
    large[: len(digests)] = digests
    large[600_000 : 600_000 + len(digests)] = digests
    start, cpu = time.perf_counter(), time.process_time()
    twins = find_twins(large)
    took, used = time.perf_counter() - start, time.process_time() - cpu
    found = int((twins.similarity[600_000:] >= 0.7).sum())
    print(f"twins among {len(large):,}: {took:.1f} s ({used:.1f} CPU s), {found:,} of {len(digests):,} copies found")
    print(f"  1.2M captions on one core, from CPU seconds: {spent / len(captions) * 1.2e6 + used:.0f} s")


def what_if(num: int) -> None:
    """Replaying a policy over stored scores."""
    rng = np.random.default_rng(1)
    columns = {}
    for field in schema_of(ScoreRow):
        if pa.types.is_string(field.type):
            values = pa.array(np.char.add("set/", np.arange(num).astype(str)))
            columns[field.name] = pa.array(["en"] * num) if field.name == "language" else values
        elif pa.types.is_floating(field.type):
            columns[field.name] = pa.array(np.where(rng.random(num) < 0.1, rng.random(num) * 0.4, 0.0))
        else:
            columns[field.name] = pa.array(np.zeros(num, dtype=np.int64))
    for name in ("num_words", "num_chars"):
        columns[name] = pa.array(rng.integers(30, 300, num))
    columns["twin_place"] = pa.array(np.maximum(np.arange(num) - 1, -1))
    table = pa.table(columns).select(schema_of(ScoreRow).names).cast(schema_of(ScoreRow))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store_scores(folder, table, scored_from(folder, []))
        start = time.perf_counter()
        found = compare(folder, folder, FilterPolicy(), FilterPolicy(repetition=RepetitionRule(max_share=0.1)))
        took = time.perf_counter() - start
    start = time.perf_counter()
    decide_table(table, FilterPolicy())
    print(f"--what-if on {num:,} rows: {took:.2f} s ({found.num_changed:,} verdicts differ); of these, one decision "
          f"{time.perf_counter() - start:.2f} s")  # fmt: skip


def _line(name: str, seconds: float, note: str) -> None:
    print(f"{name:36} {seconds * 1e6:8.1f} us  {1 / seconds:10,.0f} captions per second and core  {note}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--what-if", type=int, default=1_200_000)
    parser.add_argument("--datatrove", metavar="PYTHON")
    arguments = parser.parse_args()
    captions = list(made_captions(arguments.captions))
    print(f"{len(captions):,} captions of {sum(map(len, captions)) / len(captions):.0f} characters")
    rules(captions)
    if arguments.datatrove:
        datatrove(arguments.datatrove, captions)
    what_if(arguments.what_if)
    near_duplicates(captions)
    print(f"most memory used: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
