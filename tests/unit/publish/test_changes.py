"""What is sent to a repository and in which commits: laws that hold for any two states of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgv_data.errors import InputError
from sgv_data.publish.changes import INTERIM_CARD, RemoteFile, changes, check_limits, git_sha1, steps
from sgv_data.publish.sent import Sent
from sgv_data.records import FileStamp

CARD = "README.md"
NAMES = [f"data/train-{number:05d}.tar" for number in range(12)] + ["metadata/samples-00000.parquet", "sizes.json"]
contents = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([b"a", b"bb", b"ccc"]))


def remote_of(files: dict[str, bytes]) -> dict[str, RemoteFile]:
    return {name: RemoteFile(len(data), None, git_sha1(data)) for name, data in files.items()}


def with_card(files: dict[str, bytes]) -> dict[str, bytes]:
    """A card that claims exactly the tars that are there."""
    return {**files, CARD: repr(sorted((n, d) for n, d in files.items() if n.startswith("data/"))).encode()}


@given(old=contents, new=contents, has_old=st.booleans(), per_commit=st.integers(1, 6))
@settings(deadline=None, max_examples=150)
def test_commits_lead_to_the_dataset_and_no_card_ever_claims_what_is_not_there(
    old: dict[str, bytes], new: dict[str, bytes], has_old: bool, per_commit: int
) -> None:
    there = {**with_card(old), "LICENSE": b"mine"} if has_old else {}
    wanted = with_card(new)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in wanted.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(data)
        stamps = {
            file: FileStamp(num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            for file, data in wanted.items()
        }
        todo = changes(folder, stamps, remote_of(there))
        made = steps(todo, remote_of(there).get(CARD), per_commit)
    sent: set[str] = set()
    for step in made:
        if step.interim:
            there[CARD] = INTERIM_CARD.encode()
        there |= {file: wanted[file] for file in step.send}
        sent |= set(step.send)
        for file in step.delete:
            assert {each for each in todo.send if each.startswith(("data/", "metadata/"))} <= sent
            del there[file]
        if there.get(CARD, INTERIM_CARD.encode()) != INTERIM_CARD.encode():
            assert there[CARD] == with_card({n: d for n, d in there.items() if n != CARD})[CARD]
    assert {n: d for n, d in there.items() if n != "LICENSE" and n in wanted} == wanted
    assert {n for n in there if n.startswith(("data/", "metadata/"))} == {n for n in new if "/" in n}
    assert not has_old or there["LICENSE"] == b"mine"


def test_limits_of_the_hub_are_checked() -> None:
    stamp = FileStamp(num_bytes=1, sha256="")
    many = {f"data/train-{number:05d}.tar": stamp for number in range(10_000)}
    with pytest.raises(InputError, match=r"10000 files in data/.*shard\.max_samples"):
        check_limits(many, private=True)
    huge = {"data/train-00000.tar": FileStamp(num_bytes=300_000_000_000, sha256="")}
    with pytest.raises(InputError, match="300000000000 bytes"):
        check_limits(huge, private=False)
    large = {"data/train-00000.tar": FileStamp(num_bytes=150_000_000_000, sha256="")}
    assert "150 GB in a private repository" in check_limits(large, private=True)[0]
    assert check_limits(large, private=False) == []


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_memory_cut_off_by_a_kill_keeps_its_whole_lines(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "sent.jsonl"
    sent = Sent.begin(path, "me/x", "d", "b", 3)
    sent.add([("data/a.tar", "1" * 64), ("data/b.tar", "2" * 64)])
    path.write_bytes(path.read_bytes()[:-cut])
    again = Sent.load(path)
    assert again is not None
    assert (again.repo_id, again.dataset, again.base, again.request) == ("me/x", "d", "b", 3)
    assert again.files == {"data/a.tar": "1" * 64}
    again.add([("data/b.tar", "2" * 64)])
    assert Sent.load(path) == again


def test_what_was_never_begun_or_forgotten_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    assert Sent.load(path) is None
    sent = Sent.begin(path, "me/x", "d", "b", 3)
    sent.add([("data/a.tar", "1" * 64)])
    sent.forget()
    assert not sent.has("data/a.tar", "1" * 64)
    assert Sent.load(path) == sent
