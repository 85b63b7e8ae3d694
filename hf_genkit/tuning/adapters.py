"""Trained adapters of transformers' models: loading them onto their base, merging one or several into a plain model."""

import json
from collections.abc import Sequence
from pathlib import Path

import transformers
from transformers import AutoProcessor, PreTrainedModel
from transformers.utils import cached_file

from ..arguments import check_choice
from ..trainers.adapters import BASE_CONFIG
from ..trainers.quantized_loading import in_few_bits
from ..trainers.tasks import AUTO_CLASSES
from .lora import PEFT_TASKS, adapter_config, import_peft


METHODS = ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Ways in which several adapters become one."""
PRUNING = ("ties", "dare_linear", "dare_ties", "magnitude_prune")


def load_base(
    adapter: str, *, revision: str | None = None, bits: int | None = None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """
    The model that an adapter was trained on, with the head that the adapter's own config describes.

    Args:
        adapter (`str`): Hub id or local folder of the adapter.
        revision (`str`, *optional*): Its commit, tag or branch; the base's is recorded in the adapter.
        bits (`int`, *optional*): 4 or 8 to hold the base with bitsandbytes.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the base's repo.

    Raises:
        `ValueError`: There is no such adapter, or it doesn't say what it belongs to.
    """
    recorded = adapter_config(adapter, revision)
    if recorded.base_model_name_or_path is None:
        raise ValueError(f"The adapter '{adapter}' doesn't say which model it belongs to.")
    options = {"revision": recorded.revision, "trust_remote_code": trust_remote_code}
    own = cached_file(adapter, BASE_CONFIG, revision=revision, _raise_exceptions_for_missing_entries=False)
    labels, architecture = {}, (recorded.auto_mapping or {}).get("base_model_class")
    if own is not None:
        config = json.loads(Path(own).read_text(encoding="utf-8"))
        architecture = config["architectures"][0]
        if "id2label" in config:
            names = {int(index): name for index, name in config["id2label"].items()}
            labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    if architecture is not None and hasattr(transformers, architecture):
        loader = getattr(transformers, architecture)
    else:
        tasks = {peft_task: task for task, peft_task in PEFT_TASKS.items()}
        loader = AUTO_CLASSES[tasks.get(recorded.task_type, "text-generation")]
    return loader.from_pretrained(
        recorded.base_model_name_or_path,
        dtype="float32",
        ignore_mismatched_sizes=True,
        **in_few_bits(bits),
        **labels,
        **options,
    )


def processor_of(adapter: str, *, trust_remote_code: bool = False):
    """
    The tokenizer or processor beside an adapter, else that of its base.

    Args:
        adapter (`str`): Hub id or local folder.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code from the repos.
    """
    recorded = adapter_config(adapter)
    try:
        return AutoProcessor.from_pretrained(adapter, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return AutoProcessor.from_pretrained(
            recorded.base_model_name_or_path, revision=recorded.revision, trust_remote_code=trust_remote_code
        )


def load_adapter(
    adapter: str,
    *,
    merge: bool = False,
    revision: str | None = None,
    bits: int | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """
    Loads an adapter together with the model that it belongs to, classes included.

    Args:
        adapter (`str`): Hub id or local folder of an adapter that [`~hf_genkit.FineTuningTrainer`] or peft saved.
        merge (`bool`, *optional*, defaults to `False`):
            Whether to add the adapter to the weights: the result is a plain model, as fast as its base, that
            `save_pretrained` writes and `from_pretrained` loads. Else it is a `peft.PeftModel`.
        revision (`str`, *optional*): Commit, tag or branch of the adapter; its base's is recorded in it.
        bits (`int`, *optional*): 4 or 8 to hold the base with bitsandbytes; not with `merge`.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the base's repo.

    Returns:
        `PreTrainedModel` or `peft.PeftModel`, in eval mode.

    Raises:
        `ValueError`: There is no such adapter, it doesn't fit its base, or a quantized base shall be merged into.
        `ImportError`: peft or bitsandbytes is not installed.
    """
    peft = import_peft()
    if merge and bits is not None:
        raise ValueError(f"`bits` is {bits} and `merge` is set, but weights are merged in full precision: choose one.")
    base = load_base(adapter, revision=revision, bits=bits, trust_remote_code=trust_remote_code)
    try:
        model = peft.PeftModel.from_pretrained(base, adapter, revision=revision)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"The adapter '{adapter}' doesn't fit its base '{base.config._name_or_path}'.") from error
    return (model.merge_and_unload() if merge else model).eval()


def merge_adapters(
    adapters: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    method: str = "linear",
    density: float = 0.5,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """
    Merges several adapters of one base into a plain model.

    Args:
        adapters (sequence of `str`): Hub ids or local folders of adapters of the same base.
        weights (sequence of `float`, *optional*): How much each counts; by default all the same, 1 in sum.
        method (`str`, *optional*, defaults to `"linear"`):
            One of `METHODS`: "linear" (same rank), "cat" and "svd" (any ranks), "ties"
            ([Yadav et al., 2023](https://huggingface.co/papers/2306.01708)), "dare_linear" and "dare_ties"
            ([Yu et al., 2023](https://huggingface.co/papers/2311.03099)), "magnitude_prune".
        density (`float`, *optional*, defaults to 0.5): Share of values that the methods that drop some keep.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the base's repo.

    Returns:
        `PreTrainedModel`: The base with the merged adapter in its weights, in eval mode.

    Raises:
        `ValueError`: There are fewer than two adapters, not as many weights as adapters, the method is unknown, the
            adapters belong to different bases, or train heads of their own, which can't be merged.
    """
    peft = import_peft()
    check_choice("method", method, list(METHODS))
    if len(adapters) < 2:
        raise ValueError(f"`adapters` holds {len(adapters)}, but it takes two or more to merge.")
    weights = [1 / len(adapters)] * len(adapters) if weights is None else list(weights)
    if len(weights) != len(adapters):
        raise ValueError(f"`weights` holds {len(weights)} numbers for {len(adapters)} adapters.")
    if not 0 < density <= 1:
        raise ValueError(f"`density` is {density}, but it must be above 0 and at most 1.")
    configs = [adapter_config(adapter) for adapter in adapters]
    bases = {(config.base_model_name_or_path, config.revision) for config in configs}
    if len(bases) > 1:
        raise ValueError(
            f"The adapters belong to different bases: {', '.join(sorted(str(name) for name, _ in bases))}."
        )
    for adapter, config in zip(adapters, configs, strict=True):
        if config.modules_to_save:
            raise ValueError(
                f"The adapter '{adapter}' has a head of its own ({', '.join(sorted(config.modules_to_save))}), and heads "
                "can't be merged."
            )
    ranks = sorted({config.r for config in configs})
    if len(ranks) > 1 and method not in ("cat", "svd"):
        raise ValueError(f"The adapters have the ranks {ranks}, which only the methods 'cat' and 'svd' merge.")
    names = [f"adapter_{number}" for number in range(len(adapters))]
    base = load_base(adapters[0], trust_remote_code=trust_remote_code)
    model = peft.PeftModel.from_pretrained(base, adapters[0], adapter_name=names[0])
    for adapter, name in zip(adapters[1:], names[1:], strict=True):
        model.load_adapter(adapter, adapter_name=name)
    options = {"density": density} if method in PRUNING else {}
    model.add_weighted_adapter(names, weights, "merged", combination_type=method, **options)
    model.set_adapter("merged")
    return model.merge_and_unload(adapter_names=["merged"]).eval()
