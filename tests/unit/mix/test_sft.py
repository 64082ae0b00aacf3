from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sgv_data.errors import InputError
from sgv_data.mix.captions import open_captions
from sgv_data.mix.records import Images, Match, MixPlan, MixReport
from sgv_data.mix.sft import make_mixes
from sgv_data.progress import Silent
from tests.unit.mix.files import captions, read, row, sft_rows, write

SAME, DRAWN = MixPlan(Images.SAME), MixPlan(Images.DRAWN)


def made(folder: Path, plan: MixPlan, new: Any = None, suffix: str = ".json", **more: Any) -> MixReport:
    sft = write(folder / f"sft{suffix}", sft_rows())
    new = write(folder / "new.json", captions() if new is None else new)
    return make_mixes(sft, open_captions(new), plan, folder / f"out{suffix}", Silent(), **more)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("plan", [SAME, DRAWN], ids=["same", "drawn"])
def test_only_detailed_rows_change_and_they_keep_question_place_and_number(
    tmp_path: Path, plan: MixPlan, suffix: str
) -> None:
    report = made(tmp_path, plan, suffix=suffix)
    before, after = read(tmp_path / f"sft{suffix}"), read(tmp_path / f"out{suffix}")
    assert len(after) == len(before) == report.sft_rows
    for old, new in zip(before, after, strict=True):
        if not old["conversations"][-1]["value"].startswith("Old caption"):
            assert new == old
            continue
        assert new["conversations"][0] == old["conversations"][0]
        assert new["conversations"][1]["value"].startswith("New caption")
        assert list(new) == list(old)
    assert report.detail_rows == report.files[0].replaced == 20


def test_rows_of_the_same_pictures_get_their_own_captions(tmp_path: Path) -> None:
    made(tmp_path, SAME)
    changed = [each for each in read(tmp_path / "out.json") if "New" in each["conversations"][1]["value"]]
    assert [each["conversations"][1]["value"] for each in changed] == [
        f"New caption {number} of coco/train2017." for number in range(20)
    ]
    assert [each["id"] for each in changed] == [f"{number:012d}" for number in range(20)]


def test_drawn_rows_are_of_different_pictures_with_their_captions_and_ids(tmp_path: Path) -> None:
    made(tmp_path, DRAWN)
    known = {each["image"]: each["conversations"][1]["value"] for each in captions()}
    changed = [each for each in read(tmp_path / "out.json") if "New" in each["conversations"][1]["value"]]
    assert len({each["image"] for each in changed}) == 20
    assert all(known[each["image"]] == each["conversations"][1]["value"] for each in changed)
    assert all(each["id"] == Path(each["image"]).stem for each in changed)


def test_every_replaced_row_is_listed_with_what_was_and_what_is(tmp_path: Path) -> None:
    made(tmp_path, DRAWN)
    before, after = read(tmp_path / "sft.json"), read(tmp_path / "out.json")
    listed = read(tmp_path / "out.replaced.jsonl")
    differ = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert [each["row"] for each in listed] == differ
    for each in listed:
        old, new = before[each["row"]], after[each["row"]]
        assert (each["old_id"], each["new_id"]) == (old["id"], new["id"])
        assert (each["old_image"], each["new_image"]) == (old["image"], new["image"])
        for which, shown in (("old", old), ("new", new)):
            text = shown["conversations"][1]["value"]
            assert each[f"{which}_sha256"] == hashlib.sha256(text.encode()).hexdigest()
            assert each[f"{which}_chars"] == len(text)


@pytest.mark.parametrize("images", list(Images))
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, images: Images) -> None:
    texts = []
    for seed, name in ((3, "a"), (3, "b"), (4, "c")):
        (tmp_path / name).mkdir()
        made(tmp_path / name, MixPlan(images, (0.5,), seed))
        texts.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("out*")})
    assert texts[0] == texts[1]
    assert texts[0]["out.json"] != texts[2]["out.json"]


@pytest.mark.parametrize("images", list(Images))
def test_a_larger_share_replaces_the_same_rows_and_more(tmp_path: Path, images: Images) -> None:
    report = made(tmp_path, MixPlan(images, (0, 0.25, 1)))
    assert [each.replaced for each in report.files] == [0, 5, 20]
    assert (tmp_path / "out-share-0.json").read_bytes() == (tmp_path / "sft.json").read_bytes()
    listed = [
        {line["row"]: line for line in read(tmp_path / f"out-share-{share}.replaced.jsonl")} for share in ("0.25", "1")
    ]
    assert listed[0].items() <= listed[1].items()


@pytest.mark.parametrize("images", list(Images))
def test_a_control_differs_from_its_twin_in_the_captions_alone(tmp_path: Path, images: Images) -> None:
    old = write(tmp_path / "old.json", captions(30, words="Brief"))
    report = made(tmp_path, MixPlan(images), control=open_captions(old))
    new, control = read(tmp_path / "out.json"), read(tmp_path / "out-control.json")
    assert [each.name for each in report.files] == ["out.json", "out-control.json"]
    differ = [(a, b) for a, b in zip(new, control, strict=True) if a != b]
    assert len(differ) == 20
    for a, b in differ:
        assert a["image"] == b["image"]
        assert a["conversations"][1].pop("value").replace("New caption", "Brief") == b["conversations"][1].pop("value")
        assert a == b


def test_a_control_without_words_for_a_picture_keeps_it_out_of_both(tmp_path: Path) -> None:
    old = captions(30, words="Brief")
    old[0]["conversations"][1]["value"] = " "
    report = made(tmp_path, SAME, control=open_captions(write(tmp_path / "old.json", old)))
    assert [each.replaced for each in report.files] == [19, 19]
    assert read(tmp_path / "out.json")[0]["conversations"][1]["value"].startswith("Old caption 0")


def test_weights_split_the_drawn_pictures_by_source(tmp_path: Path) -> None:
    new = captions(40) + captions(40, "sam/images") + captions(40, "llava/pre")
    plan = MixPlan(Images.DRAWN, weights={"coco": 9, "sam": 9, "llava": 3})
    report = made(tmp_path, plan, new)
    assert report.files[0].by_source == {"coco": 9, "sam": 8, "llava": 3}
    shown = Counter(each["image"].split("/")[0] for each in read(tmp_path / "out.json") if "image" in each)
    assert shown["sam"] == 8


def test_the_order_of_the_caption_set_does_not_matter(tmp_path: Path) -> None:
    for name, new in (("a", captions()), ("b", captions()[::-1])):
        (tmp_path / name).mkdir()
        made(tmp_path / name, DRAWN, new)
    assert (tmp_path / "a/out.json").read_bytes() == (tmp_path / "b/out.json").read_bytes()


def test_pictures_without_a_caption_keep_their_rows_and_are_counted(tmp_path: Path) -> None:
    report = made(tmp_path, SAME, captions(8))
    assert (report.files[0].replaced, report.without_caption) == (8, 12)
    assert sum("Old" in each["conversations"][1]["value"] for each in read(tmp_path / "out.json")) == 12


def test_by_name_a_picture_is_found_under_another_folder_unless_two_have_its_name(tmp_path: Path) -> None:
    new = [*captions(10, "mine"), row("x", "other/000000000003.jpg", "<image>\nq", "New of another picture")]
    report = made(tmp_path, MixPlan(Images.SAME, match=Match.NAME), new)
    assert (report.files[0].replaced, report.without_caption, report.ambiguous) == (9, 11, 1)
    shown = read(tmp_path / "out.json")
    assert shown[0]["conversations"][1]["value"] == "New caption 0 of mine."
    assert shown[0]["image"] == "coco/train2017/000000000000.jpg"


def test_a_detailed_question_within_a_longer_conversation_is_left_alone_and_counted(tmp_path: Path) -> None:
    talk = row("t", "coco/1.jpg", "<image>\nDescribe the following image.", "It is.", "Sure?", "Yes.")
    sft = write(tmp_path / "sft.json", [*sft_rows(), talk])
    new = write(tmp_path / "new.json", captions())
    report = make_mixes(sft, open_captions(new), DRAWN, tmp_path / "out.json", Silent())
    assert report.other_detail_rows == 1
    assert read(tmp_path / "out.json")[-1] == talk


@pytest.mark.parametrize("indent", [2, 4])
def test_indented_files_stay_indented_the_same_way(tmp_path: Path, indent: int) -> None:
    sft = write(tmp_path / "sft.json", sft_rows(), indent)
    new = write(tmp_path / "new.json", captions())
    make_mixes(sft, open_captions(new), DRAWN, tmp_path / "out.json", Silent())
    text = (tmp_path / "out.json").read_text()
    assert text == json.dumps(json.loads(text), indent=indent, ensure_ascii=False)


def test_too_few_captions_are_refused_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="20 captions are wanted, there are 7"):
        made(tmp_path, DRAWN, captions(7))
    assert not (tmp_path / "out.json").exists()


def test_a_set_with_other_paths_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--match name"):
        made(tmp_path, SAME, captions(source="elsewhere"))


def test_a_file_without_detailed_rows_is_refused(tmp_path: Path) -> None:
    sft = write(tmp_path / "sft.json", sft_rows()[1:3])
    new = write(tmp_path / "new.json", captions())
    with pytest.raises(InputError, match="no row asks for a detailed description"):
        make_mixes(sft, open_captions(new), SAME, tmp_path / "out.json", Silent())


def test_the_file_that_is_read_is_never_written(tmp_path: Path) -> None:
    sft = write(tmp_path / "sft.json", sft_rows())
    new = write(tmp_path / "new.json", captions())
    with pytest.raises(InputError, match="is the file that is read"):
        make_mixes(sft, open_captions(new), SAME, sft, Silent())


def test_a_caption_cannot_bring_the_placeholder_of_pictures_in(tmp_path: Path) -> None:
    new = [row("0", "coco/train2017/000000000000.jpg", "<image>\nq", "New <image> caption")]
    made(tmp_path, SAME, new)
    assert read(tmp_path / "out.json")[0]["conversations"][1]["value"] == "New  caption"
