"""What a model's head is for, found through the Auto classes."""

import torch
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)


# Pipeline tag of the Hub -> Auto class.
AUTO_CLASSES = {
    "image-classification": AutoModelForImageClassification,
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}


def task_of(model: torch.nn.Module) -> str:
    """
    The pipeline tag of a model with a classification head.

    Args:
        model (`torch.nn.Module`): A model of one of the Auto classes in `AUTO_CLASSES`, or a custom one that is
            registered for one of them.

    Returns:
        `str`: A key of `AUTO_CLASSES`.

    Raises:
        `ValueError`: The model has no such head.
    """
    if isinstance(model, PreTrainedModel):
        for task, auto_class in AUTO_CLASSES.items():
            mapping = auto_class._model_mapping
            if type(model.config) in mapping and isinstance(model, mapping[type(model.config)]):
                return task
    heads = ", ".join(auto_class.__name__ for auto_class in AUTO_CLASSES.values())
    raise ValueError(f"{type(model).__name__} has no classification head: load the model with one of {heads}.")
