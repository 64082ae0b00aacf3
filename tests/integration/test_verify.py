"""Every way a dataset can be damaged is found and named."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import webdataset

from sgv_data.errors import InputError, VerifyFailed
from sgv_data.progress import Silent
from sgv_data.records import SampleRow, ShardRow
from sgv_data.shard.findings import Problem, VerifyReport
from sgv_data.shard.verify import verify_dataset
from sgv_data.tables import read_table, write_table
from tests.small_run import small_run

Members = list[tuple[str, bytes]]
TAR = "data/train-00000.tar"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published dataset."""
    made = small_run(tmp_path_factory.mktemp("sound"), num_images=60)
    made.make("shard", "publish")
    return made.run.root / "dataset"


@pytest.fixture
def dataset(sound: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "dataset"))


@pytest.fixture
def bare(sound: Path, tmp_path: Path) -> Path:
    """Its tars alone, in a plain folder."""
    return Path(shutil.copytree(sound / "data", tmp_path / "bare"))


def found(folder: Path) -> VerifyReport:
    return verify_dataset(folder, Silent())


# --- ways to damage a tar ----------------------------------------------------------------------------------------


def members_of(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def write_tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, payload in members:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))


def rewritten(change: Callable[[Members], Members]) -> Callable[[Path], None]:
    return lambda path: write_tar(path, change(members_of(path)))


def other_payload(suffix: str, payload: bytes, sample: int = 1) -> Callable[[Path], None]:
    def change(members: Members) -> Members:
        key = members[3 * sample][0].partition(".")[0]
        return [(name, payload if name == f"{key}.{suffix}" else old) for name, old in members]

    return rewritten(change)


def swap_payloads(members: Members, suffix: str) -> Members:
    """The first and the third sample exchange one member."""
    one, two = ([i for i, (name, _) in enumerate(members) if name.endswith(suffix)][at] for at in (0, 2))
    swapped = list(members)
    swapped[one], swapped[two] = (members[one][0], members[two][1]), (members[two][0], members[one][1])
    return swapped


def cut_inside_a_member(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 3 * 512 + 100])


def cut_between_members(path: Path) -> None:
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[4].offset
    path.write_bytes(path.read_bytes()[:offset])


def cut_the_end_blocks(path: Path) -> None:
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data + bytes(-len(data) % 512))


def leave_one_end_block(path: Path) -> None:
    cut_the_end_blocks(path)
    path.write_bytes(path.read_bytes() + bytes(512))


def append_garbage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"garbage" * 100)


def flip_a_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def flip_a_bit_of_the_second_header(path: Path) -> None:
    with tarfile.open(path) as tar:
        flip_a_bit(path, tar.getmembers()[1].offset + 3)


def flip_a_bit_of_a_picture(path: Path) -> None:
    with tarfile.open(path) as tar:
        picture = next(info for info in tar if not info.name.endswith(("json", "txt")))
        flip_a_bit(path, picture.offset_data + picture.size // 2)


PNG_NOISE = b"\x89PNG\r\n\x1a\n" + b"noise" * 40


@dataclass(frozen=True)
class Damage:
    """A way to damage the first tar, what must be found there, and whether that needs the index."""

    name: str
    do: Callable[[Path], None]
    problem: Problem
    needs_index: bool = False
    sample: int | None = None
    detail: str = field(default="", compare=False)


DAMAGES = (
    Damage("cut inside a member", cut_inside_a_member, Problem.DAMAGED_TAR, detail="cut off inside"),
    Damage("cut between members", cut_between_members, Problem.DAMAGED_TAR, detail="cut off between two members"),
    Damage("no end blocks", cut_the_end_blocks, Problem.DAMAGED_TAR, detail="without end-of-archive blocks"),
    Damage("one end block", leave_one_end_block, Problem.DAMAGED_TAR, detail="one end-of-archive block"),
    Damage("garbage after the end", append_garbage, Problem.DAMAGED_TAR, detail="follows its end"),
    Damage("empty file", lambda path: path.write_bytes(b"") and None, Problem.DAMAGED_TAR),
    Damage("not a tar", lambda path: path.write_bytes(b"x" * 5_000) and None, Problem.DAMAGED_TAR, detail="header"),
    Damage("damaged header", flip_a_bit_of_the_second_header, Problem.DAMAGED_TAR, detail="header at byte"),
    Damage("flipped bit in a picture", flip_a_bit_of_a_picture, Problem.DISAGREES, sample=0, detail="another image"),
    Damage("flipped bit, by index", flip_a_bit_of_a_picture, Problem.WRONG_BYTES, True, 0),
    Damage("swapped captions", rewritten(lambda m: swap_payloads(m, ".txt")), Problem.DISAGREES, sample=0),
    Damage("swapped captions, by index", rewritten(lambda m: swap_payloads(m, ".txt")), Problem.WRONG_BYTES, True, 0),
    Damage("swapped records", rewritten(lambda m: swap_payloads(m, ".json")), Problem.DISAGREES, sample=0,
           detail="another key"),
    Damage("sample twice", rewritten(lambda m: m + m[:3]), Problem.DUPLICATE_KEY, sample=0),
    Damage("member twice", rewritten(lambda m: m[:3] + m[2:]), Problem.DUPLICATE_MEMBER, sample=0),
    Damage("missing member", rewritten(lambda m: m[:1] + m[2:]), Problem.MISSING_MEMBER, sample=0),
    Damage("extra member", rewritten(lambda m: [(m[0][0][:20] + ".aux", b"x"), *m]), Problem.EXTRA_MEMBER, sample=0),
    Damage("missing sample", rewritten(lambda m: m[:3] + m[6:]), Problem.MISSING_SAMPLE, True, 1),
    Damage("extra sample", rewritten(lambda m: [*m, ("ffff.txt", b"x")]), Problem.EXTRA_SAMPLE, True),
    Damage("members apart", rewritten(lambda m: [m[1], *m[3:], m[0], m[2]]), Problem.NOT_ADJACENT, sample=0),
    Damage("samples in another order", rewritten(lambda m: m[3:6] + m[:3] + m[6:]), Problem.WRONG_PLACE, True, 1),
    Damage("dotless member", rewritten(lambda m: [*m, ("noextension", b"x")]), Problem.BAD_NAME),
    Damage("caption that is no UTF-8", other_payload("txt", b"caf\xe9"), Problem.BAD_TEXT, sample=1, detail="no UTF-8"),
    Damage("empty caption", other_payload("txt", b" \n"), Problem.BAD_TEXT, sample=1, detail="empty"),
    Damage("record that is no JSON", other_payload("json", b"{"), Problem.BAD_JSON, sample=1),
    Damage("picture of noise", rewritten(lambda m: [(n, PNG_NOISE if n == _pictures(m)[1] else p) for n, p in m]),
           Problem.BAD_PICTURE, sample=1, detail="does not decode"),
    Damage("picture cut short", rewritten(lambda m: [(n, p[:-99] if n in _pictures(m) else p) for n, p in m]),
           Problem.BAD_PICTURE, sample=0, detail="does not decode"),
    Damage("picture under another name", rewritten(lambda m: [(n.replace(".png", ".jpg"), p) for n, p in m]),
           Problem.BAD_PICTURE, detail="is a png"),
)  # fmt: skip


def _pictures(members: Members) -> list[str]:
    return [name for name, _ in members if not name.endswith(("json", "txt"))]


def _keys(path: Path) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name, _ in members_of(path)))


def _matches(report: VerifyReport, damage: Damage, file: str, keys: list[str]) -> bool:
    wanted = keys[damage.sample] if damage.sample is not None else None
    return any(
        each.problem is damage.problem
        and each.file == file
        and damage.detail in each.detail
        and (wanted is None or each.key == wanted)
        for each in report.findings
    )


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_found_and_named_with_shard_and_key(dataset: Path, damage: Damage) -> None:
    keys = _keys(dataset / TAR)
    damage.do(dataset / TAR)
    report = found(dataset)
    assert _matches(report, damage, TAR, keys), "\n".join(map(str, report.findings))
    assert any(each.problem is Problem.WRONG_CHECKSUM and TAR in each.detail for each in report.findings)
    with pytest.raises(VerifyFailed, match=r"finding\(s\)"):
        report.require_sound()


@pytest.mark.parametrize("damage", [each for each in DAMAGES if not each.needs_index], ids=lambda damage: damage.name)
def test_damage_of_bare_tars_is_found_without_an_index(bare: Path, damage: Damage) -> None:
    tar = bare / "train-00000.tar"
    keys = _keys(tar)
    damage.do(tar)
    report = found(bare)
    assert not report.indexed
    assert _matches(report, damage, tar.name, keys), "\n".join(map(str, report.findings))


# --- what lies beside the tars -----------------------------------------------------------------------------------


def change_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def change_rows(name: str, row_type: type, change: Callable[[list], list]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def changed(folder: Path) -> None:
        rows = list(read_table(folder / "metadata", name, row_type))
        write_table(folder / "metadata", name, row_type, change(rows))

    return changed


BESIDE = {
    "wrong count in the card": (
        change_text("README.md", "num_examples: ", "num_examples: 1"), "README.md", Problem.WRONG_COUNT),
    "card without front matter": (
        lambda d: (d / "README.md").write_text("# nothing"), "README.md", Problem.DAMAGED_FILE),
    "wrong number in sizes.json": (
        change_text("sizes.json", "10", "11"), "sizes.json", Problem.WRONG_COUNT),
    "damaged sizes.json": (lambda d: (d / "sizes.json").write_text("{"), "sizes.json", Problem.DAMAGED_FILE),
    "wrong hash in SHA256SUMS": (
        lambda d: (d / "SHA256SUMS").write_text("0" * 64 + (d / "SHA256SUMS").read_text()[64:]),
        "SHA256SUMS", Problem.WRONG_CHECKSUM),
    "damaged SHA256SUMS": (lambda d: (d / "SHA256SUMS").write_text("x"), "SHA256SUMS", Problem.DAMAGED_FILE),
    "missing tar": (lambda d: (d / TAR).unlink(), "metadata/samples", Problem.MISSING_FILE),
    "missing tar, by checksums": (lambda d: (d / TAR).unlink(), "SHA256SUMS", Problem.MISSING_FILE),
    "strange tar": (
        lambda d: shutil.copy(d / TAR, d / "data/train-00009.tar"), "metadata/shards", Problem.EXTRA_FILE),
    "damaged samples table": (
        lambda d: (d / "metadata/samples-00000.parquet").write_bytes(b"PAR1"),
        "metadata/samples", Problem.DAMAGED_FILE),
    "damaged shards table": (
        lambda d: (d / "metadata/shards-00000.parquet").write_bytes(b"PAR1"), "metadata/shards", Problem.DAMAGED_FILE),
    "sample twice in the index": (
        change_rows("samples", SampleRow, lambda rows: [rows[0], *rows]), "metadata/samples", Problem.DUPLICATE_KEY),
    "sample missing in the index": (
        change_rows("samples", SampleRow, lambda rows: rows[1:]), "data", Problem.EXTRA_SAMPLE),
    "wrong offset in the index": (
        change_rows("samples", SampleRow, lambda rows: [replace(r, text_offset_bytes=5) for r in rows]),
        "data", Problem.WRONG_PLACE),
    "wrong count in the shards table": (
        change_rows("shards", ShardRow, lambda rows: [replace(r, num_samples=1) for r in rows]),
        "metadata/shards", Problem.WRONG_COUNT),
    "wrong hash in the shards table": (
        change_rows("shards", ShardRow, lambda rows: [replace(r, sha256="0") for r in rows]),
        "metadata/shards", Problem.WRONG_CHECKSUM),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_damage_beside_the_tars_is_found(dataset: Path, name: str) -> None:
    damage, file, problem = BESIDE[name]
    damage(dataset)
    report = found(dataset)
    assert any(each.problem is problem and each.file.startswith(file) for each in report.findings), report.findings


def test_a_key_in_two_bare_tars_is_found(bare: Path) -> None:
    members = members_of(bare / "train-00000.tar")
    write_tar(bare / "train-00001.tar", members_of(bare / "train-00001.tar") + members[:3])
    (finding, *others) = found(bare).findings
    assert finding.problem is Problem.DUPLICATE_KEY
    assert {each.key for each in (finding, *others)} == {members[0][0].partition(".")[0]}


# --- what is sound -----------------------------------------------------------------------------------------------


def test_a_published_dataset_a_shard_folder_and_a_run_folder_are_sound(sound: Path) -> None:
    reports = [found(folder) for folder in (sound, sound.parent / "shard", sound.parent)]
    assert [report.findings for report in reports] == [(), (), ()]
    assert {report.num_samples for report in reports} == {sum(json.loads((sound / "sizes.json").read_text()).values())}
    assert all(report.indexed for report in reports)
    reports[0].require_sound()


def test_tars_of_other_tools_are_sound_too(sound: Path, tmp_path: Path) -> None:
    """Extended headers, long names, folders and other fields are no damage."""
    picture = next(payload for name, payload in members_of(sound / TAR) if name.endswith(".png"))
    with webdataset.TarWriter(str(tmp_path / "theirs.tar")) as writer:
        for number in range(3):
            writer.write({"__key__": f"sub.dir/{number}" + "x" * 200, "png": picture, "txt": "ünï", "json": {"a": 1}})
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(picture)
    with tarfile.open(tmp_path / "gnu.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(tmp_path / "pictures", arcname="p" * 150)
    report = found(tmp_path)
    assert report.findings == ()
    assert (report.num_shards, report.num_samples) == (2, 4)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_tars_is_an_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such folder, or it holds no tars"):
        found(tmp_path / name)


def test_many_findings_are_counted_but_not_all_kept(dataset: Path) -> None:
    damage = change_rows("samples", SampleRow, lambda rows: [replace(r, json_num_bytes=0, text_num_bytes=0,
                                                                     image_num_bytes=0, json_offset_bytes=0,
                                                                     text_offset_bytes=0) for r in rows])  # fmt: skip
    damage(dataset)
    report = found(dataset)
    assert report.num_findings >= 5 * report.num_samples
    assert len(report.findings) <= 50 * (report.num_shards + 5)
