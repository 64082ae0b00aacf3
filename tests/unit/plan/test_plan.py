from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sgv_data.api.tokens import image_tokens
from sgv_data.api.wire import RequestTemplate
from sgv_data.errors import ManifestError
from sgv_data.manifest import Manifest
from sgv_data.plan.figures import Plan
from sgv_data.plan.run import make_plan
from sgv_data.progress import Silent
from sgv_data.prompts import load_prompt
from sgv_data.records import ImageReject, ImageRow, StageRecord, image_order
from sgv_data.run_folder import RECORD, RunFolder
from sgv_data.tables import write_table
from tests.servers.collect_run import index_row

SIZES = [(1024, 1024), (2048, 1024), (640, 480), (512, 512)]
"""765, 1105, 425 and 255 tokens with gpt-4o."""


def saved(size_px: tuple[int, int], kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size_px, 99).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:03d}.jpg").write_bytes(saved(SIZES[number % 4]))
    return folder


def manifest(folder: Path, source: dict[str, Any] | None = None, **teacher: Any) -> Manifest:
    return Manifest.model_validate({
        "name": "t", "seed": 3,
        "images": [{"name": "p", "kind": "folder", "path": str(folder), **(source or {})}],
        "teacher": {"model": "gpt-4o", **teacher},
    })  # fmt: skip


def planned(made: Manifest, folder: Path, **options: Any) -> Plan:
    return make_plan(made, RunFolder(folder / "run"), Silent(), **options)


def test_every_picture_is_counted_and_priced(pictures: Path, tmp_path: Path) -> None:
    plan = planned(manifest(pictures), tmp_path)
    text = RequestTemplate(manifest(pictures).teacher, load_prompt("detailed").text)
    total = plan.total
    assert (total.num_found, total.num_asked, total.left_out) == (40, 40, {})
    assert total.image_tokens == 10 * (765 + 1105 + 425 + 255)
    assert total.prompt_tokens == total.image_tokens + 40 * text.likely_text_tokens
    assert total.output_tokens == 40 * 188
    assert total.money["live"].expected_usd == pytest.approx((total.prompt_tokens * 2.5 + 40 * 188 * 10) / 1e6)
    assert total.money["batch"].expected_usd == pytest.approx(total.money["live"].expected_usd / 2)
    assert total.money["live"].most_usd == pytest.approx(
        ((total.image_tokens + 40 * text.most_text_tokens) * 2.5 + 40 * 1024 * 10) / 1e6
    )
    assert (plan.read_from, plan.prices_dated, plan.warnings) == ("headers", "2026-11-22", ())


def test_files_that_are_no_pictures_are_left_out_and_said(pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (pictures / "empty.png").write_bytes(b"")
    (pictures / "tiny.png").write_bytes(saved((9, 40), "PNG"))
    (pictures / "strip.bmp").write_bytes(saved((2000, 20), "BMP"))
    total = planned(manifest(pictures), tmp_path).total
    assert (total.num_found, total.num_asked) == (44, 40)
    assert total.left_out == {"absurd_aspect": 1, "too_small": 1, "unreadable header": 2}


def test_the_pictures_are_those_that_index_would_choose(pictures: Path, tmp_path: Path) -> None:
    from sgv_data.index.run import run
    from sgv_data.stage import StageContext
    from sgv_data.tables import read_table

    for number, path in enumerate(sorted(pictures.iterdir())):  # no two alike, so that none is a duplicate
        Image.effect_noise(SIZES[number % 4], 20 + number).save(path)
    made = manifest(pictures, {"teacher": 13, "expand": "none"})
    context = StageContext(RunFolder(tmp_path / "other"), "index", ("index",), Silent())
    context.folder.mkdir(parents=True)
    run(made, context, num_workers=1)
    chosen = [row for row in read_table(context.folder, "images", ImageRow) if row.for_teacher]
    expected = sum(image_tokens("gpt-4o", row.width_px, row.height_px) or 0 for row in chosen)
    total = planned(made, tmp_path).total
    assert (total.num_asked, total.image_tokens) == (13, expected)


def test_a_tar_is_read_by_its_headers(tmp_path: Path) -> None:
    path = tmp_path / "tars" / "0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("a.jpg", saved((1024, 1024))), ("a.txt", b"A tower."), ("b.png", saved((640, 480), "PNG")),
            ("c.jpg", b"no picture"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    source = {"kind": "webdataset", "path": str(path.parent)}
    plain = planned(manifest(path, source), tmp_path).total
    assert (plain.num_found, plain.num_asked, plain.image_tokens) == (3, 2, 765 + 425)
    offering = planned(manifest(path, {**source, "offer_text": True}), tmp_path).total
    assert 80 < offering.prompt_tokens - plain.prompt_tokens < 160  # one of the two has words
    assert offering.most_prompt_tokens > plain.most_prompt_tokens + 2 * 400


def test_scenes_are_not_drawn_to_know_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgv_data.sources.scenes.scene_bytes", None)
    made = Manifest.model_validate({
        "name": "t", "teacher": {"model": "gpt-4o"},
        "images": [{"name": "s", "kind": "scenes", "count": 900, "prompt": "scene_plain"}],
    })  # fmt: skip
    assert planned(made, tmp_path).total.image_tokens == 900 * 255


def test_a_sample_stands_for_all(pictures: Path, tmp_path: Path) -> None:
    plan = planned(manifest(pictures, {"teacher": 20}), tmp_path, sample=39)
    whole = planned(manifest(pictures, {"teacher": "all"}), tmp_path)
    assert (plan.read_from, plan.total.num_found, plan.total.num_asked) == ("sample", 40, 20)
    assert plan.total.image_tokens == pytest.approx(whole.total.image_tokens / 2, rel=0.05)


# --- a finished index ---


def index(folder: Path, made: Manifest, rows: list[ImageRow]) -> None:
    stage = folder / "run" / "index"
    write_table(stage, "images", ImageRow, sorted(rows, key=lambda row: image_order(row.image_id)))
    spec = made.images[0].model_dump(mode="json", include={"kind", "license", "teacher", "expand", "apart"})
    identity = {"seed": made.seed, "pictures": made.pictures.model_dump(mode="json"), "images": {"p": {**spec, "x": 1}}}
    record = StageRecord(
        stage="index", fingerprint="f", identity=identity, inputs={}, code_version="0", libraries={}, started_utc=""
    )
    (stage / RECORD).write_text(record.model_dump_json())


def rows_of(pictures: Path) -> list[ImageRow]:
    return [
        replace(index_row(path, for_teacher=number % 2 == 0), image_id=f"p/{path.name}", source="p", location=path.name)
        for number, path in enumerate(sorted(pictures.iterdir()))
    ]


def test_a_finished_index_is_used_instead_of_headers(pictures: Path, tmp_path: Path) -> None:
    made, rows = manifest(pictures), rows_of(pictures)
    rows[1] = replace(rows[1], reject=ImageReject.DUPLICATE_OF, duplicate_of=rows[0].image_id)
    index(tmp_path, made, rows)
    for path in pictures.iterdir():
        path.unlink()
    plan = planned(made, tmp_path)
    assert (plan.read_from, plan.total.num_found, plan.total.num_asked) == ("index", 40, 20)
    assert plan.total.image_tokens == 10 * (765 + 425)
    assert plan.total.left_out == {"duplicate_of": 1}


def test_an_index_with_other_quotas_is_not(pictures: Path, tmp_path: Path) -> None:
    index(tmp_path, manifest(pictures), rows_of(pictures))
    plan = planned(manifest(pictures, {"teacher": 5}), tmp_path)
    assert (plan.read_from, plan.total.num_asked) == ("headers", 5)


# --- time, warnings ---


@pytest.mark.parametrize(("limits", "binding", "seconds"), [
    ({"requests_per_minute": 10}, "requests per minute", 240),
    ({"in_flight": 2}, "requests in flight", 100),
    ({"requests_per_minute": 10, "in_flight": 1}, "requests per minute", 240),
])  # fmt: skip
def test_the_limit_that_binds_sets_the_time(
    pictures: Path, tmp_path: Path, limits: dict[str, float], binding: str, seconds: float
) -> None:
    live = planned(manifest(pictures, limits=limits), tmp_path).live
    assert (live.binding, live.seconds) == (binding, pytest.approx(seconds))


def test_the_token_limit_counts_the_reserved_answer(pictures: Path, tmp_path: Path) -> None:
    plan = planned(manifest(pictures, limits={"tokens_per_minute": 60_000}), tmp_path)
    assert plan.live.binding == "tokens per minute"
    assert plan.live.seconds == pytest.approx((plan.total.prompt_tokens + 40 * 1024) / 1000)


def test_endpoints_add_up(pictures: Path, tmp_path: Path) -> None:
    endpoints = [{"name": name, "limits": {"requests_per_minute": 10}} for name in "ab"]
    assert planned(manifest(pictures, endpoints=endpoints), tmp_path).live.seconds == pytest.approx(120)


def test_a_high_rate_is_reached_slowly_at_a_provider_that_wants_it_so() -> None:
    from sgv_data.plan.figures import SourcePlan
    from sgv_data.plan.limits import RAMP, duration

    numbers = {name: 0 for name, each in SourcePlan.model_fields.items() if each.annotation is int}
    numbers |= {"num_asked": 100_000, "prompt_tokens": 100_000_000}
    total = SourcePlan(name="all", left_out={}, money={}, **numbers)
    teacher = manifest(Path("p"), limits={"tokens_per_minute": 4_048_000, "in_flight": 10_000}).teacher
    steady = duration(teacher, total, None, "http://localhost/v1")
    ramped = duration(teacher, total, None, None)
    assert steady.seconds == pytest.approx(60 * 50, rel=1e-3)
    # Grown by half every 15 minutes from one million per minute: 51.7 minutes until 4.048 million, then the rest.
    assert ramped.seconds == pytest.approx(60 * (51.74 + (202.4 - 112.8) / 4.048), rel=5e-3)
    assert (steady.binding, ramped.binding) == ("tokens per minute", RAMP)


def test_batches_follow_their_limits(pictures: Path, tmp_path: Path) -> None:
    plan = planned(manifest(pictures, batch={"max_requests": 15, "max_enqueued_tokens": 20_000}), tmp_path)
    assert plan.batches.num_files == 3
    assert plan.batches.rounds == -(-plan.total.prompt_tokens // 20_000)


@pytest.mark.parametrize(("teacher", "says"), [
    ({"model": "gpt-4o-mini"}, "pictures cost 2.0 times as much with gpt-4o-mini"),
    ({"model": "gpt-5.6-luna", "image": {"detail": "auto"}}, "14,100 tokens instead of 2,942"),
    ({"model": "gpt-5.5", "image": {"detail": "auto"}}, "11,868 tokens instead of 2,942"),
    ({"model": "my-llava"}, "image tokens are an upper bound"),
    ({"model": "my-llava"}, "no price is known for my-llava"),
    ({"budget_usd": 0.05}, "will stop collect after about"),
    ({"limits": {"tokens_per_minute": 1000}}, "more than the 1,000 tokens allowed per minute"),
])  # fmt: skip
def test_what_costs_more_than_one_thinks_is_said(
    pictures: Path, tmp_path: Path, teacher: dict[str, Any], says: str
) -> None:
    assert says in "\n".join(planned(manifest(pictures, **teacher), tmp_path).warnings)


def test_detail_low_may_cost_more_than_high(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(saved((2048, 2048)))
    plan = planned(manifest(folder, model="gpt-5.4", image={"detail": "low"}), tmp_path)
    assert "1.6 times as many tokens as high" in plan.warnings[0]


def test_pictures_that_the_provider_turns_down_are_not_counted_as_asked(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(saved((6000, 6000)))
    (folder / "b.jpg").write_bytes(saved((1024, 1024)))
    plan = planned(manifest(folder, model="gpt-5.6-luna", image={"detail": "original"}), tmp_path)
    assert (plan.total.num_asked, plan.total.num_too_large, plan.total.image_tokens) == (1, 1, 1229)
    assert "1 pictures have more patches" in "\n".join(plan.warnings)


def test_variants_are_priced_like_the_plan_itself(pictures: Path, tmp_path: Path) -> None:
    what_ifs = {each.label: each for each in planned(manifest(pictures), tmp_path).what_ifs}
    low = planned(manifest(pictures, image={"detail": "low"}), tmp_path).total
    assert what_ifs["detail: low"].image_tokens_each == 85
    assert what_ifs["detail: low"].money == low.money
    other = planned(manifest(pictures, model="gpt-4.1-mini"), tmp_path).total
    assert what_ifs["model: gpt-4.1-mini"].money == other.money
    assert "detail: high" not in what_ifs
    assert "model: gpt-4o" not in what_ifs


def test_an_unknown_prompt_is_told(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nothing_like_it"):
        planned(manifest(pictures, {"prompt": "nothing_like_it"}), tmp_path)


def test_the_command_prints_it(pictures: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sgv_data.cli.app import app

    (tmp_path / "m.yaml").write_text(json.dumps(manifest(pictures).model_dump(mode="json", exclude_defaults=True)))
    shown = CliRunner().invoke(app, ["plan", str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")])
    assert shown.exit_code == 0, shown.output
    assert "25,500" in shown.output
    as_json = CliRunner().invoke(
        app, ["plan", str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--json", "--detail", "low", "-q"]
    )
    assert Plan.model_validate_json(as_json.stdout).total.image_tokens == 40 * 85
    assert not (tmp_path / "runs").exists()


def test_variants_of_very_many_sizes_are_near_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from sgv_data.plan.pictures import SourcePictures
    from sgv_data.plan.what_if import what_ifs

    made = manifest(Path("p"))
    width_px, height_px = (side.ravel() for side in np.meshgrid(np.arange(300, 1500, 20), np.arange(300, 1500, 20)))
    count = np.ones(len(width_px))
    pictures = [SourcePictures("p", 3600, {}, 3600, 3600, 1e6, 0.0, width_px, height_px, count)]
    exact = what_ifs(made, pictures, None)
    monkeypatch.setattr("sgv_data.plan.what_if._MOST_SIZES", 100)
    for thin, whole in zip(what_ifs(made, pictures, None), exact, strict=True):
        assert thin.money["live"].expected_usd == pytest.approx(whole.money["live"].expected_usd, rel=0.02)
