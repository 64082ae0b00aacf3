"""`sgv batches`: what lies with the provider's batch lane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Runs, load, output

if TYPE_CHECKING:
    from rich.table import Table

    from sgv_data.api.batch_ledger import Batch, Ledger
    from sgv_data.manifest import Manifest

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(batches)


def batches(
    manifest: ManifestPath,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Ask the provider to stop those that are under way.")
    ] = False,
    forget: Annotated[
        str | None,
        typer.Option(
            metavar="BATCH", show_default=False,
            help="Write off a batch that the provider no longer knows: its pictures are asked about again, and its "
            "worst case counts as spent.",
        ),
    ] = None,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
) -> None:
    """Show the batches of a run: how far each is, and how old. Works while another sgv runs.

    States are as of the last time that collect looked. What a cancelled batch has finished is paid for; the next
    collect takes it.

    sgv batches manifests/photos.yaml --cancel
    """
    loaded, folder = load(manifest, set_, runs)
    with _ledger_of(loaded, folder.stage("collect")) as ledger:
        if forget is not None:
            with folder.lock():
                _forget(ledger, forget)
        found = ledger.batches() if ledger else []
    if not found:
        output.print(f"{folder.root}: no batches", markup=False, highlight=False)
        return
    output.print(_table(str(folder.root), found))
    if cancel:
        _cancel(loaded, found)


@contextmanager
def _ledger_of(manifest: Manifest, stage: Path) -> Iterator[Ledger | None]:
    """The run's ledger, or None while there is none."""
    from sgv_data.api.batch_ledger import Ledger
    from sgv_data.api.cache import ReplyCache

    shared, payer = manifest.teacher.cache, stage / ".payer"
    path = Path(shared).expanduser() if shared else stage / "replies.sqlite"
    if not path.is_file() or not payer.is_file():
        yield None
        return
    with ReplyCache(path, run=payer.read_text(encoding="ascii"), name=manifest.name) as cache:
        yield Ledger(cache, cache.run)


def _forget(ledger: Ledger | None, name: str) -> None:
    from sgv_data.api.batch_ledger import BatchState, RowState
    from sgv_data.errors import ManifestError

    under_way = {batch.batch_id: batch for batch in ledger.unfinished()} if ledger else {}
    if ledger is None or name not in under_way:
        raise ManifestError(f"--forget {name}: no batch of this name is under way")
    batch = under_way[name]
    kept_usd = sum(ledger.waiting_in(batch).values())
    ledger.end(batch, BatchState.ENDED, RowState.UNDONE, kept_usd, "written off").result()


def _cancel(manifest: Manifest, found: list[Batch]) -> None:
    import asyncio

    from sgv_data.api.batch_ledger import UNFINISHED
    from sgv_data.collect.batch import cancel_batches

    under_way = [batch for batch in found if batch.state in UNFINISHED]
    for remote in asyncio.run(cancel_batches(manifest, manifest.teacher.base_url, under_way)):
        output.print(f"{remote.id}: {remote.status}", markup=False, highlight=False)
    output.print(
        "sgv collect takes what they have finished. It sends the rest again, by the lane that the manifest then names."
        if under_way else "Nothing is under way.", markup=False, highlight=False,
    )  # fmt: skip


def _table(title: str, found: list[Batch]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("batch", "state", "model"):
        table.add_column(column, overflow="fold")
    for column in ("requests", "done", "failed", "size", "age"):
        table.add_column(column, justify="right")
    table.add_column("problem", overflow="fold")
    for batch in found:
        table.add_row(
            batch.batch_id or f"({batch.intent[:8]})", _state(batch), batch.model, f"{batch.num_requests:,}",
            f"{batch.num_completed:,}", f"{batch.num_failed:,}", f"{batch.num_bytes / 1e6:,.1f} MB",
            _age(batch.created_utc), batch.problem or "",
        )  # fmt: skip
    return table


def _state(batch: Batch) -> str:
    """The provider's word, and what was made of it here."""
    match batch.state.value:
        case "submitted":
            return batch.status or "submitted"
        case "ended":
            return f"{batch.status}, taken"
        case "dropped":
            return "never sent"
        case _:
            return "being sent, or broken off"


def _age(utc: str) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(utc)).total_seconds())
    for unit_s, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{seconds:.0f} s"
