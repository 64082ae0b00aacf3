"""`sgv cache`: the paid replies. Looked at, exported, pruned, saved from a damaged file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from sgv_data.cli.options import Runs, console, load, output

if TYPE_CHECKING:
    from rich.table import Table

    from sgv_data.api.cache import ReplyCache
    from sgv_data.api.cache_facts import CacheFacts

Target = Annotated[
    Path, typer.Argument(metavar="MANIFEST|FILE", help="A run's YAML file, or the cache itself.", show_default=False)
]

cache = typer.Typer(
    help="Look at, export, prune or save the replies that were paid for.\n\nFor example:  sgv cache show "
    "manifests/demo.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(cache, name="cache")


@cache.command()
def show(
    target: Target,
    check: Annotated[bool, typer.Option("--check", help="Also read every page and reply, as it was written.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Show what the cache holds: replies by model and outcome, money by run.

    sgv cache show runs/demo/collect/replies.sqlite --check
    """
    from sgv_data.api.cache import ReplyCache
    from sgv_data.api.cache_facts import check_whole_file, facts_of

    path = _file(target, runs)
    with ReplyCache(path) as opened:
        if check:
            num_replies = check_whole_file(opened)
        facts = facts_of(opened)
    output.print(f"{path}: {facts.num_bytes / 1e6:,.1f} MB", markup=False, highlight=False)
    output.print(_replies_table(facts))
    output.print(_runs_table(facts))
    output.print(
        f"{facts.num_pictures:,} pictures prepared, {facts.num_failures:,} failures noted"
        + (f", {facts.num_unjudged:,} replies to be read anew at the next collect" if facts.num_unjudged else ""),
        markup=False, highlight=False,
    )  # fmt: skip
    if check:
        output.print(f"sound: {num_replies:,} replies read back, each as it came", markup=False, highlight=False)


@cache.command()
def export(
    target: Target,
    parsed: Annotated[bool, typer.Option("--parsed", help="What replies say, in place of the raw ones.")] = False,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write there; else to the screen.")] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write every reply as a line of JSON, oldest first.

    sgv cache export manifests/demo.yaml --parsed --to replies.jsonl
    """
    from sgv_data.api.cache import ReplyCache
    from sgv_data.api.cache_facts import export_lines
    from sgv_data.errors import redact

    num_lines = 0
    with ReplyCache(_file(target, runs)) as opened, _writing(to) as out:
        for line in export_lines(opened, parsed):
            out.write(redact(line) + "\n")
            num_lines += 1
    console.print(f"{num_lines:,} replies exported", markup=False, highlight=False)


@cache.command()
def prune(
    target: Target,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Replies stored before that.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Replies of that model.")] = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="Replies without a caption, and noted failures.")
    ] = False,
    not_used_by: Annotated[
        Path | None, typer.Option("--not-used-by", metavar="MANIFEST", help="Replies that this run makes no use of.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete; without it only say what would go.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Delete replies that satisfy every condition given. Says first how many and what they cost.

    What they cost stays counted against the budget of the runs that paid for them.

    sgv cache prune manifests/demo.yaml --failures --older-than 30
    """
    from sgv_data.api.cache import ReplyCache
    from sgv_data.api.cache_prune import Choice
    from sgv_data.api.cache_prune import prune as prune_cache
    from sgv_data.errors import ManifestError

    if older_than is None and model is None and not failures and not_used_by is None:
        raise ManifestError("cache prune: say which replies: --older-than, --model, --failures or --not-used-by")
    with ReplyCache(_file(target, runs)) as opened:
        choice = Choice(
            before_utc=_days_ago(older_than), model=model, failures=failures,
            used=_used(not_used_by, runs, opened) if not_used_by else None,
        )  # fmt: skip
        gone = prune_cache(opened, choice, really=yes)
    if not gone.num_replies and not gone.num_failures:
        output.print("nothing satisfies these conditions", markup=False, highlight=False)
        return
    line = f"{gone.num_replies:,} paid replies ({_usd(gone.usd)}), {gone.num_captions:,} of them with a caption, and "
    line += f"{gone.num_failures:,} noted failures "
    output.print(line + ("deleted" if yes else "would go; say --yes to delete them"), markup=False, highlight=False)


@cache.command()
def recover(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The damaged file; it is only read.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The file to make.", show_default=False)],
) -> None:
    """Save every reply that can still be read of a damaged cache into a new file.

    sgv cache recover runs/demo/collect/replies.sqlite saved.sqlite
    """
    from sgv_data.api.cache_recover import recover as recover_cache

    found = recover_cache(old, new)
    if found.was_sound:
        output.print(f"{old} is sound; {new} is a copy with {found.num_replies:,} replies", markup=False)
        return
    output.print(f"{new}: {found.num_replies:,} replies saved", markup=False, highlight=False)
    if found.damaged_tables:
        tables = ", ".join(found.damaged_tables)
        output.print(f"rows may be missing from: {tables} (open_requests: money of requests without a known end; "
                     "sent_images: such pictures are prepared again)", markup=False, highlight=False)  # fmt: skip
    output.print(f"To use it, move {old} with {old.name}-wal and {old.name}-shm away and give {new} its name. "
                 "The next collect asks for what is missing.", markup=False, highlight=False)  # fmt: skip


def _file(target: Path, runs: Path) -> Path:
    """The cache of a manifest's run, or the file itself."""
    from sgv_data.api.cache_facts import require_cache

    if target.suffix not in (".yaml", ".yml"):
        return require_cache(target)
    manifest, run = load(target, None, runs)
    shared = manifest.teacher.cache
    return require_cache(Path(shared).expanduser() if shared else run.stage("collect") / "replies.sqlite")


def _used(manifest: Path, runs: Path, opened: ReplyCache) -> frozenset[str]:
    from sgv_data.collect.used_keys import used_keys

    return used_keys(*load(manifest, None, runs), opened)


def _days_ago(days: float | None) -> str | None:
    if days is None:
        return None
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def _writing(path: Path | None) -> Iterator[TextIO]:
    """The screen, or a file that appears under its name only when it is complete."""
    if path is None:
        yield sys.stdout
        return
    from sgv_data.run_folder import publish_file

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
        publish_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _replies_table(facts: CacheFacts) -> Table:
    from rich.table import Table

    table = Table("model", "lane", "outcome")
    for name in ("replies", "money"):
        table.add_column(name, justify="right")
    for group in facts.groups:
        table.add_row(group.model, group.lane, group.outcome, f"{group.num_replies:,}", _usd(group.usd))
    return table


def _runs_table(facts: CacheFacts) -> Table:
    from rich.table import Table

    table = Table("run", "since")
    for name in ("replies", "money", "without a known end", "pruned"):
        table.add_column(name, justify="right")
    for run in facts.runs:
        table.add_row(
            f"{run.name} {run.run}".strip(), run.since_utc, f"{run.num_replies:,}", _usd(run.usd),
            f"{run.num_open:,} ({_usd(run.open_usd)})", _usd(run.pruned_usd),
        )  # fmt: skip
    return table


def _usd(usd: float) -> str:
    return f"${usd:,.4f}" if 0 < usd < 1 else f"${usd:,.2f}"
