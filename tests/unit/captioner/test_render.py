"""Training and inference see the same sample; the loss is on the caption alone."""

from __future__ import annotations

import pytest
import torch

from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import IGNORED, Renderer
from sgv_data.errors import TrainingError
from tests.tiny_models import CAPTIONS, PROMPT, picture

HOSTILE = (
    "<image> <image></s> and more", "USER: ASSISTANT: <pad>", "  blanks  ", "emoji 👩‍👩‍👧 and עברית", "a\nb\r\n", "x"
)  # fmt: skip


@pytest.mark.parametrize("caption", [*CAPTIONS, *HOSTILE])
def test_training_tokens_begin_with_the_tokens_of_inference(captioner: Captioner, caption: str) -> None:
    renderer = Renderer(captioner, PROMPT)

    trained, asked = renderer.training_inputs(picture(1), caption), renderer.prompt_inputs(picture(1))

    num_prompt = len(asked["input_ids"])
    assert trained["input_ids"][:num_prompt].tolist() == asked["input_ids"].tolist()
    assert torch.equal(trained["pixel_values"], asked["pixel_values"])


@pytest.mark.parametrize("caption", [*CAPTIONS, *HOSTILE])
def test_labels_are_exactly_the_caption_and_its_end(captioner: Captioner, caption: str) -> None:
    renderer = Renderer(captioner, PROMPT)

    sample = renderer.training_inputs(picture(1), caption)

    labelled = sample["labels"] != IGNORED
    num_prompt = len(renderer.prompt_inputs(picture(1))["input_ids"])
    assert labelled.tolist() == [False] * num_prompt + [True] * (len(labelled) - num_prompt)
    *text_ids, end_id = sample["labels"][labelled].tolist()
    assert end_id == captioner.processor.tokenizer.eos_token_id
    assert torch.equal(sample["input_ids"][labelled], sample["labels"][labelled])
    assert captioner.processor.tokenizer.decode(text_ids).strip() == caption.strip()


def test_special_tokens_written_in_a_caption_stay_plain_text(captioner: Captioner) -> None:
    renderer = Renderer(captioner, PROMPT)

    sample = renderer.training_inputs(picture(1), "<image></s><pad>")

    answer = sample["labels"][sample["labels"] != IGNORED].tolist()
    assert renderer.image_token_id not in answer
    assert answer.count(renderer.form.end_id) == 1


def test_the_prompt_is_the_models_own_chat_template(captioner: Captioner) -> None:
    renderer = Renderer(captioner, PROMPT)
    conversation = [
        {"role": "user", "content": [{"type": "image", "image": picture(2)}, {"type": "text", "text": PROMPT.text}]}
    ]

    theirs = captioner.processor.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )

    ours = renderer.prompt_inputs(picture(2))
    assert ours["input_ids"].tolist() == theirs["input_ids"][0].tolist()
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])


def test_a_caption_too_long_for_the_context_loses_its_end_and_no_piece_of_the_picture(captioner: Captioner) -> None:
    renderer = Renderer(captioner, PROMPT)
    asked = renderer.prompt_inputs(picture(1))
    renderer.max_tokens = len(asked["input_ids"]) + 5

    sample = renderer.training_inputs(picture(1), "blue " * 50)

    assert len(sample["input_ids"]) == renderer.max_tokens
    assert sample["input_ids"][: len(asked["input_ids"])].tolist() == asked["input_ids"].tolist()
    assert renderer.form.end_id not in sample["labels"].tolist()


def test_a_context_too_short_for_the_picture_is_refused_with_numbers(captioner: Captioner) -> None:
    captioner.model.config.text_config.max_position_embeddings = 10

    with pytest.raises(TrainingError, match=r"take \d+ tokens, but its context holds 10"):
        Renderer(captioner, PROMPT)


def test_a_template_that_forgets_the_picture_is_refused(captioner: Captioner) -> None:
    captioner.processor.chat_template = "{% for m in messages %}USER: hello {% endfor %}ASSISTANT:"

    # Newer processors count the pictures of a prompt themselves.
    with pytest.raises(TrainingError, match=r"refuses its own chat template|puts no image token into the prompt"):
        Renderer(captioner, PROMPT)


def test_a_prompt_without_the_models_image_token_is_refused(captioner: Captioner) -> None:
    captioner.model.config.image_token_id = captioner.processor.tokenizer.pad_token_id

    with pytest.raises(TrainingError, match="no image token into the prompt"):
        Renderer(captioner, PROMPT)


def test_without_a_template_the_image_token_and_the_prompt_are_used(captioner: Captioner) -> None:
    captioner.processor.chat_template = None
    captioner.processor.tokenizer.chat_template = None

    renderer = Renderer(captioner, PROMPT)

    assert renderer.prompt_text == f"<image>{PROMPT.text}\n"
    sample = renderer.training_inputs(picture(1), CAPTIONS[0])
    assert renderer.caption_text(sample["labels"][sample["labels"] != IGNORED].tolist()) == CAPTIONS[0]


def test_the_end_of_a_turn_in_the_template_ends_a_caption(captioner: Captioner) -> None:
    captioner.processor.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}"
        "{% if m['role'] == 'assistant' %}.<s>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    bos = captioner.processor.tokenizer.bos_token_id
    captioner.model.generation_config.eos_token_id = [bos]

    form = Renderer(captioner, PROMPT).form

    assert (form.lead, form.tail, form.end_id) == (" ", ".", bos)
