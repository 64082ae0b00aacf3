from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from sgv_data.api.client import PROVIDER_URL, find_endpoint
from sgv_data.api.keys import SentImage
from sgv_data.api.wire import RequestTemplate
from sgv_data.errors import ProviderError
from sgv_data.manifest import Teacher

IMAGE = SentImage("a" * 64, "image/png", 10, 20, 3)
PROMPT = 'Say "what" you see: é @image@ \\ ok.'


def body(**teacher: Any) -> dict[str, Any]:
    template = RequestTemplate(Teacher.model_validate({"model": "gpt-4o", **teacher}), PROMPT)
    parsed: dict[str, Any] = json.loads(template.body(IMAGE, b"\x00\xffx"))
    return parsed


def test_the_text_comes_first_and_the_picture_last() -> None:
    text, image = body()["messages"][0]["content"]
    assert text == {"type": "text", "text": PROMPT}
    url = "data:image/png;base64," + base64.b64encode(b"\x00\xffx").decode()
    assert image == {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def test_only_what_the_manifest_sets_is_sent() -> None:
    assert set(body(temperature=None)) == {"model", "messages", "max_completion_tokens"}
    assert body(seed=3)["seed"] == 3
    old = body(token_limit_name="max_tokens", max_completion_tokens=9)
    assert (old["max_tokens"], "max_completion_tokens" in old) == (9, False)


def key(image: SentImage = IMAGE, prompt: str = PROMPT, **teacher: Any) -> str:
    return RequestTemplate(Teacher.model_validate({"model": "gpt-4o", **teacher}), prompt).key(image)


@pytest.mark.parametrize("change", [
    {"model": "gpt-4.1"}, {"temperature": 0.2}, {"temperature": None}, {"seed": 1}, {"max_completion_tokens": 7},
    {"token_limit_name": "max_tokens"}, {"image": {"detail": "low"}}, {"prompt": "Other."},
    {"image_": SentImage("b" * 64, "image/png", 10, 20, 3)}, {"image_": SentImage("a" * 64, "image/jpeg", 10, 20, 3)},
])  # fmt: skip
def test_whatever_the_model_is_asked_is_in_the_key(change: dict[str, Any]) -> None:
    arguments = {("image" if name == "image_" else name): value for name, value in change.items()}
    if "image" in change:
        assert key() != RequestTemplate(Teacher.model_validate({"model": "gpt-4o", **change}), PROMPT).key(IMAGE)
    else:
        assert key() != key(**arguments)


@pytest.mark.parametrize("change", [
    {"timeout_s": 1.0}, {"limits": {"in_flight": 3}}, {"retry": {"attempts": 1}}, {"base_url": "http://localhost:1"},
    {"budget_usd": 2.0}, {"api_key_env": "OTHER_KEY"}, {"price": {"input_usd": 1, "output_usd": 1}},
])  # fmt: skip
def test_the_manner_of_asking_is_not_in_the_key(change: dict[str, Any]) -> None:
    assert key() == key(**change)


def test_the_key_of_a_known_request_stays_what_it_is() -> None:
    hashed = (
        '{"max_completion_tokens":1024,"messages":[{"content":[{"text":"Describe.","type":"text"},{"image_url":'
        f'{{"detail":"high","url":"data:image/png;sha256,{"a" * 64}"}},"type":"image_url"}}],"role":"user"}}],'
        '"model":"gpt-4o","temperature":0.7}'
    )
    assert key(prompt="Describe.") == hashlib.sha256(hashed.encode()).hexdigest()


def test_token_bounds_hold_the_prompt() -> None:
    template = RequestTemplate(Teacher(model="gpt-4o"), "word " * 100)
    assert 100 < template.likely_text_tokens < template.most_text_tokens == 516


# --- where it goes ---


def test_the_manifests_address_wins_over_the_environments() -> None:
    environment = {"OPENAI_BASE_URL": "http://env/v1", "OPENAI_API_KEY": "k"}
    assert find_endpoint("http://manifest/v1", "OPENAI_API_KEY", environment).base_url == "http://manifest/v1"
    assert find_endpoint(None, "OPENAI_API_KEY", environment).base_url == "http://env/v1"
    assert find_endpoint(None, "OPENAI_API_KEY", {"OPENAI_API_KEY": "k"}).base_url == PROVIDER_URL


def test_a_server_of_ones_own_needs_no_key() -> None:
    assert find_endpoint("http://localhost:1/v1", "OPENAI_API_KEY", {}).key == "none"
    assert find_endpoint(None, "OPENAI_API_KEY", {"OPENAI_BASE_URL": "http://localhost:1/v1"}).key == "none"


def test_the_provider_needs_one_and_the_message_names_the_variable() -> None:
    with pytest.raises(ProviderError, match="MY_KEY"):
        find_endpoint(None, "MY_KEY", {"OPENAI_API_KEY": "other"})


def test_a_key_is_not_in_the_repr() -> None:
    assert "topsecret" not in repr(find_endpoint(None, "K", {"K": "topsecret"}))
