"""Clients of the stand-in Hub, each in a process of its own: `huggingface_hub` reads its settings when it is imported.

`python -m tests.servers.hub_run put FILES REPO WORK` publishes the files in FILES without ever waiting;
`... stage ROOT STAGE...` makes stages of the small run in ROOT.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from sgv_data.dataset_format import CARD, CHECKSUMS
from sgv_data.records import FileStamp
from sgv_data.run_folder import file_sha256
from tests.servers.hub import Repo, StandInHub


def start(hub: StandInHub, home: Path, *arguments: object) -> subprocess.Popen[str]:
    """Starts this module as a client of `hub`."""
    command = [sys.executable, "-m", "tests.servers.hub_run", *map(str, arguments)]
    return _popen(hub, home, command)


def run_code(hub: StandInHub, home: Path, code: str) -> str:
    """Runs Python text as a client of `hub`; what it prints."""
    process = _popen(hub, home, [sys.executable, "-c", code])
    shown, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return shown


def _popen(hub: StandInHub, home: Path, command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, **hub.environment(home)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


# --- a dataset of plain bytes whose card lists what it claims ----------------------------------------------------


def write_dataset(folder: Path, num_tars: int, tar_bytes: int, changed: tuple[int, ...] = (), seed: int = 0) -> None:
    """Files as a dataset has them; the tars named in `changed` hold other bytes than without."""
    drawn = random.Random(seed)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    for number in range(num_tars):
        content = drawn.randbytes(tar_bytes)
        if number in changed:
            content = content[::-1]
        (folder / "data" / f"train-{number:05d}.tar").write_bytes(content)
    (folder / "dataset.json").write_text('{"name": "many"}\n')
    names = sorted(path.relative_to(folder).as_posix() for path in (folder / "data").iterdir())
    sums = {name: file_sha256(folder / name) for name in names}
    (folder / "metadata" / "samples-00000.parquet").write_bytes(json.dumps(sums).encode())
    (folder / CARD).write_text("---\n{}\n---\n" + json.dumps(sums))
    (folder / CHECKSUMS).write_text("".join(f"{value}  {name}\n" for name, value in sums.items()))


def stamps(folder: Path) -> dict[str, FileStamp]:
    return {
        path.relative_to(folder).as_posix(): FileStamp(num_bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def disagreements(repo: Repo) -> list[str]:
    """Commits of any branch or request whose card claims other files than the commit holds."""
    found = []
    for commit in repo.commits.values():
        card = commit.files.get(CARD)
        text = card.content.decode().rpartition("---\n")[2] if card is not None else ""
        if not text.startswith("{"):
            continue
        tars = {name: entry.sha256 for name, entry in commit.files.items() if name.startswith("data/")}
        if json.loads(text) != tars:
            found.append(f"{commit.oid[:8]} {commit.title}")
    return found


def _put(source: Path, repo_id: str, work: Path) -> None:
    from sgv_data.progress import Silent
    from sgv_data.publish.hub import HubRepository
    from sgv_data.publish.hub_target import HubTarget
    from sgv_data.publish.target import link_or_copy

    time.sleep = lambda _: None  # huggingface_hub has waits of its own
    target = HubTarget(
        repo_id, "many", True, None, work, Silent(), lambda name: HubRepository(name, sleep=lambda _: None)
    )
    target.check()
    folder = target.prepare()
    files = stamps(source)
    for name in files:
        link_or_copy(source / name, folder / name)
    target.put(folder, files)


def _stage(root: Path, *names: str) -> None:
    from sgv_data.manifest import Manifest
    from sgv_data.run_folder import RunFolder
    from tests.small_run import SmallRun

    manifest = Manifest.model_validate_json((root / "manifest.json").read_text())
    SmallRun(manifest, RunFolder(root / "run"), root / "pictures").make(*names)


if __name__ == "__main__":
    if sys.argv[1] == "put":
        _put(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    else:
        _stage(Path(sys.argv[2]), *sys.argv[3:])
