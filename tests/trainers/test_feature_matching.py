"""A student's hidden states held against a teacher's: the right layers, widths and positions."""

import pytest
import torch
from transformers import AutoModelForImageClassification, ResNetConfig, ViTConfig
from transformers.utils import ModelOutput

from hf_genkit.losses import attention_transfer, feature_mse, linear_cka, similarity
from hf_genkit.trainers.companions import attach
from hf_genkit.trainers.feature_matching import FeatureMatcher

from .tiny import tiny_model


TEXT, WIDE = [(2, 7, 4)] * 3, [(2, 7, 6)] * 5
FEATURES = {"mse": 1.0, "attention": 1000.0, "cka": 0.5}
RELATIONS = {"similarity": 3000.0}


def states(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def outputs(shapes, **more):
    return ModelOutput(hidden_states=states(shapes), **more)


def image_model(config, **options):
    torch.manual_seed(0)
    return AutoModelForImageClassification.from_config(config(num_channels=1, num_labels=3, **options))


def resnet(*sizes):
    return image_model(
        ResNetConfig, embedding_size=4, hidden_sizes=list(sizes), depths=[1] * len(sizes), layer_type="basic"
    )


def vit(patch):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return image_model(ViTConfig, image_size=32, patch_size=patch, **sizes)


def image_size(model):
    return model.config.image_size if isinstance(model.config, ViTConfig) else 32


IMAGES = {
    "resnet": lambda: resnet(4, 8),
    "deep resnet": lambda: resnet(8, 8, 12),
    "vit": lambda: vit(16),
    "fine vit": lambda: vit(8),
    "convnext": lambda: tiny_model("convnext"),
}


@pytest.mark.parametrize(
    ("layer_map", "ours", "theirs", "pairs"),
    [
        ("last", 3, 5, [(2, 4)]),
        ("uniform", 3, 5, [(1, 2), (2, 4)]),
        ("uniform", 4, 13, [(1, 4), (2, 8), (3, 12)]),
        ("uniform", 5, 3, [(1, 1), (2, 1), (3, 2), (4, 2)]),
        ("uniform", 7, 3, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)]),
        ([[0, 0], [-1, -1], [1, -2]], 3, 5, [(0, 0), (2, 4), (1, 3)]),
    ],
)
def test_layers_are_mapped_as_documented(layer_map, ours, theirs, pairs):
    matcher = FeatureMatcher([(2, 7, 4)] * ours, [(2, 7, 4)] * theirs, {"mse": 1.0}, {}, layer_map)
    assert matcher.pairs == pairs


@pytest.mark.parametrize(
    ("pair", "whose"), [([3, 0], "student's layers go from 0"), ([0, 5], "teacher's layers"), ([-4, 0], "-3 to -1")]
)
def test_a_layer_out_of_range_is_named_with_its_range(pair, whose):
    with pytest.raises(ValueError, match=whose) as refused:
        FeatureMatcher(TEXT, WIDE, {"attention": 1.0}, {}, [pair])
    assert str(pair) in str(refused.value)


def test_terms_are_means_over_the_mapped_pairs_and_relations_compare_the_last_states():
    matcher = FeatureMatcher(TEXT, TEXT, FEATURES, RELATIONS, [[0, 1], [2, 2]])
    ours, theirs = states(TEXT), states(TEXT, seed=1)
    mask = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    found = matcher(outputs(TEXT), theirs, mask)
    assert list(found) == list(matcher.weights) == ["mse_loss", "attention_loss", "cka_loss", "similarity_loss"]
    assert matcher.weights["attention_loss"] == 1000.0
    for name, loss in (("mse", feature_mse), ("attention", attention_transfer), ("cka", linear_cka)):
        expected = (loss(ours[0], theirs[1], mask) + loss(ours[2], theirs[2], mask)) / 2
        torch.testing.assert_close(found[f"{name}_loss"], expected)
    pooled = [torch.stack([state[0].mean(0), state[1, :3].mean(0)]) for state in (ours[2], theirs[2])]
    torch.testing.assert_close(found["similarity_loss"], similarity(*pooled))


def test_relations_alone_need_no_layers_and_no_projector():
    matcher = FeatureMatcher(TEXT, WIDE, {}, RELATIONS, [[9, 9]], "none")
    assert matcher.pairs == []
    assert list(matcher(outputs(TEXT), states(WIDE, seed=1))) == ["similarity_loss"]


@pytest.mark.parametrize(
    ("features", "teacher", "projector", "names"),
    [
        ({"mse": 1.0}, WIDE, "auto", ["1-2", "2-4"]),
        ({"mse": 1.0}, TEXT, "auto", []),
        ({"mse": 1.0}, TEXT, "always", ["1-1", "2-2"]),
        ({"attention": 1.0, "cka": 1.0}, WIDE, "auto", []),
        ({"attention": 1.0}, WIDE, "none", []),
    ],
)
def test_projectors_are_made_where_they_are_needed(features, teacher, projector, names):
    projectors = FeatureMatcher(TEXT, teacher, features, {}, "uniform", projector).projectors()
    assert list(projectors) == names
    assert all(linear.weight.shape == (teacher[0][-1], 4) for linear in projectors.values())


def test_a_projector_needed_but_off_is_refused():
    with pytest.raises(ValueError, match="`projector` is 'none', but 'mse' needs equal widths and layer 2") as refused:
        FeatureMatcher(TEXT, WIDE, FEATURES, {}, projector="none")
    assert "4 channels, layer 4 of the teacher 6" in str(refused.value)


def test_texts_cut_into_other_tokens_are_refused():
    for features, relations in (({"cka": 1.0}, {}), ({}, RELATIONS)):
        with pytest.raises(ValueError, match="reads a sample as 7 tokens and the teacher as 9"):
            FeatureMatcher(TEXT, [(2, 9, 4)] * 3, features, relations)


def test_tokens_that_are_no_square_of_patches_are_refused():
    with pytest.raises(ValueError, match="An image is 24 tokens of a model"):
        FeatureMatcher([(2, 17, 4)], [(2, 24, 4)], {"attention": 1.0}, {}, images=True)


def test_a_map_of_one_cell_is_no_map_of_attention():
    """The term would be 0 whatever the student does."""
    shapes = [(2, 4, 4, 4), (2, 8, 2, 2)], [(2, 6, 2, 2), (2, 12, 1, 1)]
    with pytest.raises(ValueError, match="layer 1 of the student or layer 1 of the teacher has a single position"):
        FeatureMatcher(*shapes, {"attention": 1000.0}, {})
    assert FeatureMatcher(*shapes, {"attention": 1000.0}, {}, [[1, 0]]).pairs == [(1, 0)]
    assert FeatureMatcher(*shapes, {"mse": 1.0}, {}).pairs == [(1, 1)]


@pytest.mark.parametrize("teacher", IMAGES)
@pytest.mark.parametrize("student", IMAGES)
def test_image_models_of_any_two_kinds_are_compared_and_trained(student, teacher):
    student, teacher = IMAGES[student](), IMAGES[teacher]()
    ours, theirs = ({"pixel_values": torch.rand(3, 1, size, size)} for size in map(image_size, (student, teacher)))
    with torch.no_grad():
        wanted = teacher(**theirs, output_hidden_states=True).hidden_states
        shapes = [state.shape for state in student(**ours, output_hidden_states=True).hidden_states]
    matcher = FeatureMatcher(
        shapes, [state.shape for state in wanted], FEATURES, RELATIONS, "uniform", "always", images=True
    )
    attach(student, matcher.projectors(), matcher.project)
    terms = matcher(student(**ours, output_hidden_states=True), wanted)
    assert all(value.shape == (3,) for value in terms.values())
    sum(value.sum() for value in terms.values()).backward()
    assert all(linear.weight.grad.abs().sum() > 0 for linear in student.companions.values())
    assert "projected" not in student(**ours)


def test_a_patch_is_compared_with_the_cell_of_the_map_at_its_place():
    """A map whose only active cell is the last is nearest to tokens whose last patch is active, behind a class token."""
    grid = torch.zeros(1, 2, 4, 4)
    grid[0, :, 3, 3] = 1.0
    matcher = FeatureMatcher([grid.shape], [(1, 5, 3)], {"attention": 1.0}, {})
    values = []
    for place in range(1, 5):
        tokens = torch.zeros(1, 5, 3)
        tokens[:, 0] = 9.0
        tokens[0, place] = 1.0
        values.append(matcher(ModelOutput(hidden_states=(grid,)), (tokens,))["attention_loss"].item())
    assert values[3] == pytest.approx(0.0, abs=1e-6)
    assert min(values[:3]) > 0.1


def test_a_map_is_projected_along_its_channels():
    shapes = [(2, 3, 5, 4)], [(2, 6, 5, 4)]
    matcher = FeatureMatcher(*shapes, {"mse": 1.0}, {})
    projectors = matcher.projectors()
    state = states(shapes[0])[0]
    projected = matcher.project(projectors, outputs(shapes[0]), {})["projected"]["0-0"]
    torch.testing.assert_close(projected[1, :, 4, 2], projectors["0-0"](state[1, :, 4, 2]))
    half = ModelOutput(hidden_states=(state.bfloat16(),))
    assert matcher.project(projectors, half, {})["projected"]["0-0"].dtype == torch.float32
