"""A diffusion model in training: the network, what reads its captions, and the moving averages of both."""

import copy

import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel
from diffusers.models.embeddings import LabelEmbedding
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .adapters import bare


NETWORKS = (UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel)


def num_classes(network: nn.Module) -> int:
    """How many classes a network of diffusers tells apart, the null class not counted; 0 if it has none."""
    config = bare(network).config
    if isinstance(bare(network), DiTTransformer2DModel):
        return config.num_embeds_ada_norm if config.num_embeds_ada_norm > 1 else 0
    return 0 if config.num_class_embeds is None else config.num_class_embeds - 1


def null_class(network: nn.Module) -> int | None:
    """The index of the class that stands for none; `None` if the network takes no classes."""
    config = bare(network).config
    if isinstance(bare(network), DiTTransformer2DModel):
        return config.num_embeds_ada_norm
    return None if config.num_class_embeds is None else config.num_class_embeds - 1


class DenoiserConfig(PreTrainedConfig):
    """The configurations of a [`Denoiser`]'s parts, which tell one run from another."""

    model_type = "genkit_denoiser"
    keys_to_ignore_at_inference = ()


class Denoiser(PreTrainedModel):
    """
    What [`DiffusionTrainer`] wraps, shards and optimises. In training it runs the network, in evaluation the network's
    moving average. Weights that aren't trained are shared by both.

    Args:
        unet (`UNet2DModel`, `UNet2DConditionModel`, `DiTTransformer2DModel` or a `PeftModel` of one): The network.
        text_encoder (`PreTrainedModel`, *optional*): Reads captions; trained where its weights require gradients.
        has_ema (`bool`, *optional*, defaults to `True`): Whether to keep moving averages.
    """

    config_class = DenoiserConfig
    main_input_name = "pixel_values"

    def __init__(self, unet: nn.Module, text_encoder: PreTrainedModel | None = None, has_ema: bool = True):
        config = bare(unet).config
        parts = {"unet": {name: value for name, value in config.items() if not name.startswith("_")}}
        if text_encoder is not None:
            parts["text_encoder"] = text_encoder.config.to_diff_dict()
        super().__init__(DenoiserConfig(**parts, name_or_path=config.get("_name_or_path") or ""))
        for module in unet.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0  # DiT's own dropout of labels draws from the global generator
        self.null_class = null_class(unet)
        self.raw = nn.ModuleDict({"unet": unet})
        if text_encoder is not None:
            self.raw["text_encoder"] = text_encoder
        self.ema = None
        if has_ema:
            frozen = {id(p): p for p in self.raw.parameters() if not p.requires_grad}
            self.ema = copy.deepcopy(self.raw, frozen).requires_grad_(False).eval()
        self.eval()

    @property
    def averaged(self) -> nn.ModuleDict:
        """The parts with the weights that are published: the moving averages, where there are any."""
        return self.raw if self.ema is None else self.ema

    def train(self, mode: bool = True) -> "Denoiser":
        if (
            self.training != mode or self.raw["unet"].training != mode
        ):  # walking hundreds of modules at each step takes as long as a tiny network
            self.training = mode
            self.raw.train(mode)
            if "text_encoder" in self.raw and not self.trains_text_encoder:
                self.raw["text_encoder"].eval()
        return self

    @property
    def trains_text_encoder(self) -> bool:
        """Whether there is a text encoder that is trained."""
        return "text_encoder" in self.raw and any(p.requires_grad for p in self.raw["text_encoder"].parameters())

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Parameters of the network and the text encoder, without their moving averages."""
        return sum(p.numel() for p in self.raw.parameters() if p.requires_grad or not only_trainable)

    def forward(
        self,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            sample (`torch.Tensor`): Noisy pictures or latents, scaled as the network wants them, `[N, C, H, W]`.
            timesteps (`torch.Tensor`): `[N]`.
            class_labels (`torch.Tensor`, *optional*): `[N]`; the null class where there are none.
            input_ids, attention_mask (`torch.Tensor`, *optional*): Captions as tokens, `[N, L]`.

        Returns:
            `torch.Tensor`: What the network predicts, `[N, C, H, W]`.
        """
        parts = self.raw if self.training else self.averaged
        options = {}
        if self.null_class is not None:
            options["class_labels"] = torch.full_like(timesteps, self.null_class, dtype=torch.long)
            if class_labels is not None:
                options["class_labels"] = class_labels
        if input_ids is not None:
            encoded = parts["text_encoder"](input_ids, attention_mask).last_hidden_state
            options |= {"encoder_hidden_states": encoded, "encoder_attention_mask": attention_mask}
        return parts["unet"](sample, timesteps, **options).sample

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Moves the averages of parameters and buffers towards the weights by `1 - decay`."""
        if self.ema is None:
            return
        pairs = [
            (mean, value)
            for mean, value in zip(self.ema.parameters(), self.raw.parameters(), strict=True)
            if mean is not value
        ]
        for mean, value in zip(self.ema.buffers(), self.raw.buffers(), strict=True):
            if mean.is_floating_point():
                pairs.append((mean, value))
            else:
                mean.copy_(value)
        means, values = zip(*pairs, strict=True)
        torch._foreach_lerp_(means, values, 1 - decay)

    def trained_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """What training changes: parameters that require gradients, and buffers, of both the raw and the averaged parts."""
        names = {name for name, value in self.raw.named_parameters() if value.requires_grad}
        names |= {name for name, _ in self.raw.named_buffers()}
        parts = {"raw": self.raw} | ({} if self.ema is None else {"ema": self.ema})
        return {
            part: {name: value for name, value in module.state_dict().items() if name in names}
            for part, module in parts.items()
        }

    def load_trained_state(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        """
        Takes back what [`~Denoiser.trained_state`] gave.

        Raises:
            `ValueError`: It is another model's.
        """
        own = self.trained_state()
        if {part: set(values) for part, values in own.items()} != {part: set(v) for part, v in state.items()}:
            raise ValueError("The checkpoint holds the weights of another model, or of other parts of it.")
        for part, values in state.items():
            getattr(self, part).load_state_dict(values, strict=False)
