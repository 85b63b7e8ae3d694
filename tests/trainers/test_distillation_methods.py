"""What a recipe's methods have in common, and what they are compared with."""

from pathlib import Path

import pytest
from transformers import ViTConfig

from hf_genkit import DistillationConfig, FineTuningDataArguments, arguments
from hf_genkit.trainers.adversarial_distillation_config import AdversarialDistillationConfig
from hf_genkit.trainers.distillation_methods import METHODS, TRAINERS, on_labels_alone, share_cache
from hf_genkit.trainers.mutual_config import MutualDistillationConfig
from hf_genkit.trainers.self_distillation_config import SelfDistillationConfig
from hf_genkit.trainers.task_data import TaskData


OPTIONS = {
    "use_cpu": True,
    "learning_rate": 3e-4,
    "per_device_train_batch_size": 4,
    "num_train_epochs": 6,
    "alpha": 0.7,
}


def test_every_method_has_arguments_a_trainer_and_a_place_in_the_help():
    assert list(METHODS) == list(arguments.METHODS)
    assert {config for _, config in METHODS.values()} == set(TRAINERS)


@pytest.mark.parametrize(
    ("config_class", "options"),
    [
        (DistillationConfig, {"feature_loss": "cosine", "relation_loss": "rkd_angle", "on_policy": 0.5}),
        (AdversarialDistillationConfig, {"n_critic": 2, "feature_loss": "cosine"}),
        (SelfDistillationConfig, {"self_teacher": "ema"}),
        (MutualDistillationConfig, {}),
    ],
)
def test_alone_nothing_teaches_and_all_else_is_equal(config_class, options):
    args = config_class("out", **OPTIONS, **options)
    alone = on_labels_alone(args)
    assert alone.alpha == 0
    assert (alone.learning_rate, alone.per_device_train_batch_size, alone.output_dir) == (3e-4, 4, "out")
    assert args.alpha == 0.7, "the arguments of the distillation were changed"
    if config_class is MutualDistillationConfig:
        assert type(alone) is MutualDistillationConfig
    else:
        assert type(alone) is DistillationConfig
        assert not alone.matches_features
        assert alone.on_policy == 0


def test_alone_a_student_takes_as_many_steps_as_beside_a_discriminator():
    args = AdversarialDistillationConfig("out", n_critic=2, max_steps=90, **OPTIONS)
    alone = on_labels_alone(args)
    assert (alone.max_steps, alone.num_train_epochs) == (30, 2)
    by_epochs = on_labels_alone(AdversarialDistillationConfig("out", **OPTIONS))
    assert (by_epochs.max_steps, by_epochs.num_train_epochs) == (-1, 3)


@pytest.mark.parametrize(
    ("options", "data_options", "shares"),
    [
        ({}, {}, True),
        ({"teacher_cache": "off"}, {}, False),
        ({"feature_loss": "cosine"}, {}, False),
        ({}, {"augmentation": "flip"}, False),
    ],
)
def test_teachers_answers_are_shared_where_they_can_be_kept(options, data_options, shares):
    data = TaskData(FineTuningDataArguments(max_train_samples=100, **data_options), ViTConfig())
    args = DistillationConfig("out", use_cpu=True, **options)
    share_cache([args], data, Path("shared"))
    assert args.teacher_cache == ("shared" if shares else options.get("teacher_cache", "auto"))
