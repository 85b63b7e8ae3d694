"""Tiny diffusion models for the tests of their trainer."""

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel
from transformers import CLIPTextConfig, CLIPTextModel

from hf_genkit import DiffusionConfig, DiffusionTrainer
from hf_genkit.data import ArrayImageDataset, image_processor_for
from hf_genkit.trainers.diffusion_distillation_config import DiffusionDistillationConfig
from hf_genkit.trainers.diffusion_distillation_trainer import DiffusionDistillationTrainer
from hf_genkit.trainers.diffusion_inputs import caption_tokens
from hf_genkit.trainers.diffusion_models import word_tokenizer

from .tiny_generative import DEFAULTS, SIZE, pictures


CAPTIONS = ["a bar on the far left", "a bar on the left", "a bar on the right", "a bar on the far right"]
UNET = {
    "sample_size": SIZE, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "layers_per_block": 1,
    "norm_num_groups": 4,
}  # fmt: skip
TRAINER_OPTIONS = (
    "callbacks", "eval_dataset", "id2label", "judge", "noise_scheduler", "prompts", "text_encoder", "tokenizer",
    "train_dataset", "vae",
)  # fmt: skip


def unet(**options) -> UNet2DModel:
    torch.manual_seed(0)
    blocks = {
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
    }
    return UNet2DModel(**{**UNET, **blocks, **options})


def dit(**options) -> DiTTransformer2DModel:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "patch_size": 2}
    return DiTTransformer2DModel(
        **{**sizes, "sample_size": SIZE, "in_channels": 1, "out_channels": 1, "num_embeds_ada_norm": 4, **options}
    )


def text_parts() -> dict:
    """A UNet that reads captions, a text encoder to train along, its tokenizer, and pictures with captions."""
    tokenizer = word_tokenizer(CAPTIONS)
    torch.manual_seed(0)
    network = UNet2DConditionModel(
        **UNET,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=16,
    )
    encoder = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, attention_dropout=0.0,
            vocab_size=len(tokenizer), max_position_embeddings=tokenizer.model_max_length,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    return {
        "model": network, "text_encoder": encoder, "tokenizer": tokenizer, "prompts": CAPTIONS,
        "train_dataset": captioned(tokenizer),
    }  # fmt: skip


def captioned(tokenizer, count: int = 24) -> ArrayImageDataset:
    plain = pictures(count)
    extras = caption_tokens([CAPTIONS[label] for label in plain.labels.tolist()], tokenizer)
    return ArrayImageDataset(plain.pixels, plain.labels, extras=extras)


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(4, 8), layers_per_block=1, latent_channels=2,
        norm_num_groups=2, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=SIZE,
    )  # fmt: skip


def diffusion_trainer(model, folder, **options) -> DiffusionTrainer:
    """Options go to the config, a few to the trainer itself."""
    own = {name: options.pop(name) for name in TRAINER_OPTIONS if name in options}
    defaults = {**DEFAULTS, "num_inference_steps": 3}
    return DiffusionTrainer(
        **{
            "model": model,
            "args": DiffusionConfig(str(folder), **{**defaults, **options}),
            "train_dataset": pictures(),
            "processing_class": image_processor_for(1, SIZE),
            **own,
        }
    )


def few_step_trainer(teacher, folder, **options) -> DiffusionDistillationTrainer:
    """As [`diffusion_trainer`], for a student of a pipeline."""
    own = {name: options.pop(name) for name in TRAINER_OPTIONS if name in options}
    return DiffusionDistillationTrainer(
        teacher,
        DiffusionDistillationConfig(str(folder), **{**DEFAULTS, **options}),
        **{"train_dataset": pictures(), "processing_class": image_processor_for(1, SIZE), **own},
    )
