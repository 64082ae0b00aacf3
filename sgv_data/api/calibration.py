"""Predicted against billed: what the replies of a run say about the estimates made before it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from sgv_data.api.keys import SentImage
from sgv_data.api.text_tokens import caption_tokens
from sgv_data.api.tokens import most_image_tokens
from sgv_data.api.wire import RequestTemplate
from sgv_data.manifest import Manifest
from sgv_data.offer import clean
from sgv_data.prompts import Prompt, load_prompt
from sgv_data.run_folder import RunFolder
from sgv_data.tables import table_files

_ENOUGH_REPLIES = 2_000
_MOST_ROWS = 50_000
_ROWS_AT_ONCE = 256
_COLUMNS = ["source", "sha256", "text", "reject", "for_teacher"]


class Calibration(BaseModel):
    """What was predicted and billed for the same replies. Latency is the mean of the live ones, 0 without any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_replies: int
    predicted_prompt_tokens: int
    billed_prompt_tokens: int
    predicted_output_tokens: int
    billed_output_tokens: int
    latency_s: float
    output_tokens_by_prompt: dict[str, float]

    @property
    def prompt_factor(self) -> float:
        """Billed over predicted, for all that is sent: picture and text."""
        return self.billed_prompt_tokens / max(1, self.predicted_prompt_tokens)

    @property
    def output_factor(self) -> float:
        """Billed over predicted, for what is answered."""
        return self.billed_output_tokens / max(1, self.predicted_output_tokens)


@dataclass(slots=True)
class _Bill:
    """One reply: what was predicted, what was billed."""

    prompt_id: str
    predicted_prompt: int
    predicted_output: int
    billed_prompt: int
    billed_output: int
    latency_s: float


def run_calibration(manifest: Manifest, run: RunFolder) -> Calibration | None:
    """`calibration` of a run, from its index and the reply cache that `collect` uses."""
    shared = manifest.teacher.cache
    cache = Path(shared).expanduser() if shared else run.stage("collect") / "replies.sqlite"
    return calibration(manifest, run.stage("index"), cache)


def calibration(manifest: Manifest, index: Path, cache: Path) -> Calibration | None:
    """Compares the first replies of the pictures in `index` (a finished index) with what was predicted for them.

    `cache` is the file of the reply cache; it is only read, also while `collect` works with it. None where there are no
    replies with usage to the manifest's own questions.

    Raises:
        ManifestError: if a prompt does not exist.
    """
    files = table_files(index, "images")
    if not files or not cache.is_file():
        return None
    bills: list[_Bill] = []
    try:
        with closing(_read_only(cache)) as connection:
            for bill in _bills(manifest, files, connection):
                bills.append(bill)
                if len(bills) >= _ENOUGH_REPLIES:
                    break
    except sqlite3.Error:
        return None  # of another format, or damaged: `collect` says which
    return _summed(bills) if bills else None


def _summed(bills: list[_Bill]) -> Calibration:
    by_prompt: defaultdict[str, list[int]] = defaultdict(list)
    for bill in bills:
        by_prompt[bill.prompt_id].append(bill.billed_output)
    return Calibration(
        num_replies=len(bills),
        predicted_prompt_tokens=sum(bill.predicted_prompt for bill in bills),
        billed_prompt_tokens=sum(bill.billed_prompt for bill in bills),
        predicted_output_tokens=sum(bill.predicted_output for bill in bills),
        billed_output_tokens=sum(bill.billed_output for bill in bills),
        latency_s=round(fmean([bill.latency_s for bill in bills if bill.latency_s > 0] or [0.0]), 3),
        output_tokens_by_prompt={name: sum(each) / len(each) for name, each in sorted(by_prompt.items())},
    )


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10.0)


def _bills(manifest: Manifest, files: list[Path], connection: sqlite3.Connection) -> Iterator[_Bill]:
    guesses = _Guesses(manifest)
    num_rows = 0
    for file in files:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=_COLUMNS):
                rows = [row for row in batch.to_pylist() if row["for_teacher"] and row["reject"] is None]
                yield from guesses.bills(rows, connection)
                num_rows += len(rows)
                if num_rows >= _MOST_ROWS:
                    return


class _Guesses:
    """What the manifest's questions were predicted to count for, matched with replies by request key."""

    def __init__(self, manifest: Manifest) -> None:
        self._teacher = manifest.teacher
        self._offering = {source.name for source in manifest.images if source.offer_text}
        self._prompts: dict[str, list[Prompt]] = {
            source.name: [load_prompt(name, manifest.prompt_folders) for name in source.prompts]
            for source in manifest.images
        }
        self._template = lru_cache(maxsize=256)(self._make_template)

    def bills(self, rows: list[dict[str, str]], connection: sqlite3.Connection) -> list[_Bill]:
        """The bills of those of some rows that have a reply. A row has one of its source's prompts: all are tried."""
        by_key: dict[str, tuple[Prompt, RequestTemplate, SentImage]] = {}
        sent = self._sent([row["sha256"] for row in rows], connection)
        for row in rows:
            for image in sent.get(row["sha256"], ()):
                for prompt in self._prompts.get(row["source"], ()):
                    words = clean(row["text"]) if row["source"] in self._offering else None
                    template = self._template(prompt.offering(words) if words else prompt.text)
                    by_key[template.key(image)] = (prompt, template, image)
        return [
            self._bill(*by_key[key], prompt_tokens, completion_tokens, latency_s)
            for key, prompt_tokens, completion_tokens, latency_s in _replies(list(by_key), connection)
        ]

    def _make_template(self, text: str) -> RequestTemplate:
        return RequestTemplate(self._teacher, text)

    def _sent(self, sha256s: list[str], connection: sqlite3.Connection) -> dict[str, list[SentImage]]:
        found: defaultdict[str, list[SentImage]] = defaultdict(list)
        marks = ",".join("?" * len(sha256s))
        for sha256, *values in connection.execute(
            "SELECT image_sha256, sha256, media_type, width_px, height_px, num_bytes FROM sent_images"
            f" WHERE image_sha256 IN ({marks})", sha256s
        ):
            found[sha256].append(SentImage(*values))
        return found

    def _bill(
        self,
        prompt: Prompt,
        template: RequestTemplate,
        image: SentImage,
        prompt_tokens: int,
        completion_tokens: int,
        latency_s: float,
    ) -> _Bill:
        teacher = self._teacher
        pixels = most_image_tokens(teacher.model, image.width_px, image.height_px, teacher.image.detail)
        likely_output = min(caption_tokens(prompt.text), teacher.max_completion_tokens)
        return _Bill(
            prompt.prompt_id, pixels + template.likely_text_tokens, likely_output,
            prompt_tokens, completion_tokens, latency_s,
        )  # fmt: skip


def _replies(keys: list[str], connection: sqlite3.Connection) -> Iterator[tuple[str, int, int, float]]:
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        part = keys[start : start + _ROWS_AT_ONCE]
        marks = ",".join("?" * len(part))
        yield from connection.execute(
            "SELECT request_key, prompt_tokens, completion_tokens, iif(lane = 'live', latency_s, 0) FROM replies"
            f" WHERE request_key IN ({marks}) AND prompt_tokens > 0", part
        )
