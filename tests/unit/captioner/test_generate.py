"""Captions depend on their pictures alone, and say how they ended."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from sgv_data.captioner.cache import RoomyLayer, roomy_cache
from sgv_data.captioner.collate import collate
from sgv_data.captioner.decode import can_roll
from sgv_data.captioner.generate import CaptionGenerator, greedy_settings, is_out_of_memory
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import Renderer
from tests.tiny_models import PROMPT, picture, teach_to_stop

MAX_NEW_TOKENS = 24


@pytest.fixture
def generator(captioner: Captioner) -> CaptionGenerator:
    """A model whose captions differ from picture to picture and, as many tokens end one, in length."""
    teach_to_stop(captioner)
    renderer = Renderer(captioner, PROMPT)
    renderer.end_ids = list(range(0, len(captioner.processor.tokenizer), 9))
    return CaptionGenerator(captioner, renderer, MAX_NEW_TOKENS)


def test_a_batch_in_any_order_equals_one_by_one(captioner: Captioner, generator: CaptionGenerator) -> None:
    renderer = Renderer(captioner, PROMPT)
    samples = [renderer.prompt_inputs(picture(number)) for number in range(8)]
    alone = [generator.write([sample])[0] for sample in samples]
    assert len({each.text for each in alone}) > 1

    for seed in range(3):
        order = random.Random(seed).sample(range(8), 8)
        together = generator.write([samples[place] for place in order])
        assert together == [alone[place] for place in order]


def test_padding_changes_no_caption(captioner: Captioner, generator: CaptionGenerator) -> None:
    renderer = Renderer(captioner, PROMPT)
    short, long = renderer.prompt_inputs(picture(1)), renderer.prompt_inputs(picture(2))
    for name in ("input_ids", "attention_mask"):
        long[name] = torch.cat([long[name][:1], long[name]])

    assert generator.write([short, long]) == [*generator.write([short]), *generator.write([long])]


def test_a_caption_cut_at_the_limit_says_length(captioner: Captioner) -> None:
    renderer = Renderer(captioner, PROMPT)
    renderer.end_ids = []

    (written,) = CaptionGenerator(captioner, renderer, MAX_NEW_TOKENS).write([renderer.prompt_inputs(picture(1))])

    assert (written.finish_reason, written.completion_tokens) == ("length", MAX_NEW_TOKENS)


def test_a_caption_that_ends_says_stop_and_has_no_end_token_in_its_text(captioner: Captioner) -> None:
    renderer = Renderer(captioner, PROMPT)
    prompt = collate([renderer.prompt_inputs(picture(1))], "left", renderer.pad_id)
    renderer.end_ids = [captioner.model.generate(**prompt, max_new_tokens=1, do_sample=False)[0, -1].item()]

    (written,) = CaptionGenerator(captioner, renderer, MAX_NEW_TOKENS).write([renderer.prompt_inputs(picture(1))])

    assert (written.finish_reason, written.completion_tokens, written.text) == ("stop", 1, "")


@pytest.mark.parametrize("own_decoding", [True, False])
def test_the_models_own_sampling_is_not_used_and_not_lost(
    captioner: Captioner, generator: CaptionGenerator, monkeypatch: pytest.MonkeyPatch, own_decoding: bool
) -> None:
    monkeypatch.setattr("sgv_data.captioner.decode.can_roll", lambda model: own_decoding)
    sample = Renderer(captioner, PROMPT).prompt_inputs(picture(1))
    greedy = generator.write([sample])
    own = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=3.0, max_new_tokens=2)
    captioner.model.generation_config = own

    assert generator.write([sample]) == greedy
    assert captioner.model.generation_config is own


def test_no_more_tokens_than_the_context_holds(captioner: Captioner) -> None:
    renderer = Renderer(captioner, PROMPT)
    sample = renderer.prompt_inputs(picture(1))
    renderer.max_tokens = len(sample["input_ids"]) + 3
    renderer.end_ids = []

    (written,) = CaptionGenerator(captioner, renderer, MAX_NEW_TOKENS).write([sample])

    assert written.completion_tokens == 3


def test_the_cache_holds_what_transformers_own_holds() -> None:
    roomy, plain = RoomyLayer(), DynamicCache()
    torch.manual_seed(0)
    for num_tokens in (70, 1, 1, 64, 1, 200):
        keys, values = torch.randn(2, 3, num_tokens, 4), torch.randn(2, 3, num_tokens, 4)
        ours, theirs = roomy.update(keys, values), plain.update(keys, values, 0)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    roomy.batch_select_indices(torch.tensor([1]))
    plain.batch_select_indices(torch.tensor([1]))
    more = torch.randn(1, 3, 1, 4)

    assert torch.equal(roomy.update(more, more)[0], plain.update(more, more, 0)[0])


def test_a_model_with_sliding_windows_keeps_its_own_cache(captioner: Captioner) -> None:
    text = captioner.model.config.text_config
    assert roomy_cache(captioner.model) is not None
    text.sliding_window, text.layer_types = 8, ["sliding_attention"] * text.num_hidden_layers

    assert roomy_cache(captioner.model) is None


def test_settings_recorded_are_the_settings_used() -> None:
    assert greedy_settings(7) == {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "max_new_tokens": 7}


def test_out_of_memory_is_known_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)

    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_our_own_decoding_gives_what_transformers_generate_gives(
    captioner: Captioner, generator: CaptionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer(captioner, PROMPT)
    samples = [renderer.prompt_inputs(picture(number)) for number in range(12)]
    for name in ("input_ids", "attention_mask"):
        samples[3][name] = torch.cat([samples[3][name][:1], samples[3][name]])
    ours = generator.write(samples)
    assert len({each.completion_tokens for each in ours}) > 2

    monkeypatch.setattr("sgv_data.captioner.decode.can_roll", lambda model: False)

    assert generator.write(samples) == ours


def test_a_model_whose_positions_are_not_plainly_counted_goes_through_generate(captioner: Captioner) -> None:
    assert can_roll(captioner.model)
    captioner.model.config.model_type = "idefics3"

    assert not can_roll(captioner.model)
