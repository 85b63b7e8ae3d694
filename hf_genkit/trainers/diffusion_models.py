"""Diffusion models as a command line asks for them: networks, text encoders, autoencoders, loaded or new."""

import math
from collections.abc import Sequence

import diffusers
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5EncoderModel,
)

from ..arguments import DiffusionModelArguments, check_choice
from ..data import ArrayImageDataset, ImageData
from ..pipelines import ImageDiffusionPipeline, SuperResolutionPipeline
from .denoiser import NETWORKS, num_classes
from .diffusion_checks import check_side
from .diffusion_config import DiffusionConfig
from .diffusion_inputs import caption_tokens


LARGEST_CAPTION = 64


def diffusion_components(
    args: DiffusionModelArguments, data: ImageData, config: DiffusionConfig, image_size: int | None = None
) -> dict:
    """
    Loads or builds what a diffusion model consists of.

    Args:
        args ([`~hf_genkit.arguments.DiffusionModelArguments`]): Names, or the options of configs.
        data ([`~hf_genkit.data.ImageData`]): Decides size and channels of the images, the classes and the captions.
        config ([`DiffusionConfig`]): The run's arguments.
        image_size (`int`, *optional*): Side of the images; defaults to the data's.

    Returns:
        `dict`: Arguments of [`DiffusionTrainer`].

    Raises:
        `ValueError`: An option is unknown, or two of them don't go together.
    """
    if data.is_streamed:
        raise ValueError("`streaming` is true, but pictures are judged against arrays of images: leave it out.")
    side, channels = data.side(image_size), data.channels
    if args.model_name_or_path is not None:
        return _loaded(args, data, config)
    options = dict(args.model_config or {})
    conditional = options.pop("conditional", False)
    if conditional and not data.id2label:
        raise ValueError("`model_config` sets conditional, but the data set has no label column.")
    if conditional and args.has_captions:
        raise ValueError("`model_config` sets conditional, but captions are read, too: a model draws by one of them.")
    found = {"id2label": data.id2label} if conditional else {}
    decided = {"sample_size": side, "in_channels": channels, "out_channels": channels}
    if args.vae_name_or_path is not None:
        found["vae"] = load_vae(args.vae_name_or_path)
        decided |= latent_shape(found["vae"], side, channels)
    if config.super_resolution_factor > 1:
        decided["in_channels"] = 2 * channels
    if args.has_captions:
        found["prompts"] = distinct_captions(args, data)
        found |= _text_parts(args, data.captions(data.splits["train"], args.caption_column, args.caption_template))
        decided["cross_attention_dim"] = found["text_encoder"].config.hidden_size
    found["model"] = new_network(options, decided, len(data.id2label) if conditional else 0)
    return found


def new_network(options: dict, decided: dict, classes: int = 0) -> nn.Module:
    """
    A network of diffusers with random weights.

    Args:
        options (`dict`): Options of its config, and its `_class_name`; what is left out is fitted to the pictures.
        decided (`dict`): Options that the data decide.
        classes (`int`, *optional*, defaults to 0): How many classes it shall tell apart.

    Returns:
        `UNet2DModel`, `UNet2DConditionModel` or `DiTTransformer2DModel`.

    Raises:
        `ValueError`: An option is unknown or contradicts what the data decide, or the network halves its pictures more
            often than their side allows.
    """
    options = dict(options)
    reads_captions = "cross_attention_dim" in decided
    default = UNet2DConditionModel if reads_captions else UNet2DModel
    name = options.pop("_class_name", default.__name__)
    check_choice("_class_name", name, [network.__name__ for network in NETWORKS])
    network = getattr(diffusers, name)
    if reads_captions and network is not UNet2DConditionModel:
        raise ValueError(f"`_class_name` is '{name}', but captions are read by a UNet2DConditionModel alone.")
    known = sorted(network._get_init_keys(network) - {"self"})
    for option in options:
        check_choice(f"option of a '{name}' config", option, known)
    if network is DiTTransformer2DModel:
        decided = {**decided, "num_embeds_ada_norm": max(classes, 1)}
        fitted = {"num_layers": 6, "num_attention_heads": 6, "attention_head_dim": 32, "patch_size": 2}
    else:
        decided = {**decided, "num_class_embeds": classes + 1} if classes else decided
        fitted = _fitted_unet(options, decided["sample_size"], reads_captions)
    for option, value in decided.items():
        if options.get(option, value) != value:
            raise ValueError(f"`model_config` sets {option} to {options[option]}, but the data have {value}.")
    options = {**fitted, **options, **decided}
    if network is not DiTTransformer2DModel:
        check_unet(options)
    try:
        model = network(**options)
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"`model_config` makes no {name}: {error}.") from error
    check_side(model, decided["sample_size"])
    return model


def _fitted_unet(options: dict, side: int, reads_captions: bool) -> dict:
    """
    Widths and blocks for pictures of that side: halved to 4 to 8 pixels, with attention where they are small. (The middle
    of the network attends in any case.)
    """
    halvings = 0
    while side % 2 ** (halvings + 1) == 0 and side >> (halvings + 1) >= 4 and halvings < 4:
        halvings += 1
    widths = list(options.get("block_out_channels") or [64, 128, 128, 256, 256][: halvings + 1])
    kind = "CrossAttn" if reads_captions else "Attn"
    largest = 8 if side <= 32 else 16
    attends = [side >> level <= largest and level > 0 for level in range(len(widths))]
    attends[-1] = attends[-1] or reads_captions
    down = [f"{kind if attend else ''}DownBlock2D" for attend in attends]
    up = [f"{kind if attend else ''}UpBlock2D" for attend in reversed(attends)]
    return {
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": 2,
        "norm_num_groups": math.gcd(*widths, 8),
        "attention_head_dim": math.gcd(*widths, 32),
    }


def check_unet(options: dict) -> None:
    """
    Raises:
        `ValueError`: Lists of a UNet's config that belong together differ in length.
    """
    blocks = len(options["block_out_channels"])
    for name in ("down_block_types", "up_block_types"):
        if len(options[name]) != blocks:
            raise ValueError(
                f"`block_out_channels` has {blocks} entries, but `{name}` has {len(options[name])}: there is one for each."
            )


def load_vae(name: str) -> AutoencoderKL | PreTrainedModel:
    """
    An autoencoder whose latents can be learned.

    Args:
        name (`str`): Hub id or local folder of an `AutoencoderKL` or a [`~hf_genkit.VAEModel`].

    Raises:
        `ValueError`: There is none, or it is of another kind.
    """
    try:
        config = AutoencoderKL.load_config(name)
    except OSError as error:
        raise ValueError(f"'{name}' is no autoencoder, neither here nor on the Hub.") from error
    if config.get("_class_name") == "AutoencoderKL":
        return AutoencoderKL.from_pretrained(name)
    check_choice("model_type", config.get("model_type"), ["genkit_vae"])
    return AutoModel.from_pretrained(name, dtype="float32")


def latent_shape(vae: AutoencoderKL | PreTrainedModel, side: int, channels: int) -> dict[str, int]:
    """
    Size and channels of a network that learns latents.

    Args:
        vae (`AutoencoderKL` or [`~hf_genkit.VAEModel`]): The autoencoder.
        side, channels (`int`): Of the pictures.

    Returns:
        `dict[str, int]`: `sample_size`, `in_channels`, `out_channels`. Vectors of a `VAEModel` are cut into square maps.

    Raises:
        `ValueError`: The autoencoder takes other pictures.
    """
    if isinstance(vae, AutoencoderKL):
        taken, halvings = vae.config.in_channels, len(vae.config.block_out_channels) - 1
        if taken != channels or side % 2**halvings:
            raise ValueError(
                f"The autoencoder takes pictures of {taken} channels and a side that is a multiple of {2**halvings}, but "
                f"the data have {channels} channels and {side} pixels."
            )
        latents = vae.config.latent_channels
        return {"sample_size": side >> halvings, "in_channels": latents, "out_channels": latents}
    config = vae.config
    if (config.num_channels, config.image_size) != (channels, side):
        raise ValueError(
            f"The autoencoder takes pictures of {config.num_channels} channels and {config.image_size} pixels, but the "
            f"data have {channels} and {side}."
        )
    square = max(
        s for s in (1, 2, 4, 8) if config.latent_dim % s**2 == 0 and (s == 1 or config.latent_dim >= 4 * s**2)
    )
    latents = config.latent_dim // square**2
    return {"sample_size": square, "in_channels": latents, "out_channels": latents}


def _text_parts(args: DiffusionModelArguments, captions: Sequence[str]) -> dict:
    """A frozen text encoder by name, or a small one with the captions' words as vocabulary."""
    if args.text_encoder_name_or_path is not None:
        name = args.text_encoder_name_or_path
        encoder_class = {"t5": T5EncoderModel, "clip": CLIPTextModel, "clip_text_model": CLIPTextModel}.get(
            AutoConfig.from_pretrained(name).model_type, AutoModel
        )
        encoder = encoder_class.from_pretrained(name, dtype="float32").requires_grad_(False)
        tokenizer = AutoTokenizer.from_pretrained(name)
        tokenizer.model_max_length = min(tokenizer.model_max_length, LARGEST_CAPTION)
        return {"text_encoder": encoder, "tokenizer": tokenizer}
    tokenizer = word_tokenizer(captions)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    decided = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    for option in args.text_encoder_config:
        check_choice("option of a 'clip_text_model' config", option, sorted(CLIPTextConfig().to_dict()))
    config = CLIPTextConfig(**{**sizes, **args.text_encoder_config, **decided})
    return {"text_encoder": CLIPTextModel(config), "tokenizer": tokenizer}


def word_tokenizer(captions: Sequence[str]) -> PreTrainedTokenizerFast:
    """
    A tokenizer whose vocabulary is the words of captions, lower-cased, the most frequent first.

    Args:
        captions (sequence of `str`): The training set's.

    Returns:
        `PreTrainedTokenizerFast`: With start, end, padding and unknown tokens, for texts as long as the longest caption,
        at most 64 tokens.
    """
    split = pre_tokenizers.Whitespace()
    counts: dict[str, int] = {}
    longest = 0
    for caption in captions:
        words = [word for word, _ in split.pre_tokenize_str(caption.lower())]
        longest = max(longest, len(words))
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    words = sorted(counts, key=lambda word: (-counts[word], word))[:30_000]
    backend = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(special + words)}, unk_token="<unk>")
    )
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), split
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", special.index("<s>")), ("</s>", special.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=min(longest + 2, LARGEST_CAPTION),
    )


def with_captions(
    dataset: ArrayImageDataset, split, data: ImageData, args: DiffusionModelArguments, tokenizer
) -> ArrayImageDataset:
    """The images of a split with their captions' tokens; unchanged without a tokenizer."""
    if tokenizer is None:
        return dataset
    captions = data.captions(split, args.caption_column, args.caption_template)
    return ArrayImageDataset(
        dataset.pixels,
        dataset.labels,
        augmentation=dataset.augmentation,
        seed=dataset.seed,
        extras=caption_tokens(captions, tokenizer),
    )


def _loaded(args: DiffusionModelArguments, data: ImageData, config: DiffusionConfig) -> dict:
    """The parts of a pipeline, to be trained further; its own scaling of latents is kept."""
    name = args.model_name_or_path
    pipeline_class = SuperResolutionPipeline if config.super_resolution_factor > 1 else ImageDiffusionPipeline
    pipeline = pipeline_class.from_pretrained(name, revision=args.model_revision)
    pipeline.unet.register_to_config(_name_or_path=name)  # and not the folder of the cache
    found = {"model": pipeline.unet, "noise_scheduler": pipeline.scheduler, "vae": pipeline.vae}
    if pipeline.vae is not None and config.latent_scaling is None:
        config.latent_scaling = pipeline.vae.config.scaling_factor
    if pipeline.text_encoder is not None:
        found |= {"text_encoder": pipeline.text_encoder.requires_grad_(False), "tokenizer": pipeline.tokenizer}
        found["prompts"] = distinct_captions(args, data)
    if classes := num_classes(pipeline.unet):
        known = pipeline.config.id2label or data.id2label
        if len(data.id2label) != classes or (
            known != data.id2label and set(known.values()) == set(data.id2label.values())
        ):
            raise ValueError(
                f"'{name}' draws {classes} classes ({', '.join(known.values())}), but the data's are "
                f"{', '.join(data.id2label.values()) or 'none'}: they must be as many, and of equal names in equal order."
            )
        found["id2label"] = data.id2label
    return found


def distinct_captions(args: DiffusionModelArguments, data: ImageData) -> list[str]:
    """The first 200 different captions of the training images."""
    captions = data.captions(data.splits["train"], args.caption_column, args.caption_template)
    return list(dict.fromkeys(captions))[:200]
