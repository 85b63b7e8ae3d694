"""Untrained models as folders, their demos, and the functions behind the buttons."""

import json
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    LlamaConfig,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from hf_genkit.data.tokenizer_training import train_tokenizer
from hf_genkit.pipelines import ClassConditionalPipeline, SuperResolutionPipeline

from ..hub.tiny_models import save_image_classifier
from ..trainers.tiny_diffusion import unet
from ..trainers.tiny_distillation import head
from ..trainers.tiny_generative import gan, vae, vq_vae


TEXTS = ["once upon a time there was a small model", "and it read all that it was given", "to be or not to be"] * 9
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TAGS = {0: "O", 1: "NAME", 2: "PLACE"}
NAMES = {0: "left", 1: "middle", 2: "right"}


def louder(model, factor: float = 3.0):
    """The same model with larger weights, so that what it is given changes what it draws."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model


def save_vae(folder: Path, **options) -> Path:
    louder(vae(**options)).save_pretrained(folder)
    return folder


def save_vq_vae(folder: Path) -> Path:
    vq_vae().save_pretrained(folder)
    return folder


def save_gan(folder: Path, **options) -> Path:
    louder(gan(id2label=NAMES, **options)).export_generator(use_ema=False).save_pretrained(folder)
    return folder


def save_ddpm(folder: Path) -> Path:
    """By class, as our pipeline."""
    network = unet(num_class_embeds=len(NAMES) + 1)
    ClassConditionalPipeline(
        network, DDIMScheduler(num_train_timesteps=20), id2label=NAMES, defaults={"num_inference_steps": 3}
    ).save_pretrained(folder)
    return folder


def save_stock_ddpm(folder: Path) -> Path:
    DDPMPipeline(unet(), DDPMScheduler(num_train_timesteps=20)).save_pretrained(folder)
    return folder


def save_enlarger(folder: Path) -> Path:
    SuperResolutionPipeline(unet(in_channels=2), DDIMScheduler(num_train_timesteps=20)).save_pretrained(folder)
    return folder


def save_classifier(folder: Path, seed: int = 0) -> Path:
    """Of grey pictures of 8x8 pixels, with the classes no and yes."""
    torch.manual_seed(seed)
    save_image_classifier(folder)
    return folder


def save_text_model(folder: Path, kind: str, seed: int = 0) -> Path:
    """For "text", "tokens", "gaps" (a masked language model) or "generation"."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS, 300, masked=kind != "generation")
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    sizes = {**SIZES, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    if kind == "generation":
        model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, num_key_value_heads=2))
    else:
        names = TAGS if kind == "tokens" else {0: "bad", 1: "good"}
        config = BertConfig(**sizes, id2label=names, label2id={name: index for index, name in names.items()})
        heads = {"text": AutoModelForSequenceClassification, "tokens": AutoModelForTokenClassification}
        model = heads.get(kind, AutoModelForMaskedLM).from_config(config)
    tokenizer.model_max_length = 64
    louder(model, 5.0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_ctc(folder: Path) -> Path:
    """A model that hears letters in waves at 16 kHz."""
    folder.mkdir(exist_ok=True)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefg"]
    (folder / "letters.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "letters.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    head("ctc").save_pretrained(folder)
    return folder


def function(demo, name: str):
    """What runs when a button is pressed, by the name of its event."""
    (found,) = [each for each in demo.fns.values() if each.api_name == name]
    return found.fn


def labels(demo) -> list[str]:
    """What can be set and seen on a page."""
    return [each.label for each in demo.blocks.values() if getattr(each, "label", None)]


def grey(level: int, size: int = 8) -> Image.Image:
    return Image.new("L", (size, size), level)
