"""The batch lane run over the index of `collect_run`, without the rest of the stage; also as a child process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgv_data.api.cache import ReplyCache
from sgv_data.collect.batch import ask_in_batches
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan import pending_rows
from sgv_data.collect.snapshot import EndpointState
from sgv_data.errors import AlarmRaised
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.records import FailureClass, Outcome
from tests.servers.collect_run import make_manifest

SESSION = "session"


@dataclass
class Listener(Silent):
    """Hears everything that is said."""

    said: list[str] = field(default_factory=list)
    ends: list[tuple[Outcome, FailureClass | None]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    alarm_at: int | None = None

    def say(self, line: str) -> None:
        self.said.append(line)

    def ended(self, outcome: Outcome, failure: FailureClass | None, text: str, usage_tokens: int) -> None:
        self.ends.append((outcome, failure))
        self.texts.append(text)
        if len(self.ends) == self.alarm_at:
            raise AlarmRaised("all alike")

    def faulted(self, name: str) -> None:
        self.faults.append(name)

    def tick(
        self, endpoints: Sequence[EndpointState], in_flight: int, backing_off: int, binding: str | None = None,
        last: bool = False,
    ) -> Any:
        self.in_flight.append(in_flight)


def batch_manifest(folder: Path, base_url: str, batch: dict[str, Any] | None = None, **teacher: Any) -> Manifest:
    """A manifest of the batch lane whose waits are too short to notice."""
    return make_manifest(folder, base_url, lane="batch", batch={"poll_s": 0.005, **(batch or {})}, **teacher)


def open_cache(folder: Path) -> ReplyCache:
    return ReplyCache(folder / "run" / "collect" / "replies.sqlite", run="payer", name="test")


def one_round(manifest: Manifest, folder: Path, listener: Listener | None = None) -> int:
    """One call of the batch lane for all that is pending; returns how many pictures ended."""
    questions, told = Questions(manifest), listener or Listener()
    with open_cache(folder) as cache:
        pending = pending_rows(folder / "run" / "index", manifest, questions, cache, SESSION)
        return asyncio.run(ask_in_batches(
            manifest, manifest.teacher.base_url, questions, cache, SESSION, 10, pending, told, told
        ))  # fmt: skip


def num_pending(manifest: Manifest, folder: Path) -> int:
    with open_cache(folder) as cache:
        parts = pending_rows(folder / "run" / "index", manifest, Questions(manifest), cache, SESSION)
        return sum(len(part) for part in parts)


def all_rounds(manifest: Manifest, folder: Path, listener: Listener | None = None) -> int:
    """Rounds until nothing is pending; returns how many there were."""
    for number in range(1, 20):
        one_round(manifest, folder, listener)
        if not num_pending(manifest, folder):
            return number
    raise AssertionError("it does not come to an end")


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    root = Path(arguments["folder"])
    all_rounds(batch_manifest(root, arguments["base_url"], arguments["batch"], **arguments["teacher"]), root)
