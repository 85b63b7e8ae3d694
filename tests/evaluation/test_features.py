"""Feature extractors: the right layer of each kind of model, and pictures that reach it unharmed."""

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from hf_genkit.data.augmentation import Augmentation
from hf_genkit.data.images import ArrayImageDataset
from hf_genkit.data.pixels import image_processor_for
from hf_genkit.evaluation.features import FeatureExtractor, default_device, picture_batches, slugify


VIT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10,
}  # fmt: skip
DINO = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2,
    "image_size": 28, "patch_size": 14, "num_labels": 10,
}  # fmt: skip
CONVOLUTIONS = {"num_channels": 1, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 10}


def vit_classifier():
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(**VIT))


def dino():
    torch.manual_seed(0)
    return Dinov2Model(Dinov2Config(**DINO))


def pixels(n=6, channels=1, size=8):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8))


@torch.no_grad()
def outputs(model, values, **options):
    return model.eval()(pixel_values=values, **options)


# ---- Which layer ----


@pytest.mark.parametrize(
    ("model_class", "config", "size"),
    [
        (ViTForImageClassification, ViTConfig(**VIT), 16),
        (ConvNextForImageClassification, ConvNextConfig(**CONVOLUTIONS, num_stages=2, patch_size=2), 16),
        (ResNetForImageClassification, ResNetConfig(**CONVOLUTIONS, embedding_size=8, layer_type="basic"), 16),
        (Dinov2ForImageClassification, Dinov2Config(**DINO | {"num_channels": 1, "patch_size": 4}), 32),
    ],
)
def test_a_classifier_gives_what_its_last_layer_sees(model_class, config, size):
    torch.manual_seed(0)
    model = model_class(config)
    features = FeatureExtractor(model)(pixels())
    assert features.shape == (6, size)
    head = [part for part in model.modules() if isinstance(part, torch.nn.Linear)][-1]
    logits = outputs(model, pixels() / 127.5 - 1).logits
    torch.testing.assert_close(head(features.float()), logits)


def test_a_base_model_gives_its_pooled_output():
    torch.manual_seed(0)
    vit, resnet = ViTModel(ViTConfig(**VIT)), ResNetModel(ResNetConfig(**CONVOLUTIONS, embedding_size=8))
    values = pixels() / 127.5 - 1
    torch.testing.assert_close(FeatureExtractor(vit)(pixels()).float(), outputs(vit, values).pooler_output)
    features = FeatureExtractor(resnet)(pixels())
    assert features.shape == (6, 16)
    torch.testing.assert_close(features.float(), outputs(resnet, values).pooler_output[:, :, 0, 0])


def test_a_pooler_that_came_without_weights_is_passed_over(tmp_path):
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT), add_pooling_layer=False).save_pretrained(tmp_path)
    image_processor_for(1, 8).save_pretrained(tmp_path)
    extractor = FeatureExtractor(str(tmp_path))
    class_token = outputs(extractor.model, pixels() / 127.5 - 1).last_hidden_state[:, 0]
    torch.testing.assert_close(extractor(pixels()).float(), class_token)


def test_without_pooler_and_class_token_the_tokens_are_averaged():
    torch.manual_seed(0)
    config = SwinConfig(
        image_size=16, patch_size=4, num_channels=1, embed_dim=8, depths=[1], num_heads=[1], window_size=2
    )
    model = SwinModel(config, add_pooling_layer=False)
    hidden = outputs(model, pixels(size=16) / 127.5 - 1).last_hidden_state
    torch.testing.assert_close(FeatureExtractor(model)(pixels(size=16)).float(), hidden.mean(1))


def test_a_folder_with_a_classifier_is_loaded_as_one(tmp_path):
    model = vit_classifier()
    model.save_pretrained(tmp_path)
    image_processor_for(1, 8).save_pretrained(tmp_path)
    loaded, given = FeatureExtractor(str(tmp_path)), FeatureExtractor(model, image_processor_for(1, 8))
    assert torch.equal(loaded(pixels()), given(pixels()))
    assert loaded.fingerprint == given.fingerprint


# ---- Which pictures ----


def test_scores_survive_saving_as_png():
    extractor = FeatureExtractor(vit_classifier())
    levels = pixels()
    between = (levels.float() / 127.5 - 1 + 0.4 / 127.5).clamp(-1, 1)
    assert torch.equal(extractor(between), extractor(levels))


def test_grey_pictures_are_repeated_for_a_model_of_colours():
    extractor = FeatureExtractor(dino(), image_processor_for(3, 28), size=28)
    assert torch.equal(extractor(pixels()), extractor(pixels().expand(-1, 3, -1, -1)))


def test_size_replaces_the_processors_resizing_and_keeps_its_colours():
    model, processor = dino(), image_processor_for(3, 56, mean=0.3, std=0.2)
    expected = outputs(model, image_processor_for(3, 28, mean=0.3, std=0.2)(list(pixels(3, 3, 28)), return_tensors="pt")["pixel_values"])  # fmt: skip
    features = FeatureExtractor(model, processor, size=28)(pixels(3, 3, 28))
    torch.testing.assert_close(features.float(), expected.pooler_output)


def test_positions_are_interpolated_for_another_size():
    model = vit_classifier()
    features = FeatureExtractor(model, size=16)(pixels(size=16))
    logits = outputs(model, pixels(size=16) / 127.5 - 1, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(model.classifier(features.float()), logits)


def test_every_way_to_hand_pictures_over_gives_the_same_features():
    extractor = FeatureExtractor(vit_classifier(), batch_size=4)
    whole = extractor(pixels(10))
    data = ArrayImageDataset(pixels(10).numpy(), np.zeros(10, dtype=np.int64), augmentation=Augmentation(flip=True))
    for pictures in (pixels(10).numpy(), data, pixels(10).split(3), (part.numpy() for part in pixels(10).split(7))):
        torch.testing.assert_close(extractor(pictures), whole)
    assert whole.dtype == torch.float64


def test_the_model_never_sees_more_than_a_batch_and_the_iterator_is_read_as_needed():
    model, read, seen = vit_classifier(), [], []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((len(kwargs["pixel_values"]), len(read))), with_kwargs=True
    )

    def stream():
        for part in pixels(12).split(6):
            read.append(1)
            yield part

    FeatureExtractor(model, batch_size=4)(stream())
    assert seen == [(4, 1), (2, 1), (4, 2), (2, 2)]


def test_the_training_mode_is_restored_and_dropout_is_off():
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(**VIT, hidden_dropout_prob=0.5)).train()
    extractor = FeatureExtractor(model)
    assert torch.equal(extractor(pixels()), extractor(pixels()))
    assert model.training


def test_a_model_in_half_precision_is_fed_its_own_type():
    model = ResNetModel(ResNetConfig(**CONVOLUTIONS, embedding_size=8)).to(torch.bfloat16)
    assert FeatureExtractor(model)(pixels()).dtype == torch.float64


# ---- Names and hashes ----


def test_scores_are_named_after_the_model(tmp_path):
    dino().save_pretrained(tmp_path / "dinov2-small")
    image_processor_for(3, 28).save_pretrained(tmp_path / "dinov2-small")
    extractor = FeatureExtractor(str(tmp_path / "dinov2-small"), size=56)
    assert (extractor.name, extractor.slug) == ("DINOv2-S at 56 px", "dinov2_s_56")
    extractor = FeatureExtractor(str(tmp_path / "dinov2-small"))
    assert (extractor.name, extractor.slug) == ("DINOv2-S", "dinov2_s")
    assert FeatureExtractor(vit_classifier()).name == "ViT-16"
    named = FeatureExtractor(vit_classifier(), name="Fashion-MNIST classifier", size=32)
    assert (named.name, named.slug) == ("Fashion-MNIST classifier at 32 px", "fashion_mnist_classifier_32")
    assert slugify("a__b (c)") == "a_b_c"


def test_the_fingerprint_tells_weights_and_preparation_apart():
    def prints(model=None, processor=None, **options):
        return FeatureExtractor(model or vit_classifier(), processor, **options).fingerprint

    other_weights = vit_classifier()
    with torch.no_grad():
        other_weights.vit.layernorm.bias[0] += 1e-3
    activation = ViTForImageClassification(ViTConfig(**VIT, hidden_act="relu"))
    activation.load_state_dict(vit_classifier().state_dict())
    found = [
        prints(),
        prints(other_weights),
        prints(activation),
        prints(vit_classifier().to(torch.bfloat16)),
        prints(size=16),
        prints(processor=image_processor_for(1, 8)),
        prints(processor=image_processor_for(1, 8, mean=0.4)),
    ]
    assert len(set(found)) == len(found)
    assert prints() == prints(batch_size=3, name="another")


# ---- Bad input ----


def test_bad_input_is_named():
    extractor = FeatureExtractor(vit_classifier())
    with pytest.raises(ValueError, match=r"BertModel takes input_ids"):
        FeatureExtractor(BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)))
    with pytest.raises(ValueError, match="`size` is 0"):
        FeatureExtractor(vit_classifier(), size=0)
    with pytest.raises(ValueError, match=r"got \[8, 8\]"):
        extractor(pixels()[0, 0])
    with pytest.raises(ValueError, match="got str"):
        extractor(["a.png"])
    with pytest.raises(ValueError, match=r"got \[6, 2, 8, 8\]"):
        extractor(pixels(channels=2))
    with pytest.raises(ValueError, match="There is no picture"):
        extractor([])


def test_batches_hold_uint8():
    batches = list(picture_batches(pixels(5).float() / 127.5 - 1, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), pixels(5))


@pytest.mark.parametrize(("usable", "expected"), [(True, "cuda"), (False, "cpu")])
def test_a_pytorch_that_was_built_for_an_accelerator_which_is_not_there_runs_on_the_cpu(monkeypatch, usable, expected):
    def current_accelerator(check_available=False):
        return torch.device("cuda") if usable or not check_available else None

    monkeypatch.setattr(torch.accelerator, "current_accelerator", current_accelerator)
    assert default_device() == torch.device(expected)
