from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sgv_data.collect.control import Control, Tune, leave_tune
from sgv_data.manifest import Limits, Manifest
from sgv_data.manifest_file import load_manifest

MANIFEST = """
name: test
images: [{kind: scenes, name: a, count: 3, prompt: detailed}]
teacher:
  model: fake
  endpoints:
    - {name: one, limits: {requests_per_minute: RATE, in_flight: 3}}
    - {name: two, limits: {tokens_per_minute: 5000}}
"""


class Fleet:
    """Remembers limits."""

    def __init__(self) -> None:
        self._limits = {"one": Limits(requests_per_minute=100, in_flight=3), "two": Limits(tokens_per_minute=5000)}

    def limits(self) -> dict[str, Limits]:
        return dict(self._limits)

    def change(self, name: str, limits: Limits) -> None:
        self._limits[name] = limits


class Setup:
    def __init__(self, folder: Path) -> None:
        self.file, self.stage = folder / "m.yaml", folder / "collect"
        self.write(100)
        self.fleet, self.said, self.now = Fleet(), list[str](), 0.0
        manifest = load_manifest(self.file)
        self.control = Control(self.stage, manifest, self.said.append, clock=lambda: self.now)

    def write(self, rate: int) -> None:
        self.file.write_text(MANIFEST.replace("RATE", str(rate)))

    def look(self) -> None:
        self.now += 1.0
        self.control.look(self.fleet)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_a_word_for_all_endpoints_changes_what_it_names_and_is_taken_away(setup: Setup) -> None:
    leave_tune(setup.stage, Tune(in_flight=50))
    setup.look()
    assert setup.fleet.limits() == {
        "one": Limits(requests_per_minute=100, in_flight=50), "two": Limits(tokens_per_minute=5000, in_flight=50)
    }  # fmt: skip
    assert not list((setup.stage / "tune").glob("*.json"))
    assert setup.said[0].startswith("limits of one from now on: requests_per_minute 100, tokens_per_minute unlimited")


def test_a_word_for_one_endpoint_may_take_a_limit_away(setup: Setup) -> None:
    leave_tune(setup.stage, Tune(endpoint="one", requests_per_minute=None))
    setup.look()
    assert setup.fleet.limits()["one"] == Limits(in_flight=3)
    assert setup.fleet.limits()["two"] == Limits(tokens_per_minute=5000)


def test_words_are_obeyed_in_their_order(setup: Setup) -> None:
    for number in (7, 9, 8):
        leave_tune(setup.stage, Tune(endpoint="two", in_flight=number))
    setup.look()
    assert setup.fleet.limits()["two"].in_flight == 8


def test_the_disk_is_looked_at_once_a_second(setup: Setup) -> None:
    setup.look()
    leave_tune(setup.stage, Tune(in_flight=50))
    setup.control.look(setup.fleet)
    assert setup.fleet.limits()["one"].in_flight == 3


def test_what_was_left_for_an_earlier_command_is_forgotten(setup: Setup) -> None:
    leave_tune(setup.stage, Tune(in_flight=50))
    later = Control(setup.stage, load_manifest(setup.file), setup.said.append, clock=lambda: 9.0)
    later.look(setup.fleet)
    assert setup.fleet.limits()["one"].in_flight == 3


def test_a_word_that_cannot_be_understood_is_said_and_changes_nothing(setup: Setup) -> None:
    (setup.stage / "tune").mkdir(parents=True)
    (setup.stage / "tune" / "1.json").write_text('{"in_flight": -4}')
    setup.look()
    assert setup.fleet.limits()["one"].in_flight == 3
    assert "cannot be understood" in setup.said[0]


def test_the_edited_manifest_is_read_again_when_it_is_wanted(setup: Setup) -> None:
    setup.write(900)
    setup.look()
    assert setup.fleet.limits()["one"].requests_per_minute == 100
    setup.control.wants_reload()
    setup.look()
    assert setup.fleet.limits()["one"].requests_per_minute == 900
    assert len(setup.said) == 1


def test_a_manifest_with_a_mistake_changes_nothing(setup: Setup) -> None:
    setup.write(-1)
    setup.control.wants_reload()
    setup.look()
    assert setup.fleet.limits()["one"].requests_per_minute == 100
    assert "limits stay as they are" in setup.said[0]


def test_a_manifest_without_a_file_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    manifest = Manifest.model_validate({
        "name": "x", "images": [{"kind": "scenes", "name": "a", "count": 1}], "teacher": {"model": "m"},
    })  # fmt: skip
    control = Control(tmp_path, manifest, said.append, clock=lambda: 0.0)
    control.wants_reload()
    control.look(Fleet())
    assert said == ["limits stay as they are: the manifest came from no file"]


@pytest.mark.parametrize("wrong", [{"in_flight": 0}, {"requests_per_minute": -1}, {"tokens_per_minute": 0}])
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Tune.model_validate(wrong)
