"""Publishing to the Hub, against a stand-in over real sockets: complete, resumable, never half-visible."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.hub import TOKEN, Call, Entry, Fault, Repo, StandInHub
from tests.servers.hub_run import disagreements, run_code, stamps, start, write_dataset
from tests.small_run import SmallRun, small_run

REPO = "me/many"


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub() as running:
        yield running


def put(hub: StandInHub, root: Path, source: Path) -> tuple[int, str]:
    """Publishes once; exit status and what was said on standard error."""
    process = start(hub, root / "home", "put", source, REPO, root / "work")
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def held(repo: Repo) -> dict[str, tuple[int, str]]:
    """What the main branch holds but what the Hub itself put there: name -> size and sha256."""
    files = repo.history()[0].files
    return {
        name: (len(entry.content), entry.sha256 or hashlib.sha256(entry.content).hexdigest())
        for name, entry in files.items()
        if name != ".gitattributes"
    }


def wanted(source: Path) -> dict[str, tuple[int, str]]:
    return {name: (stamp.num_bytes, stamp.sha256) for name, stamp in stamps(source).items()}


def size_of(source: Path) -> int:
    return sum(stamp.num_bytes for stamp in stamps(source).values())


def hostile(seed: int) -> Callable[[Call], Fault | None]:
    """One request in 25 goes wrong, in every way there is."""
    drawn = random.Random(seed)
    ways = [
        Fault(429, {"Retry-After": "1"}), Fault(503), Fault(500), Fault(drop="before"), Fault(drop="after"),
        Fault(drop="during"),
    ]  # fmt: skip
    return lambda call: drawn.choice(ways) if drawn.random() < 1 / 25 else None


# --- many shards -------------------------------------------------------------------------------------------------


def test_200_shards_arrive_whole_despite_faults_and_kills(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 200, 60_000)
    kills = sorted(random.Random(5).sample(range(20, 330), 10))
    faults = hostile(3)
    status = -1
    for kill_at in [*kills, 0]:
        process = start(hub, tmp_path / "home", "put", source, REPO, tmp_path / "work")

        def fault(call: Call, pid: int = process.pid, kill_at: int = kill_at) -> Fault | None:
            if call.number == kill_at:
                os.kill(pid, signal.SIGKILL)
                return Fault(drop="before")
            return faults(call)

        hub.fault = fault
        _, errors = process.communicate(timeout=120)
        status = process.returncode
        assert status in (0, -signal.SIGKILL), errors
        if status == 0:
            break
    assert status == 0
    repo = hub.repos[REPO]
    assert held(repo) == wanted(source)
    assert disagreements(repo) == []
    assert len(repo.history()) == 2
    assert list(repo.tags.values()) == [repo.refs["main"]]
    assert hub.num_bytes_in <= 1.1 * size_of(source)
    assert not (tmp_path / "work").exists()


def test_after_a_kill_what_has_arrived_is_neither_sent_nor_asked_about(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 40, 1_000)
    process = start(hub, tmp_path / "home", "put", source, REPO, tmp_path / "work")

    def kill_at_commit(call: Call) -> Fault | None:
        if "/commit/" in call.path:
            os.kill(process.pid, signal.SIGKILL)
        return None

    hub.fault = kill_at_commit
    process.communicate(timeout=120)
    hub.fault = lambda _: None
    before = len(hub.calls)
    assert put(hub, tmp_path, source)[0] == 0
    assert not [call for call in hub.calls[before:] if call.method == "PUT" or "/lfs/" in call.path]
    assert held(hub.repos[REPO]) == wanted(source)


def test_main_changes_once_and_only_after_everything_is_there(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 230, 500)
    assert put(hub, tmp_path, source)[0] == 0
    repo = hub.repos[REPO]
    assert repo.private
    assert [len(commit.files) for commit in repo.history()] == [1 + len(wanted(source)), 1]
    sizes = [len(commit.files) for commit in repo.history("refs/pr/1")]
    assert len(sizes) == 5
    assert max(later - earlier for later, earlier in itertools.pairwise(sizes)) <= 100


def test_republishing_sends_only_what_changed_and_the_card_never_disagrees(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 250, 10_000)
    assert put(hub, tmp_path, source)[0] == 0
    first = hub.num_bytes_in
    changed = tuple(range(120))
    for path in sorted((source / "data").iterdir())[-20:]:
        path.unlink()
    write_dataset(source, 230, 10_000, changed)
    (source / "data" / "train-00099.tar").rename(source / "data" / "validation-00000.tar")
    write_dataset(source, 0, 0)
    assert put(hub, tmp_path, source)[0] == 0
    repo = hub.repos[REPO]
    assert held(repo) == wanted(source)
    assert disagreements(repo) == []
    assert hub.num_bytes_in - first < 120 * 10_000 + 300_000
    assert len(repo.tags) == 2
    assert put(hub, tmp_path, source)[0] == 0
    assert len(repo.history()) == 3


def test_what_is_not_of_the_dataset_stays(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 3, 100)
    assert put(hub, tmp_path, source)[0] == 0
    repo = hub.repos[REPO]
    files = {**repo.history()[0].files}
    files["LICENSE"] = files["README.md"]
    repo.commit("main", "by hand", files)
    write_dataset(source, 3, 100, changed=(1,))
    assert put(hub, tmp_path, source)[0] == 0
    assert "LICENSE" in repo.history()[0].files


def test_a_change_by_somebody_else_during_the_upload_stops_the_merge(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 3, 100)

    def meddle(call: Call) -> Fault | None:
        if "/commit/" in call.path:
            repo = hub.repos[REPO]
            files = repo.history()[0].files
            repo.commit("main", "by hand", {**files, "notes.txt": files[".gitattributes"]})
        return None

    hub.fault = meddle
    status, errors = put(hub, tmp_path, source)
    assert status != 0
    assert "somebody has changed me/many" in errors
    assert "README.md" not in hub.repos[REPO].history()[0].files
    hub.fault = lambda _: None
    hub.repos[REPO].history()[0].files.pop("notes.txt")
    assert put(hub, tmp_path, source)[0] == 0
    assert held(hub.repos[REPO]) == wanted(source)


def test_bytes_that_arrive_changed_are_noticed_before_the_merge(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 3, 100)

    def spoil(call: Call) -> Fault | None:
        if call.path.endswith("/tree/refs/pr/1") and (head := hub.repos[REPO].history("refs/pr/1")[0]).parent:
            head.files.pop("data/train-00001.tar", None)
        return None

    hub.fault = spoil
    status, errors = put(hub, tmp_path, source)
    assert status != 0
    assert "VerifyFailed" in errors or "keep failing" in errors
    assert "README.md" not in hub.repos[REPO].history()[0].files


@pytest.mark.parametrize(
    ("files", "message"),
    [({"x.bin": b"1"}, "holds something else"), ({"dataset.json": b'{"name": "other"}'}, "holds the dataset 'other'")],
)
def test_a_repository_of_something_else_is_left_alone(
    hub: StandInHub, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    source = tmp_path / "set"
    write_dataset(source, 1, 10)
    repo = hub.repos[REPO] = Repo(REPO, False)
    repo.commit("main", "first", {name: Entry(data, None) for name, data in files.items()})
    status, errors = put(hub, tmp_path, source)
    assert status != 0
    assert message in errors
    assert len(repo.history()) == 1


def test_a_refused_token_is_told_at_once_and_not_shown(hub: StandInHub, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 1, 10)
    hub.fault = lambda call: Fault(403) if call.path == "/api/repos/create" else None
    status, errors = put(hub, tmp_path, source)
    assert status != 0
    assert "the Hub refuses this token for me/many" in errors
    assert TOKEN not in errors
    assert sum(call.path == "/api/repos/create" for call in hub.calls) == 1


def test_it_goes_through_the_xet_store_as_well(tmp_path: Path) -> None:
    source, copy = tmp_path / "set", tmp_path / "copy"
    write_dataset(source, 3, 100_000)
    with StandInHub(xet=tmp_path / "xet") as hub:
        assert put(hub, tmp_path, source) == (0, "")
        assert not [call for call in hub.calls if call.method == "PUT"]
        run_code(hub, tmp_path / "home", f"import huggingface_hub as hub\n"
                 f"hub.snapshot_download({REPO!r}, repo_type='dataset', local_dir={str(copy)!r})")  # fmt: skip
    for name, stamp in stamps(source).items():
        assert hashlib.sha256((copy / name).read_bytes()).hexdigest() == stamp.sha256


def test_files_in_several_parts_arrive_whole(tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_dataset(source, 2, 100_000)
    with StandInHub(multipart_bytes=30_000) as hub:
        assert put(hub, tmp_path, source) == (0, "")
        assert held(hub.repos[REPO]) == wanted(source)


# --- a real dataset, loaded from there ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandInHub, SmallRun, Path]]:
    root = tmp_path_factory.mktemp("on_hub")
    with StandInHub(page=7) as running:
        made = small_run(root / "small", publish={"to": "hf://datasets/me/small", "license": "cc-by-4.0"})
        process = start(running, root / "home", "stage", root / "small", "shard", "publish")
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        yield running, made, root / "home"


def test_every_loading_snippet_of_the_card_runs_unchanged(on_hub: tuple[StandInHub, SmallRun, Path]) -> None:
    hub, _, home = on_hub
    card = hub.repos["me/small"].history()[0].files["README.md"].content.decode()
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == 4
    shown = run_code(hub, home, f"for snippet in {snippets!r}:\n    exec(snippet, {{}})\n    print('ran')\n")
    assert shown.count("ran\n") == 4


def test_a_finished_stage_leaves_nothing_of_the_upload_and_no_token(on_hub: tuple[StandInHub, SmallRun, Path]) -> None:
    _, made, _ = on_hub
    assert {path.name for path in made.stage("publish").iterdir()} == {"_RECORD.json", "publication.json"}
    texts = [path.read_bytes() for path in made.run.root.rglob("*") if path.is_file()]
    assert not [text for text in texts if TOKEN.encode() in text]


def test_a_download_is_what_was_published(on_hub: tuple[StandInHub, SmallRun, Path], tmp_path: Path) -> None:
    hub, made, home = on_hub
    folder = str(tmp_path)
    run_code(hub, home, f"import huggingface_hub as hub\n"
             f"hub.snapshot_download('me/small', repo_type='dataset', local_dir={folder!r})")  # fmt: skip
    listed = json.loads((made.stage("publish") / "publication.json").read_text())["files"]
    found = {name: each.sha256 for name, each in stamps(tmp_path).items() if not name.startswith((".cache", ".git"))}
    del found["SHA256SUMS"]
    assert {name: each["sha256"] for name, each in listed.items()} == found
