"""Low-rank adapters (LoRA, DoRA) of transformers' models and diffusion networks, through peft."""

import copy
import warnings
from collections.abc import Sequence

from diffusers import DiffusionPipeline
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..arguments import nearest
from ..trainers.layers import layers_of
from ..trainers.tasks import CLASSIFICATION, task_of


DIFFUSION_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_out_1", "proj_out_2", "linear_1", "linear_2"
)  # fmt: skip
PEFT_TASKS = {
    "text-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "text-generation": "CAUSAL_LM",
}


def import_peft():
    """The peft library, or an error that says how to install it."""
    try:
        import peft
    except ImportError as error:
        raise ImportError('LoRA needs peft: pip install "hf-genkit[peft]"') from error
    # peft asks transformers under a name that is on its way out.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    return peft


def add_lora(
    network: nn.Module,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    dora: bool = False,
    base: str | None = None,
    revision: str | None = None,
) -> nn.Module:
    """
    Adds an adapter to a model and freezes everything else; [`~hf_genkit.FineTuningTrainer`] (for a network of diffusers:
    [`~hf_genkit.DiffusionTrainer`]) then trains and saves the adapter alone
    ([Hu et al., 2022](https://huggingface.co/papers/2106.09685)). A model that bitsandbytes holds in 4 or 8 bits is made
    ready for it, which is QLoRA ([Dettmers et al., 2023](https://huggingface.co/papers/2305.14314)).

    Args:
        network (`nn.Module`):
            A model of transformers with a head for classes, language or speech, or the `unet` of a pipeline.
        rank (`int`, *optional*, defaults to 8): Rank of each layer's change.
        alpha (`float`, *optional*): The change is scaled by `alpha / rank`; defaults to the rank.
        dropout (`float`, *optional*, defaults to 0.0): Share of the adapter's inputs that are dropped in training.
        targets (sequence of `str`, *optional*):
            Ends of the names of the layers to adapt. By default every linear layer (and convolution, in networks that
            have no other) in the model's blocks; of a diffusion network its attention projections, the convolutions of
            its residual blocks and the embedding of time. The head for the classes is always trained whole.
        dora (`bool`, *optional*, defaults to `False`):
            Whether to learn magnitude and direction apart ([Liu et al., 2024](https://huggingface.co/papers/2402.09353)).
        base, revision (`str`, *optional*):
            Hub id or folder of the model and its commit, tag or branch, which the adapter records; `base` defaults to
            where the model was loaded from.

    Returns:
        `peft.PeftModel`: The model with its adapter.

    Raises:
        `ValueError`: The rank is below 1, the dropout outside [0, 1), or a target is no layer's name or a tied head.
        `ImportError`: peft is not installed.
    """
    peft = import_peft()
    if rank < 1:
        raise ValueError(f"`rank` is {rank}, but it must be at least 1.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` is {dropout}, but it must be at least 0 and below 1.")
    options = {"r": rank, "lora_alpha": rank if alpha is None else alpha, "lora_dropout": dropout, "use_dora": dora}
    if isinstance(network, PreTrainedModel):
        options |= _options_of_transformer(network, targets)
        if getattr(network, "quantization_method", None) is not None:
            network = peft.prepare_model_for_kbit_training(network, use_gradient_checkpointing=False)
        base = base or network.config._name_or_path or None
    else:
        options["target_modules"] = sorted(_found(network, targets or DIFFUSION_TARGETS, must_exist=bool(targets)))
    model = peft.get_peft_model(network, peft.LoraConfig(**options))
    model.peft_config["default"].base_model_name_or_path = base
    model.peft_config["default"].revision = revision
    return model


def _adaptable(network: nn.Module) -> list[str]:
    """Names of the layers that an adapter can change."""
    kinds = nn.Linear | nn.Conv2d | Conv1D  # layers of bitsandbytes are linear layers, too
    return [name for name, module in network.named_modules() if isinstance(module, kinds)]


def _found(network: nn.Module, targets: Sequence[str], must_exist: bool) -> set[str]:
    """Those of the name ends that the network has; one that is missing is an error if they must exist."""
    layers = _adaptable(network)
    found = {target for target in targets if any(f".{name}".endswith(f".{target}") for name in layers)}
    for target in targets if must_exist else ():
        if target not in found:
            ends = sorted({name.rsplit(".", 1)[-1] for name in layers})
            raise ValueError(
                f"`targets` has '{target}', but no linear or convolution layer's name ends so{nearest(target, ends)}; "
                f"there are {', '.join(ends[:20])}."
            )
    return found


def _options_of_transformer(model: PreTrainedModel, targets: Sequence[str] | None) -> dict:
    """What the adapter changes, what it leaves out, and which modules are trained whole."""
    task = task_of(model)
    head = []
    if task in CLASSIFICATION:
        head = [
            name
            for name, child in model.named_children()
            if name != model.base_model_prefix and any(True for _ in child.parameters())
        ]
    if targets is None:
        blocks = tuple(f"{name}." for name, _ in layers_of(model))
        inside = [name for name in _adaptable(model) if name.startswith(blocks)]
        modules = dict(model.named_modules())
        linear = [name for name in inside if not isinstance(modules[name], nn.Conv2d)]
        chosen = {name.rsplit(".", 1)[-1] for name in linear or inside}
        if not linear:  # of a convolutional network the last part of the name is the same everywhere
            chosen = set(inside)
    else:
        chosen = _found(model, targets, must_exist=True)
        _check_untied(model, chosen)
    ends = tuple(f".{end}" for end in chosen)
    in_head = [name for name in _adaptable(model) if name.split(".")[0] in head and f".{name}".endswith(ends)]
    return {
        "target_modules": sorted(chosen),
        "exclude_modules": in_head or None,
        "modules_to_save": head or None,
        "task_type": PEFT_TASKS.get(task),
    }


def _check_untied(model: PreTrainedModel, targets: set[str]) -> None:
    """An adapter on a head that shares its weights with the embeddings could not be merged."""
    head = model.get_output_embeddings()
    if head is None or head.weight is not model.get_input_embeddings().weight:
        return
    (name,) = [name for name, module in model.named_modules() if module is head]
    for target in targets:
        if f".{name}".endswith(f".{target}"):
            raise ValueError(f"`targets` has '{target}', but that head shares its weights with the embeddings.")


def load_lora(
    pipeline: DiffusionPipeline, adapter: str, *, merge: bool = True, revision: str | None = None
) -> DiffusionPipeline:
    """
    Puts an adapter onto a pipeline's network, in place.

    Args:
        pipeline (`DiffusionPipeline`): The pipeline that the adapter was trained on.
        adapter (`str`): Hub id or local folder of the adapter.
        merge (`bool`, *optional*, defaults to `True`):
            Whether the network becomes a plain one again, as fast as before and ready for `save_pretrained`; else it is a
            `PeftModel`, whose adapter can be taken off with `pipeline.unet.unload()`.
        revision (`str`, *optional*): Commit, tag or branch of the adapter.

    Returns:
        `DiffusionPipeline`: The same pipeline.

    Raises:
        `ValueError`: There is no such adapter, or it doesn't fit the network, which is left as it was.
        `ImportError`: peft is not installed.
    """
    peft = import_peft()
    base = adapter_config(adapter, revision).base_model_name_or_path
    try:  # on a copy, which peft changes even where it fails
        network = peft.PeftModel.from_pretrained(copy.deepcopy(pipeline.unet), adapter, revision=revision)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"The adapter '{adapter}' is one of '{base}' and doesn't fit this network.") from error
    pipeline.unet = network.merge_and_unload() if merge else network
    return pipeline


def adapter_config(adapter: str, revision: str | None = None):
    """
    What an adapter says of itself, a `peft.PeftConfig`.

    Raises:
        `ValueError`: There is no such adapter.
    """
    try:
        return import_peft().PeftConfig.from_pretrained(adapter, revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{adapter}' is no adapter, neither here nor on the Hub.") from error
