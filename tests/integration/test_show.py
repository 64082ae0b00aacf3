"""`sgv show`: one sample of a dataset by its place, from a folder and over HTTP, and the rehearsal of a publication."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sgv_data.cli.app import app
from sgv_data.errors import InputError, RunFolderError, VerifyFailed
from sgv_data.pipeline import active_stages
from sgv_data.progress import Silent
from sgv_data.publish.run import rehearse
from sgv_data.records import SampleRow
from sgv_data.shard.show import fetch_sample
from sgv_data.stage import StageContext
from sgv_data.tables import read_table
from tests.small_run import SmallRun, hashes, small_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = small_run(tmp_path_factory.mktemp("show"), num_images=40)
    run.make("shard", "publish")
    return run


@pytest.fixture
def dataset(made: SmallRun) -> Path:
    return made.run.root / "dataset"


class _WithRanges(SimpleHTTPRequestHandler):
    """Serves files as a web server does that knows `Range`; counts the bytes it sends of tars."""

    sent: list[int]

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last) + 1 if last else len(data), len(data))
        part = data[int(first) : end]
        if path.suffix == ".tar":
            self.sent.append(len(part))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def served(dataset: Path) -> Iterator[tuple[str, list[int]]]:
    sent: list[int] = []
    handler = type("_Handler", (_WithRanges,), {"sent": sent})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(dataset))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()
        thread.join()


def _row(dataset: Path, number: int = 3) -> SampleRow:
    return list(read_table(dataset / "metadata", "samples", SampleRow))[number]


def test_a_sample_is_found_by_key_and_by_image_id(made: SmallRun, dataset: Path) -> None:
    row = _row(dataset)
    sample = fetch_sample(str(dataset), row.key)
    assert sample == fetch_sample(str(made.run.root), row.image_id)
    assert sample.picture == (made.pictures / row.image_id.removeprefix("pics/")).read_bytes()
    assert hashlib.sha256(sample.text.encode()).hexdigest() == row.text_sha256
    assert sample.record["image_id"] == row.image_id


def test_over_http_the_same_sample_comes_by_ranges(dataset: Path, served: tuple[str, list[int]]) -> None:
    url, sent = served
    row = _row(dataset)
    assert fetch_sample(url, row.key) == fetch_sample(str(dataset), row.key)
    assert sent


def test_what_is_not_there_is_an_input_error(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no sample 'pics/nowhere'"):
        fetch_sample(str(dataset), "pics/nowhere")
    with pytest.raises(InputError, match="no such dataset"):
        fetch_sample(str(tmp_path), "pics/nowhere")


def test_changed_bytes_are_noticed(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    row = _row(copy)
    tar = copy / "data" / row.shard
    data = bytearray(tar.read_bytes())
    data[row.text_offset_bytes] ^= 1
    tar.write_bytes(data)
    with pytest.raises(VerifyFailed, match=f"does not hold {row.key} where the index says"):
        fetch_sample(str(copy), row.key)


def test_the_command_prints_the_caption_and_saves_the_picture(dataset: Path, tmp_path: Path) -> None:
    row = _row(dataset)
    done = CliRunner().invoke(app, ["show", str(dataset), row.key, "--save", str(tmp_path / "picture")])
    assert done.exit_code == 0
    assert row.shard in done.output
    assert hashlib.sha256((tmp_path / "picture").read_bytes()).hexdigest() == row.image_sha256


def test_a_rehearsal_says_what_would_be_sent_and_changes_nothing(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=20)
    names = tuple(stage.name for stage in active_stages(made.manifest))
    context = StageContext(made.run, "publish", names, Silent())
    with pytest.raises(RunFolderError, match="publish needs shard, which is not finished"):
        rehearse(made.manifest, context)
    made.make("shard")
    before = hashes(tmp_path)
    plan = rehearse(made.manifest, context)
    assert hashes(tmp_path) == before
    made.make("publish")
    published = hashes(made.run.root / "dataset")
    assert set(plan.send) == published.keys()
    assert plan.num_bytes == sum((made.run.root / "dataset" / name).stat().st_size for name in published)
