"""Conversations: the same tokens as the model's own chat template makes, and a loss on the answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
import torch

from sgv_data.captioner.collate import collate
from sgv_data.captioner.conversation import ConversationRenderer, Exchange, TooLong
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import IGNORED, Inputs, Renderer
from tests.tiny_models import CAPTIONS, PROMPT, build_folder, load, picture
from tests.tiny_others import BUILDERS

TALK = (
    Exchange("<image>\nWhat is this?", CAPTIONS[0]),
    Exchange("Which colour is it?", "It is red."),
    Exchange("Are you sure?", "Yes, I am."),
)
WITH_TEMPLATE = ["llava", "gemma3", "idefics3"]


@pytest.fixture(scope="module", params=WITH_TEMPLATE)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    """A model of each architecture that comes with a chat template."""
    folder: Path = tmp_path_factory.mktemp(request.param) / "model"
    return load({"llava": build_folder, **BUILDERS}[request.param](folder))


def answers(renderer: Renderer, sample: Inputs) -> list[str]:
    """The texts of the unbroken runs of labels."""
    runs = groupby(sample["labels"].tolist(), lambda label: label != IGNORED)
    return [renderer.tokenizer.decode(list(run)) for told, run in runs if told]


def by_own_template(renderer: Renderer, exchanges: Sequence[Exchange], number: int | None) -> list[int]:
    """The whole conversation as the model's processor tokenises it in one go."""
    messages = []
    for place, exchange in enumerate(exchanges):
        parts: list[dict[str, object]] = [{"type": "text", "text": exchange.asked.replace("<image>\n", "")}]
        if place == 0 and number is not None:
            parts.insert(0, {"type": "image", "image": picture(number)})
        messages.append({"role": "user", "content": parts})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": exchange.answered}]})
    encoded = renderer.processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    ids: list[int] = encoded["input_ids"][0].tolist()
    return ids


def test_tokens_are_those_of_the_models_own_template(model: Captioner) -> None:
    renderer = ConversationRenderer(model, PROMPT)

    ours = renderer.conversation_inputs(TALK, [picture(1)])["input_ids"].tolist()

    theirs = by_own_template(renderer, TALK, 1)
    assert ours == theirs[: len(ours)]
    # What is left is behind the token that ends the last answer.
    assert not renderer.caption_text(theirs[len(ours) :]).strip()


def test_the_loss_is_on_every_answer_with_its_end_and_on_nothing_else(model: Captioner) -> None:
    renderer = ConversationRenderer(model, PROMPT)
    end = renderer.tokenizer.eos_token

    sample = renderer.conversation_inputs(TALK, [picture(1)])

    told = [answer.strip() for answer in answers(renderer, sample)]
    assert told == [f"{exchange.answered}{end}" for exchange in TALK]
    shown = sample["labels"] != IGNORED
    assert torch.equal(sample["labels"][shown], sample["input_ids"][shown])


def test_one_exchange_is_what_a_caption_is(model: Captioner) -> None:
    renderer = ConversationRenderer(model, PROMPT)

    talk = renderer.conversation_inputs([Exchange(f"<image>\n{PROMPT.text}", CAPTIONS[1])], [picture(2)])
    caption = renderer.training_inputs(picture(2), CAPTIONS[1])

    assert talk.keys() == caption.keys()
    assert all(torch.equal(talk[name], caption[name]) for name in talk)


def test_text_alone_has_no_picture(captioner: Captioner) -> None:
    renderer = ConversationRenderer(captioner, PROMPT)

    sample = renderer.conversation_inputs([Exchange("Hello.", "Good day."), Exchange("And?", "Bye.")], [])

    assert set(sample) == {"input_ids", "attention_mask", "labels"}
    assert answers(renderer, sample) == [" Good day.</s>", " Bye.</s>"]


def test_special_tokens_in_what_people_say_stay_text(captioner: Captioner) -> None:
    renderer = ConversationRenderer(captioner, PROMPT)

    sample = renderer.conversation_inputs([Exchange("Is <image> or </s> a token?", "No: </s> is <image> text.")], [])

    ids = sample["input_ids"]
    assert not bool((ids == renderer.image_token_id).any())
    assert int((ids == captioner.processor.tokenizer.eos_token_id).sum()) == 1
    assert answers(renderer, sample) == [" No: </s> is <image> text.</s>"]


def test_the_picture_stands_where_the_text_says(tmp_path: Path) -> None:
    renderer = ConversationRenderer(load(BUILDERS["gemma3"](tmp_path / "model")), PROMPT)

    before, behind = (
        renderer.conversation_inputs([Exchange(text, "Yes.")], [picture(1)])["input_ids"].tolist()
        for text in ("<image>\nIs it?", "Is it?\n<image>")
    )

    assert before.index(renderer.image_token_id) < behind.index(renderer.image_token_id)
    assert before.count(renderer.image_token_id) == behind.count(renderer.image_token_id) == 4


@pytest.mark.parametrize("max_tokens", [45, 60])
def test_a_long_conversation_loses_its_end_and_no_image_token(captioner: Captioner, max_tokens: int) -> None:
    whole = ConversationRenderer(captioner, PROMPT).conversation_inputs(TALK, [picture(1)])
    cut = ConversationRenderer(captioner, PROMPT, max_tokens).conversation_inputs(TALK, [picture(1)])

    assert len(cut["input_ids"]) == max_tokens
    assert all(torch.equal(cut[name], whole[name][:max_tokens]) for name in ("input_ids", "labels"))
    image = captioner.model.config.image_token_id
    assert int((cut["input_ids"] == image).sum()) == int((whole["input_ids"] == image).sum())


def test_a_question_that_fills_the_context_is_too_long(captioner: Captioner) -> None:
    with pytest.raises(TooLong):
        ConversationRenderer(captioner, PROMPT, 50).conversation_inputs([Exchange("why " * 200, "Because.")], [])


def test_a_batch_with_and_without_pictures_gives_the_losses_of_its_samples(captioner: Captioner) -> None:
    renderer = ConversationRenderer(captioner, PROMPT)
    samples = [
        renderer.conversation_inputs(TALK, [picture(1)]),
        renderer.conversation_inputs([Exchange("Hello.", "Good day.")], []),
        renderer.conversation_inputs(TALK[:1], [picture(2)]),
    ]

    with torch.inference_mode():
        alone = [captioner.model(**collate([sample], "right", renderer.pad_id)) for sample in samples]
        together = captioner.model(**collate(samples, "right", renderer.pad_id))

    for row, each, sample in zip(together.logits, alone, samples, strict=True):
        torch.testing.assert_close(row[: len(sample["input_ids"])], each.logits[0], atol=1e-4, rtol=1e-4)


def test_an_answer_of_paligemma_does_not_look_ahead(tmp_path: Path) -> None:
    model = load(BUILDERS["paligemma"](tmp_path / "model"))
    renderer = Renderer(model, PROMPT)
    sample = renderer.training_inputs(picture(1), CAPTIONS[0])
    other = {**sample, "input_ids": sample["input_ids"].clone()}
    other["input_ids"][-2] = (other["input_ids"][-2] + 1) % 100 + 4

    with torch.inference_mode():
        first, second = (model.model(**collate([each], "right", 0)).logits[0] for each in (sample, other))

    torch.testing.assert_close(first[:-2], second[:-2])
    assert not torch.allclose(first[-2:], second[-2:])
