"""The ledger of the batch lane: which batches were meant, sent and taken, and which requests each of them holds.

It lies in the file of the reply cache, so that a reply, the row it answers and the money set aside for it change in one
transaction. Each state is on the disk before what follows it is done, see `BatchState`. The money set aside for a batch
is one open request named after it, from which every settled row takes its part back.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from sgv_data.run_folder import utc_now

BATCH_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    intent TEXT PRIMARY KEY, run TEXT NOT NULL, base_url TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL,
    num_requests INTEGER NOT NULL, num_bytes INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, worst_usd REAL NOT NULL,
    created_utc TEXT NOT NULL, changed_utc TEXT NOT NULL, file_id TEXT, batch_id TEXT, status TEXT, problem TEXT,
    num_completed INTEGER NOT NULL DEFAULT 0, num_failed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_rows (
    intent TEXT NOT NULL, request_key TEXT NOT NULL, state TEXT NOT NULL, worst_usd REAL NOT NULL,
    PRIMARY KEY (intent, request_key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_rows_by_key ON batch_rows (request_key, state);
"""

Statement = tuple[str, Sequence[Any]]

_MOST_IN_QUERY = 500


class BatchState(StrEnum):
    """How far a batch has come, as far as this machine knows."""

    INTENDED = "intended"
    """Its requests are written down and their money is set aside; the file may or may not have been sent."""
    UPLOADED = "uploaded"
    """The provider has the file; the batch may or may not have been asked for."""
    SUBMITTED = "submitted"
    """The provider has the batch."""
    ENDED = "ended"
    """Every request of it was settled; kept for the record."""
    DROPPED = "dropped"
    """It never came to be; its requests are free again."""


UNFINISHED = (BatchState.INTENDED, BatchState.UPLOADED, BatchState.SUBMITTED)


class RowState(StrEnum):
    """What became of a request in one batch. Only `WAITING` keeps it from being sent again."""

    WAITING = "waiting"
    ANSWERED = "answered"
    FAILED = "failed"
    FAULTED = "faulted"
    """Went wrong in a way that may pass: sent again, one try is used up."""
    UNDONE = "undone"
    """The batch ended before its turn came, or it was asked to wait: sent again, no try is used up."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. `intent` is made here before anything is sent; `batch_id` and `file_id` are the provider's names.

    `status`, `num_completed` and `num_failed` are what the provider said last. `prompt_tokens` is an estimate.
    """

    intent: str
    run: str
    base_url: str
    model: str
    state: BatchState
    num_requests: int
    num_bytes: int
    prompt_tokens: int
    worst_usd: float
    created_utc: str
    changed_utc: str
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    problem: str | None = None
    num_completed: int = 0
    num_failed: int = 0

    @property
    def file_name(self) -> str:
        """What its file is called at the provider: found again by that after a crash."""
        return f"sgv-{self.intent}.jsonl"

    @property
    def open_request(self) -> str:
        """Under which name its money is set aside."""
        return f"batch:{self.intent}"


_COLUMNS = tuple(field.name for field in fields(Batch))


def new_intent() -> str:
    """A name for a batch that no other has."""
    return uuid.uuid4().hex


class Store(Protocol):
    """The reply cache, as far as the ledger needs it."""

    def submit(self, statements: Sequence[Statement], /) -> Future[None]: ...

    def query(self, sql: str, values: Sequence[Any], /) -> list[tuple[Any, ...]]: ...


class Ledger:
    """The batches of one run in a cache that several runs may share. Every change is done when its future is."""

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run = store, run

    # --- what is there ---

    def batches(self, *states: BatchState) -> list[Batch]:
        """The run's batches in these states (all, if none is named), oldest first."""
        wanted = states or tuple(BatchState)
        marks = ",".join("?" * len(wanted))
        rows = self._store.query(
            f"SELECT {', '.join(_COLUMNS)} FROM batches WHERE run = ? AND state IN ({marks})"
            " ORDER BY created_utc, intent",
            [self._run, *wanted],
        )
        return [_batch(row) for row in rows]

    def unfinished(self) -> list[Batch]:
        """The run's batches that are not settled yet."""
        return self.batches(*UNFINISHED)

    def waiting(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that wait in an unfinished batch, of whichever run."""
        return {key for key, _ in self._count(keys, (RowState.WAITING,))}

    def tries(self, keys: Iterable[str]) -> dict[str, int]:
        """How often each of `keys` went wrong in a batch in a way that may pass; keys that never did are left out."""
        return dict(self._count(keys, (RowState.FAULTED,)))

    def rows(self, batch: Batch, keys: Iterable[str]) -> dict[str, tuple[RowState, float]]:
        """Those of `keys` that are in this batch: what became of each, and the money set aside for it."""
        found: dict[str, tuple[RowState, float]] = {}
        for part in _parts(keys):
            for key, state, worst_usd in self._store.query(
                f"SELECT request_key, state, worst_usd FROM batch_rows WHERE intent = ? AND request_key IN"
                f" ({_marks(part)})", [batch.intent, *part]
            ):
                found[key] = RowState(state), worst_usd
        return found

    def waiting_in(self, batch: Batch) -> dict[str, float]:
        """Every request that still waits in this batch, with the money set aside for it."""
        return dict(self._store.query(
            "SELECT request_key, worst_usd FROM batch_rows WHERE intent = ? AND state = ?",
            [batch.intent, RowState.WAITING],
        ))  # fmt: skip

    def num_in_state(self, batch: Batch, state: RowState) -> int:
        """How many requests of a batch are in this state."""
        ((number,),) = self._store.query(
            "SELECT count(*) FROM batch_rows WHERE intent = ? AND state = ?", [batch.intent, state]
        )
        return int(number)

    def set_aside_usd(self) -> float:
        """The money that unfinished batches may still cost."""
        names = [batch.open_request for batch in self.unfinished()]
        found = [
            float(usd)
            for part in _parts(names)
            for (usd,) in self._store.query(f"SELECT worst_usd FROM open_requests WHERE id IN ({_marks(part)})", part)
        ]
        return sum(found)

    def num_begun_within(self, seconds: float) -> int:
        """How many batches the run asked for in the last so many seconds."""
        since = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        ((number,),) = self._store.query(
            "SELECT count(*) FROM batches WHERE run = ? AND created_utc >= ? AND state != ?",
            [self._run, since, BatchState.DROPPED],
        )
        return int(number)

    # --- what changes ---

    def intend(self, batch: Batch, rows: Iterable[tuple[str, float]]) -> Future[None]:
        """Writes a batch down with its requests (key, worst cost) and sets their money aside, before it is sent."""
        values = [getattr(batch, name) for name in _COLUMNS]
        statements: list[Statement] = [
            (f"INSERT INTO batches ({', '.join(_COLUMNS)}) VALUES ({_marks(values)})", values)
        ]
        statements += [
            ("INSERT INTO batch_rows VALUES (?,?,?,?)", (batch.intent, key, RowState.WAITING, usd)) for key, usd in rows
        ]
        if batch.worst_usd:
            statements.append((
                "INSERT INTO open_requests (id, worst_usd, created_utc, run) VALUES (?,?,?,?)",
                (batch.open_request, batch.worst_usd, batch.created_utc, batch.run),
            ))
        return self._store.submit(statements)

    def change(self, batch: Batch, **changes: Any) -> tuple[Batch, Future[None]]:
        """Writes some fields of a batch anew; returns it as it is then."""
        changed = replace(batch, changed_utc=utc_now(), **changes)
        return changed, self._store.submit([_update(changed, (*changes, "changed_utc"))])

    def settling(self, batch: Batch, key: str, state: RowState, worst_usd: float) -> list[Statement]:
        """The statements that settle one waiting request and give back the money set aside for it.

        One that failed for good has all its tries again, should it ever be asked anew.
        """
        forgiven: list[Statement] = [(
            f"UPDATE batch_rows SET state = '{RowState.UNDONE}' WHERE request_key = ? AND state = '{RowState.FAULTED}'",
            (key,),
        )]  # fmt: skip
        return [
            *(forgiven if state is RowState.FAILED else ()),
            ("UPDATE batch_rows SET state = ? WHERE intent = ? AND request_key = ?", (state, batch.intent, key)),
            (
                "UPDATE open_requests SET worst_usd = max(0, worst_usd - ?) WHERE id = ?",
                (worst_usd, batch.open_request),
            ),
        ]

    def settle(self, statements: Sequence[Statement]) -> Future[None]:
        """Writes what `settling` gave, for requests that bring no reply."""
        return self._store.submit(statements)

    def end(
        self, batch: Batch, state: BatchState, rest: RowState, kept_usd: float = 0.0, problem: str | None = None
    ) -> Future[None]:
        """Ends a batch: what still waits in it becomes `rest`; `kept_usd` of its money counts as spent for good."""
        ended = replace(batch, state=state, problem=problem, changed_utc=utc_now())
        return self._store.submit([
            _update(ended, ("state", "problem", "changed_utc", "status", "num_completed", "num_failed")),
            ("UPDATE batch_rows SET state = ? WHERE intent = ? AND state = ?", (rest, batch.intent, RowState.WAITING)),
            ("UPDATE open_requests SET worst_usd = ? WHERE id = ?", (kept_usd, batch.open_request)),
            ("DELETE FROM open_requests WHERE id = ? AND worst_usd <= 0", (batch.open_request,)),
        ])

    def _count(self, keys: Iterable[str], states: Sequence[RowState]) -> Iterator[tuple[str, int]]:
        for part in _parts(keys):
            yield from self._store.query(
                f"SELECT request_key, count(*) FROM batch_rows WHERE request_key IN ({_marks(part)})"
                f" AND state IN ({_marks(states)}) GROUP BY request_key",
                [*part, *states],
            )


def _batch(row: Sequence[Any]) -> Batch:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Batch(**{**values, "state": BatchState(values["state"])})


def _update(batch: Batch, names: Sequence[str]) -> Statement:
    settings = ", ".join(f"{name} = ?" for name in names)
    return f"UPDATE batches SET {settings} WHERE intent = ?", [*(getattr(batch, name) for name in names), batch.intent]


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _parts(keys: Iterable[str]) -> Iterator[list[str]]:
    listed = list(keys)
    for start in range(0, len(listed), _MOST_IN_QUERY):
        yield listed[start : start + _MOST_IN_QUERY]
