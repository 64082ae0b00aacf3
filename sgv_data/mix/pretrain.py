"""The file of the pre-training stage: every caption of a set as a row of LLaVA's format, in one file or several."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

from sgv_data.errors import InputError
from sgv_data.json_rows import RowsWriter
from sgv_data.mix.captions import Captions, without_placeholder
from sgv_data.mix.questions import RELEASED, worded
from sgv_data.mix.records import Caption, PretrainReport
from sgv_data.progress import Progress
from sgv_data.run_folder import write_durably


def write_pretraining(
    captions: Captions,
    out: Path,
    progress: Progress,
    seed: int = 0,
    questions: Sequence[str] = (),
    rows_per_file: int | None = None,
) -> PretrainReport:
    """Writes all captions, in their order, to `out`, or with `rows_per_file` to `<stem>-00000<suffix>` and so on.

    Numbered files of that name that are left from an earlier, longer set are removed. Every row's question is drawn
    from the pool, and the picture's place before or behind it.

    Raises:
        InputError: if there are no captions, or `out` is no `.json` or `.jsonl`.
    """
    if out.suffix not in (".json", ".jsonl"):
        raise InputError(f"{out}: name the file .json, or .jsonl for one row a line")
    by_source: Counter[str] = Counter()
    stream = (caption for caption in captions if caption.text.strip())
    names: list[str] = []
    progress.begin("writing captions", None)
    while (first := next(stream, None)) is not None:
        path = out if rows_per_file is None else out.with_name(f"{out.stem}-{len(names):05d}{out.suffix}")
        with RowsWriter(path) as writer:
            for caption in islice(chain((first,), stream), rows_per_file):
                writer.add(row_of(caption, seed, questions or RELEASED))
                by_source[caption.source] += 1
                progress.advance()
        names.append(path.name)
    if not names:
        raise InputError(f"{captions.label}: holds no captions to write")
    if rows_per_file is not None:
        _remove_older(out, len(names))
    report = PretrainReport(
        captions=captions.label, rows=by_source.total(), by_source=dict(sorted(by_source.items())), seed=seed,
        passed_over=dict(sorted(captions.passed_over.items())), files=names,
    )  # fmt: skip
    write_durably(out.with_name(f"{out.stem}.report.json"), report.model_dump_json(indent=1) + "\n")
    return report


def _remove_older(out: Path, num_files: int) -> None:
    for path in out.parent.glob(f"{glob.escape(out.stem)}-[0-9][0-9][0-9][0-9][0-9]{out.suffix}"):
        if int(path.stem[-5:]) >= num_files:
            path.unlink()


def row_of(caption: Caption, seed: int, pool: Sequence[str]) -> dict[str, Any]:
    """A caption as the released files hold it."""
    return {
        "id": PurePosixPath(caption.image).stem,
        "image": caption.image,
        "conversations": [
            {"from": "human", "value": worded(seed, caption.image, pool)},
            {"from": "gpt", "value": without_placeholder(caption.text)},
        ],
    }
