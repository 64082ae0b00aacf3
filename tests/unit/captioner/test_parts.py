"""What is trained is what the manifest says, and the table adds up."""

from __future__ import annotations

import pytest

from sgv_data.captioner.load import Captioner
from sgv_data.captioner.parts import Part, block_of, part_lines, part_of, set_trained_parts
from sgv_data.errors import TrainingError
from sgv_data.manifest import TrainedParts


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.vision_tower.encoder.layers.3.mlp.fc1.weight", Part.VISION),
        ("model.vision_tower.vision_model.embeddings.class_embedding", Part.VISION),
        ("model.multi_modal_projector.linear_1.weight", Part.PROJECTOR),
        ("model.language_model.layers.0.mlp.up_proj.weight", Part.LANGUAGE),
        ("lm_head.weight", Part.LANGUAGE),
        ("model.visual.blocks.7.attn.qkv.weight", Part.VISION),
        ("model.visual.merger.mlp.0.weight", Part.PROJECTOR),
        ("model.visual.deepstack_merger_list.1.linear_fc1.weight", Part.PROJECTOR),
        ("model.vision_model.encoder.layers.0.layer_norm1.weight", Part.VISION),
        ("model.connector.modality_projection.proj.weight", Part.PROJECTOR),
        ("model.text_model.layers.4.self_attn.q_proj.weight", Part.LANGUAGE),
        ("vision_model.encoder.layers.0.self_attn.qkv.weight", Part.VISION),
        ("qformer.encoder.layer.0.attention.attention.query.weight", Part.PROJECTOR),
        ("language_projection.weight", Part.PROJECTOR),
    ],
)
def test_parameters_of_known_models_are_told_apart(name: str, part: Part) -> None:
    assert part_of(name) is part


def test_blocks_are_numbered() -> None:
    assert block_of("model.vision_tower.encoder.layers.12.mlp.fc1.weight") == 12
    assert block_of("model.visual.blocks.7.attn.qkv.weight") == 7
    assert block_of("model.vision_tower.post_layernorm.weight") is None


def trained(captioner: Captioner) -> set[str]:
    return {name for name, parameter in captioner.model.named_parameters() if parameter.requires_grad}


def test_a_frozen_part_is_left_alone(captioner: Captioner) -> None:
    set_trained_parts(captioner.model, TrainedParts(vision="frozen", projector="full", language="frozen"))

    assert {part_of(name) for name in trained(captioner)} == {Part.PROJECTOR}


def test_blocks_from_n_on_are_trained_and_nothing_else_in_the_vision_tower(captioner: Captioner) -> None:
    set_trained_parts(captioner.model, TrainedParts(vision="from_block_1", projector="frozen", language="frozen"))

    names = trained(captioner)
    assert {block_of(name) for name in names} == {1}
    assert all(part_of(name) is Part.VISION for name in names)


def test_above_the_blocks_of_the_language_model_is_trained_with_them(captioner: Captioner) -> None:
    set_trained_parts(captioner.model, TrainedParts(vision="frozen", projector="frozen", language="from_block_1"))

    names = trained(captioner)
    assert "model.language_model.norm.weight" in names
    assert not any("embed_tokens" in name or ".layers.0." in name for name in names)


def test_the_table_adds_up_to_the_model(captioner: Captioner) -> None:
    sizes = set_trained_parts(captioner.model, TrainedParts(vision="from_block_1"))

    total = sum(parameter.numel() for parameter in captioner.model.parameters())
    assert sum(size.num_parameters for size in sizes) == total
    assert sum(size.weight_bytes for size in sizes) == 4 * total
    wanted = sum(parameter.numel() for parameter in captioner.model.parameters() if parameter.requires_grad)
    assert sum(size.num_trained for size in sizes) == wanted
    assert sum(size.num_bytes for size in sizes) == 4 * total + 3 * 4 * wanted
    lines = part_lines(sizes)
    assert [line.split()[0] for line in lines] == ["part", "vision", "projector", "language", "total"]
    assert f"{(4 * total + 12 * wanted) / 1e6:,.1f} MB" in lines[-1]


def test_a_block_that_is_not_there_is_refused_with_the_number_there_is(captioner: Captioner) -> None:
    with pytest.raises(TrainingError, match=r"parts\.vision is from_block_2, but .* has 2 blocks"):
        set_trained_parts(captioner.model, TrainedParts(vision="from_block_2"))


def test_nothing_to_train_is_refused(captioner: Captioner) -> None:
    with pytest.raises(TrainingError, match="every part is frozen"):
        set_trained_parts(captioner.model, TrainedParts(vision="frozen", projector="frozen", language="frozen"))


def test_a_model_without_a_projector_is_refused_where_one_is_to_be_trained(captioner: Captioner) -> None:
    del captioner.model.model.multi_modal_projector

    with pytest.raises(TrainingError, match=r"parts\.projector is full, but .* has no such part"):
        set_trained_parts(captioner.model, TrainedParts())
