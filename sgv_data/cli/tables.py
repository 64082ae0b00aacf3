"""How results are shown: one line per stage, the table at the end of a run, what `verify` read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from sgv_data.manifest import Manifest
from sgv_data.pipeline import StageResult, active_stages
from sgv_data.records import StageReport
from sgv_data.run_folder import RunFolder

if TYPE_CHECKING:
    from sgv_data.report.summary import Summary
    from sgv_data.shard.findings import VerifyReport


def stage_line(result: StageResult) -> str:
    """`collect: 400 in, 400 out, 12 from cache` or that it was done before."""
    line = f"{result.stage.name}: {numbers(result.report)}"
    return f"{line} (done before)" if result.skipped else line


def numbers(report: StageReport) -> str:
    """`400 in, 380 out, rejected 20 (too_short 20)`."""
    parts = [f"{report.num_in:,} in", f"{report.num_out:,} out"]
    if report.rejected:
        parts.append("rejected " + _reasons(report.rejected))
    if report.failed:
        parts.append("failed " + _reasons(report.failed))
    if report.skipped:
        parts.append(f"{report.skipped:,} not asked for")
    if report.from_cache:
        parts.append(f"{report.from_cache:,} from cache")
    return ", ".join(parts)


def _reasons(counts: dict[str, int]) -> str:
    return f"{sum(counts.values()):,} ({', '.join(f'{name} {count:,}' for name, count in counts.items())})"


def summary_table(manifest: Manifest, run: RunFolder) -> Table:
    """The table at the end of `sgv run`."""
    from sgv_data.report.summary import summarize

    summary: Summary = summarize(manifest, run, tuple(stage.name for stage in active_stages(manifest)))
    table = Table(title=f"{manifest.name}: {run.root}", title_justify="left", show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("how many", overflow="fold")
    for name, value in summary.lines():
        table.add_row(name, value)
    return table


def sound_line(found: VerifyReport) -> str:
    """What was read back and found sound."""
    against = "every byte as its index says" if found.indexed else "no index beside it: structure and content only"
    return f"{found.folder}: sound; {found.num_samples:,} samples in {found.num_shards:,} shards, {against}"
