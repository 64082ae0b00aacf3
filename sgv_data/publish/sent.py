"""What an upload has done so far, kept in the stage folder so that it goes on after a kill where it was.

One line of JSON per event, each on disk before the next thing happens: first where the upload goes, then every file
that has arrived, with its hash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from sgv_data.run_folder import write_durably


@dataclass(slots=True)
class Sent:
    """An upload of the dataset whose checksums have the hash `dataset`, over the commit `base`, to a request."""

    path: Path
    repo_id: str
    dataset: str
    base: str
    request: int
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The upload that `path` tells of, or None; a line that a kill has cut off does not count."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        whole, end, _ = text.rpartition("\n")
        if not end:
            return None
        if len(whole) + 1 < len(text):
            write_durably(path, whole + end)
        lines = whole.split("\n")
        found = cls(path=path, **json.loads(lines[0]))
        for line in lines[1:]:
            name, sha256 = json.loads(line)
            found.files[name] = sha256
        return found

    @classmethod
    def begin(cls, path: Path, repo_id: str, dataset: str, base: str, request: int) -> Self:
        """A new upload; what `path` told of before is forgotten."""
        begun = cls(path, repo_id, dataset, base, request)
        head = {name: value for name, value in asdict(begun).items() if name not in ("path", "files")}
        path.unlink(missing_ok=True)
        begun._append(json.dumps(head) + "\n")
        return begun

    def has(self, name: str, sha256: str) -> bool:
        """Whether this file has arrived with these bytes."""
        return self.files.get(name) == sha256

    def add(self, files: Iterable[tuple[str, str]]) -> None:
        """These files have arrived."""
        arrived = list(files)
        self.files.update(arrived)
        self._append("".join(json.dumps(each) + "\n" for each in arrived))

    def forget(self) -> None:
        """Nothing has arrived after all."""
        self.files.clear()
        Sent.begin(self.path, self.repo_id, self.dataset, self.base, self.request)

    def _append(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
