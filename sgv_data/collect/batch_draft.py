"""A batch file while it is being written: on disk, without a name, so that even `kill -9` leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from sgv_data.api.batch_words import BatchLimits, wire_line
from sgv_data.api.wire import Request
from sgv_data.manifest import BatchLane


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much goes into one file: exactly so much is allowed, more is not."""

    max_requests: int
    max_bytes: int

    @classmethod
    def of(cls, lane: BatchLane, provider: BatchLimits) -> FileLimits:
        """The provider's, or less where the manifest says so."""
        return cls(
            min(lane.max_requests, provider.max_requests_per_file), min(lane.max_bytes, provider.max_bytes_per_file)
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One request as it goes into a batch. `prompt_tokens` is what it probably counts for in the provider's queue."""

    key: str
    line: bytes
    model: str
    prompt_tokens: int
    worst_usd: float

    @classmethod
    def of(cls, request: Request, worst_usd: float) -> Entry:
        """A request with the most that it can cost. Results are told apart by its key alone."""
        prompt_tokens = max(0, request.likely_tokens - request.most_completion_tokens)
        return cls(request.key, wire_line(request.key, request.body), request.model, prompt_tokens, worst_usd)


@dataclass(slots=True)
class Draft:
    """Requests to one model on their way into one file. Use as a context manager: the file is gone after it."""

    folder: Path
    model: str
    worst_usd_by_key: dict[str, float] = field(default_factory=dict)
    num_bytes: int = 0
    prompt_tokens: int = 0
    worst_usd: float = 0.0
    file: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def __len__(self) -> int:
        return len(self.worst_usd_by_key)

    def has_room(self, entry: Entry, limits: FileLimits) -> bool:
        """Whether one more request still fits."""
        return len(self) < limits.max_requests and self.num_bytes + len(entry.line) <= limits.max_bytes

    def add(self, entry: Entry) -> None:
        """Writes one more request. Its key must not be in the file yet."""
        assert entry.key not in self.worst_usd_by_key
        self.file.write(entry.line)
        self.worst_usd_by_key[entry.key] = entry.worst_usd
        self.num_bytes += len(entry.line)
        self.prompt_tokens += entry.prompt_tokens
        self.worst_usd += entry.worst_usd

    def rows(self) -> Iterator[tuple[str, float]]:
        """Key and worst cost of every request."""
        return iter(self.worst_usd_by_key.items())
