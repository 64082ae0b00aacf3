"""When `collect` stops by itself: no request will work, no money is left. Rows stay pending, answers are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.collect.watch import Watch
from sgv_data.errors import BudgetReached, ManifestError, ProviderError
from sgv_data.records import FailureClass, Outcome
from tests.servers.collect_run import PRICE, captions, collect, make_index, make_manifest
from tests.servers.fault_server import OK, Act, FaultServer, always, answer, error

WORST_USD = (6 + 21 + 16 + 50 * 2) / 1e6
"""One picture: 6 tokens of image, 21 bytes of prompt, what the chat adds, 50 tokens out."""

STOPS = {
    "no credit": error(429, "insufficient_quota", "insufficient_quota"),
    "no credit, type only": error(429, None, "insufficient_quota"),
    "billing limit as 400": error(400, "billing_hard_limit_reached", "invalid_request_error"),
    "wrong key": error(401, "invalid_api_key"),
    "forbidden": error(403),
    "unknown model": error(404, "model_not_found"),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_fault_of_the_whole_run_stops_it_and_rows_stay_pending(
    tmp_path: Path, server: FaultServer, name: str
) -> None:
    server.script = lambda _, __: STOPS[name] if len(server.times) > 10 else OK
    make_index(tmp_path, 60)
    manifest = make_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError):
        collect(manifest, tmp_path)
    assert len(server.times) <= 10 + 4
    server.script = always(OK)
    collect(manifest, tmp_path)
    assert set(server.answered.values()) == {1}
    assert {caption.outcome for caption in captions(tmp_path).values()} == {Outcome.OK}


def test_what_is_in_the_air_when_the_run_stops_is_stored(tmp_path: Path, server: FaultServer) -> None:
    server.script = lambda _, __: error(401) if len(server.times) == 4 else Act(sleep_s=0.2)
    make_index(tmp_path, 20)
    manifest = make_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError):
        collect(manifest, tmp_path)
    server.script = always(OK)
    collect(manifest, tmp_path)
    assert set(server.answered.values()) == {1}


def test_what_is_in_the_air_when_an_error_nobody_foresaw_ends_the_run_is_stored(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick(*_: object, last: bool = False, **__: object) -> None:
        if len(server.times) >= 4 and not last:
            raise RuntimeError("unforeseen")

    server.script = always(Act(sleep_s=0.5))
    make_index(tmp_path, 20)
    manifest = make_manifest(tmp_path, server.base_url)
    with monkeypatch.context() as patched:
        patched.setattr(Watch, "tick", tick)
        with pytest.raises(RuntimeError, match="unforeseen"):
            collect(manifest, tmp_path)
    server.script = always(OK)
    collect(manifest, tmp_path)
    assert set(server.answered.values()) == {1}


def test_settings_that_every_request_is_turned_down_for_stop_the_run(tmp_path: Path, server: FaultServer) -> None:
    server.script = always(error(400, "unsupported_parameter", "invalid_request_error"))
    make_index(tmp_path, 40)
    with pytest.raises(ProviderError, match="unsupported_parameter"):
        collect(make_manifest(tmp_path, server.base_url), tmp_path)
    assert len(server.times) <= 5 + 4


@pytest.mark.parametrize(("code", "failure"), [
    ("content_policy_violation", FailureClass.BLOCKED),
    ("invalid_image_format", FailureClass.BAD_IMAGE),
    ("string_above_max_length", FailureClass.BAD_REQUEST),
])
def test_a_refused_picture_ends_alone(tmp_path: Path, server: FaultServer, code: str, failure: FailureClass) -> None:
    rows = make_index(tmp_path, 10)
    server.script = lambda sha256, _: error(400, code, "invalid_request_error") if sha256 == rows[3].sha256 else OK
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    failed = {row.image_id: row.failure for row in captions(tmp_path).values() if row.failure}
    assert failed == {rows[3].image_id: failure}


def test_a_server_that_is_not_there_stops_the_run_with_its_address(tmp_path: Path) -> None:
    make_index(tmp_path, 30)
    with pytest.raises(ProviderError, match=r"no server answers at http://127\.0\.0\.1:9/v1"):
        collect(make_manifest(tmp_path, "http://127.0.0.1:9/v1"), tmp_path)


def test_a_server_that_goes_down_leaves_the_rest_pending(tmp_path: Path, server: FaultServer) -> None:
    server.script = lambda _, __: Act(503, b"down") if len(server.times) > 20 else OK
    make_index(tmp_path, 60)
    manifest = make_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError, match="in a row"):
        collect(manifest, tmp_path)
    server.script = always(OK)
    assert collect(manifest, tmp_path).failed == {}
    assert set(server.answered.values()) == {1}


def test_without_a_key_the_providers_own_address_is_never_called(tmp_path: Path) -> None:
    make_index(tmp_path, 1)
    manifest = make_manifest(tmp_path, "http://unused").model_dump()
    manifest["teacher"] |= {"base_url": None, "api_key_env": "MY_API_KEY"}
    with pytest.raises(ProviderError, match="MY_API_KEY"):
        collect(make_manifest(tmp_path, "http://unused").model_validate(manifest), tmp_path)


def test_the_key_comes_from_the_named_variable_and_stays_out_of_files(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-verysecret123")
    make_index(tmp_path, 2)
    collect(make_manifest(tmp_path, server.base_url, api_key_env="MY_API_KEY"), tmp_path)
    assert set(server.keys) == {"sk-verysecret123"}
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"verysecret" not in path.read_bytes()


def test_a_key_from_a_file_is_used_and_never_shown(tmp_path: Path, server: FaultServer) -> None:
    (tmp_path / "key").write_text("plain-words-as-key\n")
    server.script = lambda _, __: Act(401, b'{"error": {"message": "wrong key: plain-words-as-key"}}')
    make_index(tmp_path, 2)
    with pytest.raises(ProviderError, match=r"wrong key: \*\*\*") as stopped:
        collect(make_manifest(tmp_path, server.base_url, api_key_file=str(tmp_path / "key")), tmp_path)
    assert set(server.keys) == {"plain-words-as-key"}
    assert "plain-words" not in str(stopped.value)
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"plain-words" not in path.read_bytes()


def test_a_dead_server_is_not_hammered(tmp_path: Path, server: FaultServer) -> None:
    make_index(tmp_path, 150)
    server.script = lambda _, __: Act(500, b"down") if len(server.times) > 20 else OK
    retry = {"attempts": 2, "max_wait_s": 0.1}
    with pytest.raises(ProviderError, match="in a row"):
        collect(make_manifest(tmp_path, server.base_url, limits={"in_flight": 8}, retry=retry), tmp_path)
    assert len(server.times) <= 20 + 10 + 8 + 2 * 2


def test_rows_turned_down_by_wrong_settings_are_pending_afterwards(tmp_path: Path, server: FaultServer) -> None:
    server.script = always(error(400, "context_length_exceeded", "invalid_request_error"))
    make_index(tmp_path, 10)
    manifest = make_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError, match="context_length_exceeded"):
        collect(manifest, tmp_path)
    server.script = always(OK)
    assert collect(manifest, tmp_path).num_out == 10


# --- money ---


def test_the_budget_is_never_exceeded_and_the_run_goes_on_when_it_is_raised(
    tmp_path: Path, server: FaultServer
) -> None:
    make_index(tmp_path, 60)
    each_usd = (100 * 1 + 20 * 2) / 1e6
    manifest = make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=20.5 * each_usd)
    with pytest.raises(BudgetReached):
        collect(manifest, tmp_path)
    spent_usd = sum(server.answered.values()) * each_usd
    assert 20.5 * each_usd - WORST_USD - each_usd <= spent_usd <= 20.5 * each_usd
    num_before = sum(server.asked.values())
    with pytest.raises(BudgetReached):
        collect(manifest, tmp_path)
    assert sum(server.asked.values()) == num_before
    report = collect(make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0), tmp_path)
    assert report.notes["spent_usd"] == pytest.approx(60 * each_usd)
    assert set(server.answered.values()) == {1}


def test_a_request_without_an_answer_counts_as_billed(tmp_path: Path, server: FaultServer) -> None:
    server.script = always(Act(sleep_s=0.3), OK)
    make_index(tmp_path, 1)
    report = collect(
        make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0, timeout_s=0.1), tmp_path
    )
    spent_usd = report.notes["spent_usd"]
    assert isinstance(spent_usd, float)
    assert spent_usd > 140e-6 + 100e-6


@pytest.mark.parametrize("usage", [
    {"prompt_tokens": 5000, "completion_tokens": 900},
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": -7, "completion_tokens": 1e300},
    None,
])  # fmt: skip
def test_no_lie_about_usage_leads_beyond_the_cap(
    tmp_path: Path, server: FaultServer, usage: dict[str, float] | None
) -> None:
    make_index(tmp_path, 60)
    body = answer("A picture.", usage=usage)
    server.script = always(Act(200, body))
    believed = (5000 + 900 * 2) / 1e6 if usage and usage["prompt_tokens"] == 5000 else WORST_USD
    manifest = make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=10.5 * believed)
    with pytest.raises(BudgetReached):
        collect(manifest, tmp_path)
    assert sum(server.answered.values()) in (9, 10)


def test_an_unknown_price_is_refused_with_both_ways_out(tmp_path: Path, server: FaultServer) -> None:
    make_index(tmp_path, 1)
    with pytest.raises(ManifestError, match=r"teacher\.price\.input_usd=.*teacher\.price=unknown"):
        collect(make_manifest(tmp_path, server.base_url, price=None), tmp_path)
    assert not server.times


def test_a_budget_without_a_known_price_is_refused_before_anything_is_sent(
    tmp_path: Path, server: FaultServer
) -> None:
    make_index(tmp_path, 1)
    with pytest.raises(ManifestError, match=r"teacher\.price"):
        collect(make_manifest(tmp_path, server.base_url, budget_usd=1.0, price=None), tmp_path)
    assert not server.times
