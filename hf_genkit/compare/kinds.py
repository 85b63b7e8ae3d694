"""What a model that is given by name is for, so that the wrong task is told before anything is measured."""

from collections.abc import Iterable

from diffusers import DiffusionPipeline
from transformers import AutoConfig

from ..arguments.comparison_arguments import COMPARED_TASKS, IMAGES
from ..evaluation.drawing import MODEL_TYPES
from ..trainers.tasks import SPEECH, tasks_of_config
from .task_models import is_onnx


def check_kinds(names: Iterable[str], task: str, trust_remote_code: bool = False) -> None:
    """
    Refuses models that are for another task.

    Args:
        names (iterable of `str`): Hub ids or local folders.
        task (`str`): One of `COMPARED_TASKS`.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run the code of a repo's config.

    Raises:
        `ValueError`: with one sentence that names the model, what it is and the option to give.
    """
    for name in names:
        if is_onnx(name):
            if task == IMAGES:
                raise ValueError(f"'{name}' is an exported ONNX model: say with `--task` what it is for.")
            if task == SPEECH:
                raise ValueError(f"'{name}' is an exported ONNX model, but only models of PyTorch write down speech.")
            continue
        kind, tasks = kind_of(name, trust_remote_code)
        if not kind or task in tasks or (not tasks and task != IMAGES):
            continue
        if not tasks:
            raise ValueError(
                f"'{name}' is a {kind}, which makes no pictures: give VAEs, GANs and diffusion pipelines, or say with "
                "`--task` what the models are for."
            )
        if IMAGES in tasks:
            raise ValueError(f"'{name}' is a {kind}, which makes pictures: leave out `--task {task}` to compare it.")
        known = [each for each in tasks if each in COMPARED_TASKS]
        advice = f"pass `--task {known[0]}` to compare it" if known else f"compared are {', '.join(COMPARED_TASKS)}"
        raise ValueError(f"'{name}' is a {kind} for {' or '.join(tasks)}, not for {task}: {advice}.")


def kind_of(name: str, trust_remote_code: bool = False) -> tuple[str, list[str]]:
    """
    The class of a model, and the tasks that it is for: none where its class does not tell. The class is empty where there is
    no model, or an adapter.

    Args:
        name (`str`): Hub id or local folder.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run the code of a repo's config.
    """
    try:
        named = DiffusionPipeline.load_config(name)["_class_name"]  # a pair where the class's file travels along
        return named if isinstance(named, str) else named[-1], [IMAGES]
    except OSError:  # it holds no pipeline
        pass
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):  # it is an adapter, or nothing at all, which loading tells
        return "", []
    architecture = (config.architectures or [f"{config.model_type} model"])[0]
    return architecture, [IMAGES] if config.model_type in MODEL_TYPES else tasks_of_config(config)
