"""A dataset on the Hugging Face Hub: uploaded to a pull request, compared there with its index, merged, tagged.

Nothing on the main branch changes before all files have arrived and their sizes and hashes are those of the index; then
the merge puts all of them there at once. A kill at any moment costs at most the files under way: what has arrived
is remembered in the stage's folder, and the Hub itself is asked what it has.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sgv_data.dataset_format import CARD, CHECKSUMS
from sgv_data.errors import InputError, ProviderError, VerifyFailed
from sgv_data.progress import Progress
from sgv_data.publish.changes import INTERIM_CARD, Changes, Step, changes, check_limits, steps
from sgv_data.publish.hub import HubRepository, Interrupted, StaleParent, Upload
from sgv_data.publish.sent import Sent
from sgv_data.publish.target import MARKER, TargetPlan
from sgv_data.records import FileStamp

_STATE = "sent.jsonl"
_FILES_AT_ONCE = 8
_MOST_ROUNDS = 20
_SMALL = (".md", ".json", "SHA256SUMS")


@dataclass(frozen=True)
class HubTarget:
    """A repository. `work` is a hidden folder of the stage; `tag` None: named after the dataset's hash.

    `open_repository` is for tests that want no waiting.
    """

    repo_id: str
    dataset: str
    private: bool
    tag: str | None
    work: Path
    progress: Progress
    open_repository: Callable[[str], HubRepository] = field(default=HubRepository)

    @property
    def location(self) -> str:
        return self.repo_id

    @property
    def on_hub(self) -> bool:
        return True

    @cached_property
    def _hub(self) -> HubRepository:
        return self.open_repository(self.repo_id)

    def check(self) -> None:
        if not self._hub.exists():
            return
        there = self._hub.files()
        if MARKER not in there:
            if there.keys() - {".gitattributes"}:
                raise InputError(
                    f"publish.to: {self.repo_id} holds something else than a dataset of sgv_data; name another one"
                )
            return
        marker = self._hub.read_json(MARKER)
        name = marker.get("name") if isinstance(marker, dict) else None
        if name != self.dataset:
            raise InputError(f"publish.to: {self.repo_id} holds the dataset {name!r}, not {self.dataset!r}")

    def prepare(self) -> Path:
        folder = self.work / "dataset"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def plan(self, prepared: Path, files: Mapping[str, FileStamp]) -> TargetPlan:
        warnings = check_limits(files, self.private)
        there = self._hub.files() if self._hub.exists() else {}
        todo = changes(prepared, files, there)
        return TargetPlan(
            num_files=len(files),
            num_bytes=sum(stamp.num_bytes for stamp in files.values()),
            send=todo.send,
            send_bytes=sum(files[name].num_bytes for name in todo.send),
            delete=todo.delete,
            num_commits=len(steps(todo, there.get(CARD))),
            warnings=tuple(warnings),
        )

    def put(self, prepared: Path, files: Mapping[str, FileStamp]) -> None:
        for warning in check_limits(files, self.private):
            self.progress.say(f"publish: {warning}")
        self._hub.create(self.private)
        base = self._hub.head()
        if changes(prepared, files, self._hub.files()):
            sent = self._begin(base, files)
            self._upload(prepared, files, sent)
            self._verify(prepared, files, f"refs/pr/{sent.request}")
            self._merge(sent)
            self._verify(prepared, files, "main")
        self._hub.tag(self.tag or f"sgv-{files[CHECKSUMS].sha256[:12]}", self._hub.head())
        shutil.rmtree(self.work)

    def mark(self, stage: Path) -> None:
        """The Hub is not asked by commands that do not publish."""

    # --- uploading -----------------------------------------------------------------------------------------------

    def _begin(self, base: str, files: Mapping[str, FileStamp]) -> Sent:
        """The upload that was under way, if it is of this dataset and main has not moved; else a new one."""
        dataset = files[CHECKSUMS].sha256
        sent = Sent.load(self.work / _STATE)
        if sent is not None and sent.repo_id == self.repo_id:
            open_still = self._hub.status(sent.request) in ("draft", "open")
            if open_still and (sent.dataset, sent.base) == (dataset, base):
                return sent
            if open_still:
                self._hub.close(sent.request)
        request = self._hub.open_request(f"sgv_data: {self.dataset}, {dataset[:12]} on {base[:12]}")
        return Sent.begin(self.work / _STATE, self.repo_id, dataset, base, request)

    def _upload(self, prepared: Path, files: Mapping[str, FileStamp], sent: Sent) -> None:
        revision = f"refs/pr/{sent.request}"
        may_forget = True
        for _ in range(_MOST_ROUNDS):
            there = self._hub.files(revision)
            todo = changes(prepared, files, there)
            if not todo:
                return
            self.progress.begin(f"uploading to {self.repo_id}", sum(files[name].num_bytes for name in todo.send))
            self._send(prepared, files, sent, todo, revision)
            try:
                self._commit(prepared, files, sent, steps(todo, there.get(CARD)), revision)
            except (StaleParent, Interrupted):
                continue  # the Hub is asked anew what it holds
            except ProviderError:
                if not may_forget or not sent.files:
                    raise
                may_forget = False
                sent.forget()  # the store may have dropped what was never committed; what it has is not sent again
        raise ProviderError(f"publish: commits to {self.repo_id} keep failing; run the same command again later")

    def _send(self, prepared: Path, files: Mapping[str, FileStamp], sent: Sent, todo: Changes, revision: str) -> None:
        large = [name for name in todo.send if not name.endswith(_SMALL)]
        waiting = [name for name in large if not sent.has(name, files[name].sha256)]
        self.progress.advance(sum(files[name].num_bytes for name in set(todo.send) - set(waiting)))
        for start in range(0, len(waiting), _FILES_AT_ONCE):
            names = waiting[start : start + _FILES_AT_ONCE]
            self._hub.send([Upload(name, prepared / name, files[name].sha256) for name in names], revision)
            sent.add((name, files[name].sha256) for name in names)
            self.progress.advance(sum(files[name].num_bytes for name in names), names[-1])

    def _commit(
        self, prepared: Path, files: Mapping[str, FileStamp], sent: Sent, todo: Sequence[Step], revision: str
    ) -> None:
        head = self._hub.head(revision)
        for number, step in enumerate(todo, 1):
            uploads = [
                Upload(name, prepared / name, files[name].sha256, sent.has(name, files[name].sha256))
                for name in step.send
            ]
            contents = {CARD: INTERIM_CARD.encode()} if step.interim else {}
            message = f"{self.dataset} (part {number} of {len(todo)})" if len(todo) > 1 else self.dataset
            head = self._hub.commit(uploads, contents, step.delete, message, revision, head)

    # --- from the request to the main branch ---------------------------------------------------------------------

    def _verify(self, prepared: Path, files: Mapping[str, FileStamp], revision: str) -> None:
        """Raises VerifyFailed, naming the files that are not at `revision` as the index says."""
        self.progress.begin("comparing with the Hub", None)
        there = self._hub.files(revision)
        wrong = changes(prepared, files, there)
        if wrong:
            names = ", ".join((*wrong.send, *wrong.delete)[:5])
            raise VerifyFailed(f"publish: {self.repo_id} at {revision} does not hold what was sent: {names}")

    def _merge(self, sent: Sent) -> None:
        if self._hub.head() != sent.base and self._hub.status(sent.request) != "merged":
            raise ProviderError(
                f"publish: somebody has changed {self.repo_id} during the upload; run the same command again. "
                "Nothing has to be sent twice"
            )
        self._hub.merge(sent.request)
