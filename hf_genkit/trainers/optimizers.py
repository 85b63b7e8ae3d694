"""The optimizers that textbooks name, by those names."""

from transformers.training_args import OptimizerNames

from ..arguments import check_choice


# Name -> transformers' name for it, and the arguments that it needs.
TEXTBOOK_OPTIMIZERS = {
    "sgd": ("sgd", {}),
    "momentum": ("sgd", {"momentum": "0.9"}),
    "adam": ("adamw_torch_fused", {}),
    "adamw": ("adamw_torch_fused", {}),
    "rmsprop": ("rmsprop", {}),
    "adagrad": ("adagrad", {}),
    "adafactor": ("adafactor", {}),
    "adam_8bit": ("adamw_8bit", {}),
    "adamw_8bit": ("adamw_8bit", {}),
}
OPTIMIZERS = list(dict.fromkeys([*TEXTBOOK_OPTIMIZERS, *(name.value for name in OptimizerNames)]))


def resolve_optimizer(
    name: str | OptimizerNames, optim_args: str | None, weight_decay: float
) -> tuple[str, str | None]:
    """
    Translates an optimizer's name into transformers' terms.

    Args:
        name (`str` or `OptimizerNames`): One of `TEXTBOOK_OPTIMIZERS` or of transformers' optimizers.
        optim_args (`str`, *optional*): Such as "momentum=0.95,nesterov=true"; what is given wins.
        weight_decay (`float`): Adam is AdamW without weight decay, and refused with one.

    Returns:
        `tuple[str, str | None]`: The name and the arguments as [`~transformers.TrainingArguments`] takes them.

    Raises:
        `ValueError`: There is no such optimizer, or it is Adam and `weight_decay` is above 0.
    """
    name = name.value if isinstance(name, OptimizerNames) else name
    check_choice("optim", name, OPTIMIZERS)
    if name in ("adam", "adam_8bit") and weight_decay > 0:
        raise ValueError(
            f"`optim` is '{name}' and `weight_decay` is {weight_decay}, but Adam with decoupled weight decay is "
            f"'{name.replace('adam', 'adamw')}'."
        )
    known, needed = TEXTBOOK_OPTIMIZERS.get(name, (name, {}))
    given = dict(part.strip().split("=", 1) for part in optim_args.split(",")) if optim_args else {}
    together = {**needed, **given}
    return known, ",".join(f"{key}={value}" for key, value in together.items()) or None
