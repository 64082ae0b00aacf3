from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from sgv_data.captioner.tiny import TEST_SIZE, TinySize, build_tiny  # noqa: E402

CAPTIONS = [
    "A red circle sits at the left of the picture, on a plain white background.",
    "Two blue squares: one is large, the other small.",
    "The word OPEN is printed across the top; nothing else is there to see.",
]
PROMPT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe this picture."}]}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny(made, CAPTIONS)
    return made


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)


@pytest.fixture
def model(folder: Path) -> Any:
    return transformers.AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def asked(processor: Any, pictures: list[Image.Image], prompts: list[str] | None = None) -> Any:
    question = processor.apply_chat_template(PROMPT, add_generation_prompt=True)
    texts = [question] * len(pictures) if prompts is None else prompts
    return processor(text=texts, images=pictures, return_tensors="pt", padding=True)


def test_the_default_is_small(model: Any) -> None:
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


def test_the_number_of_image_tokens_is_that_of_the_size(processor: Any, model: Any) -> None:
    inputs = asked(processor, [Image.new("RGB", (40, 90), "red")])
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == TEST_SIZE.image_tokens
    assert model(**inputs).logits.shape[:2] == inputs["input_ids"].shape


@pytest.mark.parametrize("size_px", [(8, 8), (400, 30), (31, 700)])
def test_pictures_of_all_proportions_are_squeezed_to_the_square(processor: Any, size_px: tuple[int, int]) -> None:
    pixels = asked(processor, [Image.new("RGB", size_px)])["pixel_values"]
    assert tuple(pixels.shape) == (1, 3, TEST_SIZE.side_px, TEST_SIZE.side_px)


def test_the_template_asks_and_ends_an_answer_with_the_end_token(processor: Any) -> None:
    question = processor.apply_chat_template(PROMPT, add_generation_prompt=True)
    assert question == "USER: <image>\nDescribe this picture. ASSISTANT:"
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}
    assert processor.apply_chat_template([*PROMPT, answer]) == f"{question} A dog.</s>"
    end = processor.tokenizer(f"{question} A dog.</s>")["input_ids"][-1]
    assert end == processor.tokenizer.eos_token_id


@pytest.mark.parametrize("text", [*CAPTIONS, "naïve – 漢字 🙂\n  twice  spaced"])
def test_the_tokenizer_gives_every_text_back(processor: Any, text: str) -> None:
    assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_frequent_words_are_one_token(processor: Any) -> None:
    assert len(processor.tokenizer.tokenize(" picture")) == 1


def test_a_left_padded_batch_scores_like_single_pictures(processor: Any, model: Any) -> None:
    pictures = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    question = processor.apply_chat_template(PROMPT, add_generation_prompt=True)
    prompts = [question, question.replace("Describe this picture.", "Describe this very large picture in many words.")]
    together = asked(processor, pictures, prompts)
    assert together["attention_mask"][0, 0] == 0
    with torch.no_grad():
        last = model(**together).logits[:, -1]
        singly = [model(**asked(processor, [p], [t])).logits[0, -1] for p, t in zip(pictures, prompts, strict=True)]
    torch.testing.assert_close(last, torch.stack(singly), rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_weights(tmp_path: Path) -> None:
    for name in ("one", "other"):
        torch.manual_seed(5)
        build_tiny(tmp_path / name, CAPTIONS)
    one, other = (sorted((tmp_path / name).iterdir()) for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_it_learns_to_say_a_caption_and_to_end_it(processor: Any, model: Any) -> None:
    inputs = asked(processor, [Image.new("RGB", (32, 32), "green")])
    answer = processor.tokenizer(" Two blue squares.</s>", return_tensors="pt")["input_ids"]
    ids = torch.cat([inputs["input_ids"], answer], dim=1)
    labels = torch.cat([torch.full_like(inputs["input_ids"], -100), answer], dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        loss = model(input_ids=ids, pixel_values=inputs["pixel_values"], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    written = model.eval().generate(**inputs, max_new_tokens=30, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert written[-1] == processor.tokenizer.eos_token_id
    assert processor.tokenizer.decode(written, skip_special_tokens=True).strip() == "Two blue squares."


def test_another_size_is_kept_in_the_saved_model(tmp_path: Path) -> None:
    build_tiny(tmp_path, CAPTIONS, TinySize(side_px=48, patch_px=16, language_blocks=1))
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert (config.vision_config.image_size, config.text_config.num_hidden_layers) == (48, 1)
