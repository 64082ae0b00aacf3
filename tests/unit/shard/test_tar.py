"""The tar writer: what `tarfile` would write, and nothing visible before it is whole."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.shard.scan import DamagedTar, TarScan
from sgv_data.shard.tar import MOST_TAIL_BYTES, TarFile, member_num_bytes

MEMBERS = [("a.jpg", b"x" * 511), ("a.json", b""), ("a.txt", b"y" * 512), ("b.jpg", b"z" * 513)]


def written(path: Path, members: list[tuple[str, bytes]]) -> tuple[list[int], int, str]:
    with TarFile(path) as tar:
        offsets = [tar.add(name, payload) for name, payload in members]
        return offsets, *tar.close()


def by_tarfile(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, payload in members:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return buffer.getvalue()


def test_a_tar_is_what_tarfile_writes_and_its_size_and_hash_are_told(tmp_path: Path) -> None:
    offsets, size, sha256 = written(tmp_path / "x.tar", MEMBERS)
    data = (tmp_path / "x.tar").read_bytes()
    assert data == by_tarfile(MEMBERS)
    assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert [data[at : at + len(payload)] for at, (_, payload) in zip(offsets, MEMBERS, strict=True)] == [
        payload for _, payload in MEMBERS
    ]


@given(sizes=st.lists(st.integers(0, 2_000), min_size=1, max_size=30))
def test_planned_sizes_bound_the_tar(sizes: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("sizes") / "x.tar"
    _, size, _ = written(path, [(f"{number}.txt", bytes(each)) for number, each in enumerate(sizes)])
    planned = sum(map(member_num_bytes, sizes))
    assert planned < size <= planned + MOST_TAIL_BYTES


def test_nothing_is_visible_before_the_end_and_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TarFile(tmp_path / "x.tar") as tar:  # noqa: PT012
        tar.add("a.txt", b"text")
        assert not (tmp_path / "x.tar").exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_ascii_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError), TarFile(tmp_path / "x.tar") as tar:
        tar.add("ü.txt", b"")


# --- reading back ------------------------------------------------------------------------------------------------


@given(members=st.lists(st.tuples(st.text("abc./", min_size=1, max_size=150), st.binary(max_size=1_500)), max_size=8),
       form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))  # fmt: skip
def test_a_scan_sees_what_tarfile_wrote(
    members: list[tuple[str, bytes]], form: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("scan") / "x.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name, payload in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(payload), 0.5
            tar.addfile(info, io.BytesIO(payload))
    with tarfile.open(path) as tar:
        expected = [(info.name, info.offset_data, tar.extractfile(info).read()) for info in tar if info.isfile()]  # type: ignore[union-attr]
    scan = TarScan(path)
    found = [(each.name.rstrip("/"), each.offset_bytes, each.payload) for each in scan.members()]
    assert found == [(name.rstrip("/"), offset, payload) for name, offset, payload in expected]
    assert scan.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@given(cut=st.integers(0, 5_119))
def test_every_cut_before_the_last_end_block_is_noticed(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.tar"
    whole = by_tarfile(MEMBERS)
    needed = sum(member_num_bytes(len(payload)) for _, payload in MEMBERS) + 1024
    path.write_bytes(whole[: min(cut, needed - 1)])
    with pytest.raises(DamagedTar):
        list(TarScan(path).members())


@given(at=st.integers(0, 5_000), bit=st.integers(0, 7))
def test_a_flipped_bit_never_ends_a_scan_quietly_with_fewer_members(
    at: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Either the payloads differ, or the damage is raised: what `tarfile` does not promise."""
    path = tmp_path_factory.mktemp("flip") / "x.tar"
    data = bytearray(by_tarfile(MEMBERS))
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        found = [(each.name, each.payload) for each in TarScan(path).members()]
    except DamagedTar:
        return
    assert len(found) == len(MEMBERS)
