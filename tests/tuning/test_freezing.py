"""Freezing: what is frozen doesn't move, neither by gradients nor by weight decay nor in running statistics."""

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification
from transformers.utils import logging

from hf_genkit.trainers.finetuning_config import FineTuningConfig
from hf_genkit.trainers.finetuning_trainer import FineTuningTrainer
from hf_genkit.tuning import GradualUnfreezing, freeze_layers, parameter_depths
from tests.trainers.tiny import Samples, pad, tiny_model


logging.disable_progress_bar()


def frozen_depths(model: nn.Module) -> set[int]:
    """Depths at which something is frozen, after checking that nothing at these depths is trainable."""
    depths = parameter_depths(model)
    frozen = {depths[name] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    trained = {depths[name] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not frozen & trained
    return frozen


def tiny_resnet() -> ResNetForImageClassification:
    torch.manual_seed(0)
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3)
    return ResNetForImageClassification(config)


def make_trainer(model, folder, *, callbacks=(), dataset=None, **options) -> FineTuningTrainer:
    defaults = {
        "per_device_train_batch_size": 4, "max_steps": 6, "learning_rate": 1e-2, "weight_decay": 0.5, "use_cpu": True,
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "report_to": "none",
    }  # fmt: skip
    dataset = dataset or Samples("vit", size=8, unlabelled=0)
    config = FineTuningConfig(str(folder), **{**defaults, **options})
    return FineTuningTrainer(model, config, train_dataset=dataset, data_collator=pad, callbacks=list(callbacks))


def moved(model: nn.Module, before: dict) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


# ---- What is frozen ----


@pytest.mark.parametrize(("first", "frozen"), [(0, {0}), (1, {0, 1}), (2, {0, 1, 2}), ("all", {0, 1, 2})])
def test_everything_below_is_frozen_and_nothing_above(first, frozen):
    model = tiny_model("bert")
    report = freeze_layers(model, first=first)
    assert frozen_depths(model) == frozen
    counts = {True: 0, False: 0}
    for parameter in model.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    assert (report.frozen_parameters, report.trainable_parameters) == (counts[False], counts[True])
    assert report.layers == max(frozen)


def test_downsampling_between_two_stages_is_frozen_with_the_upper_one():
    model = tiny_model("convnext")
    freeze_layers(model, patterns=["convnext.encoder.stages.1.layers.0"])
    assert frozen_depths(model) == {0, 1, 2}


def test_a_layer_frozen_by_pattern_takes_all_below_along():
    model = tiny_model("bert")
    assert freeze_layers(model, patterns=["*.layer.0"]).layers == 1
    assert frozen_depths(model) == {0, 1}
    model = tiny_model("bert")
    freeze_layers(model, patterns=["bert.encoder.layer.1.*"])
    assert frozen_depths(model) == {0, 1, 2}


def test_a_pattern_within_layers_freezes_what_it_matches_alone():
    model = tiny_model("bert")
    freeze_layers(model, patterns=["*LayerNorm*", "bert.pooler"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if "LayerNorm" in n or n.startswith("bert.pooler.")}


def test_first_and_patterns_add_up_to_what_was_frozen_before():
    model = tiny_model("vit")
    model.classifier.bias.requires_grad = False
    freeze_layers(model, first=1, patterns=["vit.layernorm"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    depths = parameter_depths(model)
    assert frozen == {n for n in depths if depths[n] <= 1 or n.startswith("vit.layernorm") or n == "classifier.bias"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, r"needs `first` or `patterns`: neither is given"),
        ({"first": 3}, r"`first` is 3, but ViTForImageClassification has 2 layers: 0 to 2, or 'all'"),
        ({"first": -1}, r"`first` is -1, but ViTForImageClassification has 2 layers"),
        ({"first": 1, "patterns": ["vit.layernrm"]}, r"'vit\.layernrm'.*\(did you mean 'vit\.layernorm'\?\)"),
        ({"first": "all", "patterns": ["vit.layernorm", "classifier"]}, r"nothing would be left to train"),
    ],
)
def test_a_refusal_is_one_sentence_and_freezes_nothing(options, sentence):
    model = tiny_model("vit")
    with pytest.raises(ValueError, match=sentence) as refused:
        freeze_layers(model, **options)
    assert "\n" not in str(refused.value)
    assert frozen_depths(model) == set()


# ---- What is frozen stays as it is ----


def test_neither_weight_decay_nor_gradients_move_frozen_weights(tmp_path):
    model = tiny_model("vit")
    freeze_layers(model, first=1)
    before, depths = copy.deepcopy(model.state_dict()), parameter_depths(model)
    make_trainer(model, tmp_path).train()
    assert {depths[name] for name in moved(model, before)} == {2, 3}


def test_running_statistics_of_frozen_layers_stand_still_in_training_mode(tmp_path):
    model = tiny_resnet()
    freeze_layers(model, first=1)
    before = copy.deepcopy(model.state_dict())
    make_trainer(model, tmp_path, max_steps=2).train()
    still = set(before) - moved(model, before)
    lower = {name for name in before if name.startswith(("resnet.embedder", "resnet.encoder.stages.0"))}
    assert still == lower
    assert any("running_mean" in name for name in lower)


def test_a_copy_freezes_like_its_original_and_a_saved_model_is_a_plain_one(tmp_path):
    model = tiny_resnet()
    freeze_layers(model, first=1)
    pixels = torch.randn(2, 1, 8, 8)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        before = copy.deepcopy(copied.state_dict())
        copied.train()(pixels)
        assert moved(copied, before)
        assert not any(name.startswith("resnet.embedder") for name in moved(copied, before))
    model.save_pretrained(tmp_path)
    plain = AutoModelForImageClassification.from_pretrained(tmp_path).train()
    before = copy.deepcopy(plain.state_dict())
    plain(pixels)
    assert any(name.startswith("resnet.embedder") for name in moved(plain, before))
    assert frozen_depths(plain) == set()


def test_unfrozen_norms_learn_their_statistics_again():
    model = tiny_resnet()
    freeze_layers(model, first="all")
    model.requires_grad_(True)
    before = copy.deepcopy(model.state_dict())
    model.train()(torch.randn(2, 1, 8, 8))
    assert {name for name in before if "running_mean" in name} <= moved(model, before)


# ---- One layer after another ----


class Watcher(GradualUnfreezing):
    """Notes at the end of each step which depths have moved so far."""

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.before, self.moved, self.depths = copy.deepcopy(model.state_dict()), [], parameter_depths(model)
        super().on_train_begin(args, state, control, model, **kwargs)

    def on_step_end(self, args, state, control, model, **kwargs):
        self.moved.append(sorted({self.depths[name] for name in moved(model, self.before)}))


@pytest.mark.parametrize("schedule", [{"every": 2, "unit": "steps"}, {"every": 1.0}])
def test_layers_move_from_the_top_one_by_one(tmp_path, schedule):
    """8 samples in batches of 4: two steps an epoch."""
    watcher = Watcher(**schedule)
    trainer = make_trainer(tiny_model("vit"), tmp_path, callbacks=[watcher], max_steps=8)
    trainer.train()
    assert watcher.moved == [[3], [3], [2, 3], [2, 3], [1, 2, 3], [1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert frozen_depths(trainer.model) == set()


def test_an_epoch_is_counted_in_optimizer_steps(tmp_path):
    watcher = Watcher(every=0.5)
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4}
    make_trainer(tiny_model("vit"), tmp_path, callbacks=[watcher], **options).train()
    assert watcher.moved == [[3], [2, 3], [1, 2, 3], [0, 1, 2, 3]]


def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path):
    unbroken = make_trainer(tiny_model("vit"), tmp_path / "a", callbacks=[GradualUnfreezing(2, "steps")])
    unbroken.train()
    options = {"save_strategy": "steps", "save_steps": 3}
    make_trainer(tiny_model("vit"), tmp_path / "b", callbacks=[GradualUnfreezing(2, "steps")], **options).train()
    resumed = make_trainer(
        tiny_model("vit", seed=9), tmp_path / "b", callbacks=[GradualUnfreezing(2, "steps")], **options
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-3"))
    assert moved(resumed.model, unbroken.model.state_dict()) == set()


def test_what_was_frozen_before_stays_frozen(tmp_path):
    model = tiny_model("vit")
    freeze_layers(model, first=1)
    make_trainer(model, tmp_path, callbacks=[GradualUnfreezing(1, "steps")]).train()
    assert frozen_depths(model) == {0, 1}


def test_statistics_of_layers_that_wait_stand_still(tmp_path):
    model = tiny_resnet()
    before = copy.deepcopy(model.state_dict())
    make_trainer(model, tmp_path, callbacks=[GradualUnfreezing(2, "steps")], max_steps=2).train()
    assert {name.split(".")[0] for name in moved(model, before)} == {"classifier"}


def test_training_that_ends_early_leaves_nothing_frozen(tmp_path):
    model = tiny_model("vit")
    make_trainer(model, tmp_path, callbacks=[GradualUnfreezing(2, "steps")], max_steps=1).train()
    assert frozen_depths(model) == set()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"every": 0.0}, r"`every` is 0\.0, but it must be above 0\."),
        ({"every": 2, "unit": "step"}, r"`unit` is 'step'.*\(did you mean 'steps'\?\)"),
    ],
)
def test_a_schedule_that_is_none_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        GradualUnfreezing(**options)


def test_two_processes_need_the_search_for_unused_parameters(tmp_path, monkeypatch):
    trainer = make_trainer(tiny_model("vit"), tmp_path, callbacks=[GradualUnfreezing(1, "steps")])
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    (callback,) = [c for c in trainer.callback_handler.callbacks if isinstance(c, GradualUnfreezing)]
    with pytest.raises(ValueError, match=r"needs ddp_find_unused_parameters=True\."):
        callback.on_train_begin(
            trainer.args, trainer.state, trainer.control, model=trainer.model, train_dataloader=None
        )


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            yield from Samples("vit", unlabelled=0)


def test_epochs_of_a_stream_are_refused(tmp_path):
    trainer = make_trainer(tiny_model("vit"), tmp_path, callbacks=[GradualUnfreezing()], dataset=Stream())
    with pytest.raises(ValueError, match="a stream has none: set its unit to 'steps'"):
        trainer.train()
