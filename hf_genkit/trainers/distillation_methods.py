"""The methods of distillation that a recipe offers, and the run that each is compared with."""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path

from transformers import PreTrainedModel

from ..arguments import PeerArguments, SelfTaughtArguments, TeacherStudentArguments
from .adversarial_distillation_config import AdversarialDistillationConfig
from .adversarial_distillation_trainer import AdversarialDistillationTrainer
from .base import GenkitTrainer
from .distillation_config import DistillationConfig
from .distillation_trainer import DistillationTrainer
from .mutual_config import MutualDistillationConfig
from .mutual_trainer import MutualDistillationTrainer
from .self_distillation_config import SelfDistillationConfig
from .self_distillation_trainer import SelfDistillationTrainer
from .soft_target_config import SoftTargetConfig
from .task_data import TaskData
from .tasks import CLASSIFICATION


# What says which models there are, and how they are trained.
METHODS = {
    "offline": (TeacherStudentArguments, DistillationConfig),
    "online": (PeerArguments, MutualDistillationConfig),
    "self": (SelfTaughtArguments, SelfDistillationConfig),
    "adversarial": (TeacherStudentArguments, AdversarialDistillationConfig),
}
TRAINERS = {
    DistillationConfig: DistillationTrainer,
    MutualDistillationConfig: MutualDistillationTrainer,
    SelfDistillationConfig: SelfDistillationTrainer,
    AdversarialDistillationConfig: AdversarialDistillationTrainer,
}


def distilling_trainer(
    args: SoftTargetConfig,
    new_students: Callable[[], list[PreTrainedModel]],
    teachers: list[PreTrainedModel],
    teacher_processing_class=None,
    **options,
) -> GenkitTrainer:
    """
    The trainer of a method.

    Args:
        args ([`~hf_genkit.trainers.soft_target_config.SoftTargetConfig`]): The arguments, by whose class it is chosen.
        new_students (`Callable`): Makes the student, or all peers.
        teachers (`list[PreTrainedModel]`): What they learn from, if not from themselves.
        teacher_processing_class (*optional*): The teachers' image processor, tokenizer or processor.
        options: Passed to the trainer.
    """
    if isinstance(args, MutualDistillationConfig):
        options["models"] = new_students()
    elif isinstance(args, SelfDistillationConfig) and args.self_teacher == "born_again":
        options["model_init"] = lambda: new_students()[0]
    else:
        options["model"] = new_students()[0]
    if teachers:
        options |= {"teacher_model": teachers, "teacher_processing_class": teacher_processing_class}
    return TRAINERS[type(args)](args=args, **options)


def on_labels_alone(args: SoftTargetConfig) -> SoftTargetConfig:
    """
    The arguments of a run that gives the same student as many steps without any teaching.

    Args:
        args ([`~hf_genkit.trainers.soft_target_config.SoftTargetConfig`]): Those of the distillation.

    Returns:
        [`MutualDistillationConfig`] for peers, which are then trained side by side, else [`DistillationConfig`].
    """
    if isinstance(args, MutualDistillationConfig):
        return replace(args, alpha=0.0)
    values = {each.name: getattr(args, each.name) for each in fields(DistillationConfig) if each.init}
    if isinstance(args, AdversarialDistillationConfig):  # the discriminator's steps are none of the student's
        cycle = args.n_critic + 1
        values["num_train_epochs"] = args.num_train_epochs / cycle
        values["max_steps"] = args.max_steps if args.max_steps <= 0 else args.max_steps // cycle
    return DistillationConfig(**values | {"alpha": 0.0, "feature_loss": None, "relation_loss": None, "on_policy": 0.0})


def share_cache(runs: Iterable[DistillationConfig], data: TaskData, folder: Path) -> None:
    """
    Lets runs with the same teachers keep what these say in one folder, where it can be kept at all.

    Args:
        runs (`Iterable[DistillationConfig]`): The runs' arguments, which are changed.
        data ([`~hf_genkit.trainers.task_data.TaskData`]): What they train on.
        folder (`Path`): The folder.
    """
    lasts = data.args.augmentation is None and not data.args.streaming and data.task != "fill-mask"
    for args in runs:
        is_small = data.task in CLASSIFICATION or args.teacher_top_k is not None
        if (
            lasts
            and is_small
            and args.teacher_cache == "auto"
            and not args.matches_features
            and args.loss_type != "uld"
        ):
            args.teacher_cache = str(folder)
