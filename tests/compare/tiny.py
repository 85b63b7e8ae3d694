"""Tiny pictures, families and judges for the tests of comparisons."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from transformers import ViTConfig, ViTModel

from hf_genkit import GANConfig, GANModel, VAEConfig, VAEModel
from hf_genkit.compare.painters import DiffusionPainter, GANPainter, VAEPainter
from hf_genkit.data import ArrayImageDataset, image_processor_for
from hf_genkit.evaluation import FeatureExtractor, PictureJudge
from hf_genkit.pipelines import ClassConditionalPipeline, UnconditionalPipeline


SIDE = 8
UNET = {
    "sample_size": SIDE,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
}


def vae(**options) -> VAEModel:
    torch.manual_seed(0)
    return VAEModel(VAEConfig(**{"image_size": SIDE, "latent_dim": 3, "hidden_sizes": [8], **options})).eval()


def gan(**options) -> GANModel:
    torch.manual_seed(0)
    defaults = {"image_size": SIDE, "latent_dim": 4, "architecture": "mlp", "generator_channels": 16}
    return GANModel(GANConfig(**{**defaults, **options})).eval()


def pipeline(classes: int = 0) -> UnconditionalPipeline | ClassConditionalPipeline:
    torch.manual_seed(0)
    unet = UNet2DModel(**UNET, num_class_embeds=classes + 1 if classes else None)
    kind = ClassConditionalPipeline if classes else UnconditionalPipeline
    made = kind(unet.eval(), DDPMScheduler())
    made.set_progress_bar_config(disable=True)
    return made


def painters() -> list:
    return [VAEPainter("VAE", vae()), GANPainter("GAN", gan()), DiffusionPainter("diffusion model", pipeline())]


def vision_model() -> ViTModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return ViTModel(ViTConfig(**sizes, image_size=SIDE, patch_size=4, num_channels=1), add_pooling_layer=False).eval()


def save_vision_model(folder: Path) -> str:
    vision_model().save_pretrained(folder)
    image_processor_for(1, SIDE).save_pretrained(folder)
    return str(folder)


def pictures(count: int, seed: int = 0) -> ArrayImageDataset:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8)
    return ArrayImageDataset(pixels, np.arange(count) % 2)


def judge(tmp_path: Path) -> PictureJudge:
    extractor = FeatureExtractor(vision_model(), name="tiny")
    return PictureJudge(extractor, pictures(30), floor_set=pictures(30, 1), cache_dir=tmp_path)
