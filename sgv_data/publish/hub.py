"""One dataset repository on the Hugging Face Hub: what publishing needs of `huggingface_hub`, with patience.

Transient answers (408, 429, 5xx, broken connections) are met by waiting, as long as the server asks; all others become
a `ProviderError` at once. The token comes from where `huggingface_hub` looks for it and is never kept here.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from sgv_data.errors import InputError, ProviderError
from sgv_data.publish.changes import RemoteFile

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

Result = TypeVar("Result")

_ATTEMPTS = 8
_LONGEST_WAIT_S = 60.0
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class StaleParent(Exception):
    """Somebody else has committed in between."""


class Interrupted(Exception):
    """A commit whose outcome is not known: the answer was lost, or the Hub was out of order."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send: its place in the repository, its bytes here, and its hash, which is not computed again."""

    name: str
    path: Path
    sha256: str
    is_sent: bool = False


class HubRepository:
    """A dataset repository. Every method talks to the Hub."""

    def __init__(self, repo_id: str, sleep: Callable[[float], None] = time.sleep) -> None:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if get_token() is None:
            raise ProviderError("publish: no token for the Hub; log in with `hf auth login` or set HF_TOKEN")
        disable_progress_bars()
        self.repo_id, self._sleep = repo_id, sleep
        self._api: HfApi = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))

    # --- looking -------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the repository is there and may be seen."""
        return self._patiently(lambda: self._api.repo_exists(self.repo_id, repo_type="dataset"))

    def head(self, revision: str = "main") -> str:
        """The commit that a branch or request stands at."""
        info = self._patiently(
            lambda: self._api.repo_info(self.repo_id, repo_type="dataset", revision=revision, timeout=60)
        )
        return str(info.sha)

    def files(self, revision: str = "main") -> dict[str, RemoteFile]:
        """Every file at a revision."""
        return self._patiently(lambda: self._files(revision))

    def _files(self, revision: str) -> dict[str, RemoteFile]:
        from huggingface_hub.hf_api import RepoFile

        tree = self._api.list_repo_tree(self.repo_id, repo_type="dataset", revision=revision, recursive=True)
        return {
            each.path: RemoteFile(each.size, each.lfs.sha256 if each.lfs else None, each.blob_id)
            for each in tree
            if isinstance(each, RepoFile)
        }

    def read_json(self, name: str) -> object:
        """A small file of the main branch; None if it is no JSON."""
        with tempfile.TemporaryDirectory() as folder:
            path = self._patiently(
                lambda: self._api.hf_hub_download(self.repo_id, name, repo_type="dataset", local_dir=folder)
            )
            try:
                found: object = json.loads(Path(path).read_text(encoding="utf-8"))
            except ValueError:
                return None
            return found

    # --- changing ------------------------------------------------------------------------------------------------

    def create(self, private: bool) -> None:
        """Makes the repository; one that is there stays as it is."""
        self._patiently(
            lambda: self._api.create_repo(self.repo_id, repo_type="dataset", private=private, exist_ok=True)
        )

    def open_request(self, title: str) -> int:
        """The number of the open pull request of that title, which is made if there is none."""
        return self._patiently(lambda: self._find_request(title) or self._new_request(title))

    def _find_request(self, title: str) -> int | None:
        found = self._api.get_repo_discussions(
            self.repo_id, repo_type="dataset", discussion_type="pull_request", discussion_status="open"
        )
        return next((each.num for each in found if each.title == title), None)

    def _new_request(self, title: str) -> int:
        description = "Made by sgv_data: the dataset is uploaded here, compared with its index, and then merged."
        made = self._api.create_pull_request(self.repo_id, title, repo_type="dataset", description=description)
        return int(made.num)

    def status(self, number: int) -> str | None:
        """draft, open, closed or merged; None if there is no such request."""
        from huggingface_hub.errors import HfHubHTTPError

        def ask() -> str | None:
            try:
                return str(self._api.get_discussion_details(self.repo_id, number, repo_type="dataset").status)
            except HfHubHTTPError as exc:
                if _status(exc) == 404:
                    return None
                raise

        return self._patiently(ask)

    def close(self, number: int) -> None:
        """Closes a request that is not needed any more."""
        self._patiently(lambda: self._api.change_discussion_status(self.repo_id, number, "closed", repo_type="dataset"))

    def merge(self, number: int) -> None:
        """Puts what a request holds on the main branch. A request that was merged before stays merged."""

        def once() -> None:
            state = self._api.get_discussion_details(self.repo_id, number, repo_type="dataset").status
            if state == "draft":
                self._api.change_discussion_status(self.repo_id, number, "open", repo_type="dataset")
            if state != "merged":
                self._api.merge_pull_request(self.repo_id, number, repo_type="dataset")

        self._patiently(once)

    def tag(self, name: str, commit: str) -> None:
        """Gives a commit a name; a tag of that name stays where it is."""
        self._patiently(
            lambda: self._api.create_tag(self.repo_id, tag=name, revision=commit, repo_type="dataset", exist_ok=True)
        )

    def send(self, uploads: Sequence[Upload], revision: str, threads: int = 2) -> None:
        """Puts large files into the Hub's store, where commits find them. Small files go with the commit itself."""
        self._patiently(
            lambda: self._api.preupload_lfs_files(
                self.repo_id, [_addition(each) for each in uploads], repo_type="dataset", revision=revision,
                num_threads=threads, free_memory=False,
            )
        )  # fmt: skip

    def commit(
        self, uploads: Sequence[Upload], contents: dict[str, bytes], delete: Sequence[str], message: str,
        revision: str, parent: str,
    ) -> str:  # fmt: skip
        """One commit on top of `parent`; returns its id.

        Raises:
            StaleParent: if the branch does not stand at `parent`; nothing has changed then.
            Interrupted: if it may have happened or not.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[CommitOperationAdd | CommitOperationDelete] = [_addition(each) for each in uploads]
        operations += [CommitOperationAdd(name, data) for name, data in contents.items()]
        operations += [CommitOperationDelete(name) for name in delete]
        try:
            made = self._api.create_commit(
                self.repo_id, operations, commit_message=message, repo_type="dataset", revision=revision,
                parent_commit=parent,
            )  # fmt: skip
        except Exception as exc:
            if _status(exc) == 412:
                raise StaleParent from exc
            if _is_transient(exc):
                self._sleep(min(_asked_wait_s(exc) or 1.0, _LONGEST_WAIT_S))
                raise Interrupted(str(exc)) from exc
            raise _ours(exc, self.repo_id) from exc
        return str(made.oid)

    def _patiently(self, call: Callable[[], Result]) -> Result:
        retrying = Retrying(
            retry=retry_if_exception(_is_transient), wait=_wait_s, stop=stop_after_attempt(_ATTEMPTS),
            sleep=self._sleep, reraise=True,
        )  # fmt: skip
        try:
            return retrying(call)
        except Exception as exc:
            raise _ours(exc, self.repo_id) from exc


def _addition(upload: Upload) -> CommitOperationAdd:
    from huggingface_hub import CommitOperationAdd

    made = CommitOperationAdd(upload.name, upload.path)
    made.upload_info.sha256 = bytes.fromhex(upload.sha256)
    if upload.is_sent:
        # In the store already: neither asked about nor, with Xet, cut into chunks once more.
        made._upload_mode, made._is_uploaded, made._should_ignore = "lfs", True, False
    return made


# --- errors ------------------------------------------------------------------------------------------------------


def _status(exc: BaseException) -> int | None:
    from huggingface_hub.errors import HfHubHTTPError

    response = getattr(exc, "response", None) if isinstance(exc, HfHubHTTPError) else None
    return int(response.status_code) if response is not None else None


def _cause(exc: BaseException) -> BaseException:
    """Failures of upload threads come wrapped."""
    return exc.__cause__ if isinstance(exc, RuntimeError) and exc.__cause__ is not None else exc


def _is_transient(exc: BaseException) -> bool:
    import httpx2

    exc = _cause(exc)
    status = _status(exc)
    return status in _TRANSIENT if status is not None else isinstance(exc, httpx2.TransportError | ConnectionError)


def _asked_wait_s(exc: BaseException) -> float | None:
    """How long the server asks to wait, if it does."""
    response = getattr(_cause(exc), "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return float(asked) if asked.isdigit() else None


def _wait_s(state: RetryCallState) -> float:
    exc = state.outcome.exception() if state.outcome is not None else None
    asked_s = _asked_wait_s(exc) if exc is not None else None
    return min(asked_s if asked_s is not None else 2.0 ** (state.attempt_number - 1), _LONGEST_WAIT_S)


def _ours(exc: Exception, repo_id: str) -> Exception:
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    status = _status(_cause(exc))
    if isinstance(exc, HFValidationError):
        return InputError(f"publish: {exc}")
    if isinstance(exc, RepositoryNotFoundError | GatedRepoError) or status in (401, 403):
        return ProviderError(f"publish: the Hub refuses this token for {repo_id}, or there is no such place ({status})")
    if status is not None or _is_transient(exc):
        return ProviderError(f"publish: the Hub cannot be used for {repo_id}: {_cause(exc)}")
    return exc
