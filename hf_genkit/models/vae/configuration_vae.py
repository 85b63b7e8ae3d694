"""The configuration of a variational autoencoder."""

from dataclasses import fields
from difflib import get_close_matches
from typing import Any, ClassVar

from transformers import PreTrainedConfig


ARCHITECTURES = ("conv", "mlp")
LIKELIHOODS = ("bernoulli", "gaussian", "discretized_logistic", "continuous_bernoulli")
SIGMAS = ("fixed", "learned", "optimal")
OBJECTIVES = ("elbo", "beta_tc", "info_vae", "wae_mmd", "iwae")
ANOMALY_KINDS = ("reconstruction", "scaled_reconstruction", "elbo", "likelihood", "regret")


class VAEConfig(PreTrainedConfig):
    r"""
    Configuration of a [`VAEModel`].

    Args:
        image_size (`int`, *optional*, defaults to 28):
            Height and width of the pictures in pixels. The `"conv"` architecture halves it once for each entry of
            `hidden_sizes`, so it must be divisible by 2 that often.
        num_channels (`int`, *optional*, defaults to 1):
            Channels of the pictures: 1 for grey, 3 for colour.
        latent_dim (`int`, *optional*, defaults to 16):
            Length of the latent vector.
        architecture (`str`, *optional*, defaults to `"conv"`):
            `"conv"` (strided convolutions, and their mirror image in the decoder) or `"mlp"`.
        hidden_sizes (`list[int]`, *optional*):
            `"conv"`: channels after each stride-2 stage; by default 32, 64, 128, 256, 256, ... with as many stages as
            leave at least 4 pixels. `"mlp"`: widths of the encoder's layers, by default `[512, 256]`. The decoder has
            them in reverse.
        gated (`bool`, *optional*, defaults to `False`):
            Whether the layers of an `"mlp"` are gated, h = (Wx + b) * sigmoid(Vx + c), instead of ReLU layers.
        likelihood (`str`, *optional*, defaults to `"bernoulli"`):
            What the decoder says of a pixel. `"bernoulli"` and `"continuous_bernoulli"` (Loaiza-Ganem and Cunningham,
            2019) are distributions of (x + 1) / 2, `"gaussian"` is a density of x in [-1, 1], and
            `"discretized_logistic"` (Kingma et al., 2016) gives probabilities of the 256 levels of an 8-bit picture,
            with one learned scale.
        sigma (`str`, *optional*, defaults to `"learned"`):
            Standard deviation of the Gaussian likelihood: `"fixed"` at `sigma_value`; `"learned"`, one number that
            starts at `sigma_value` (Dai and Wipf, 2019); or `"optimal"`, the best one for each picture, in closed
            form (Rybkin et al., 2021, who take the best one for a batch).
        sigma_value (`float`, *optional*, defaults to 1.0):
            See `sigma`; the scale of the discretized logistic starts there, too. Pixels are in [-1, 1].
        sigma_min (`float`, *optional*, defaults to 0.001):
            Floor under a learned or optimal sigma, and under the scale of the discretized logistic.
        bounded (`bool`, *optional*, defaults to `True`):
            Whether inputs must lie in [-1, 1] and outputs are clipped to that range. `False` lets a Gaussian
            likelihood model any real numbers, such as the latents of another VAE.
        objective (`str`, *optional*, defaults to `"elbo"`):
            The loss, in nats per picture. With R the negative log-likelihood summed over pixels and KL the divergence
            summed over latents:

            - `"elbo"`: R + beta KL (Kingma and Welling, 2014; Higgins et al., 2017), with `free_bits` or `capacity`.
            - `"beta_tc"`: R + KL + (beta - 1) TC, TC being the total correlation (Chen et al., 2018).
            - `"info_vae"`: R + beta KL + mmd_weight MMD. Zhao et al. (2019) write beta as 1 - alpha and mmd_weight
              as alpha + lambda - 1.
            - `"wae_mmd"`: R + mmd_weight MMD (Tolstikhin et al., 2018).
            - `"iwae"`: the bound of Burda et al. (2016) with `num_importance_samples` samples.
        beta (`float`, *optional*, defaults to 1.0):
            See `objective`.
        num_importance_samples (`int`, *optional*, defaults to 1):
            Samples per picture of the `"iwae"` objective.
        mmd_weight (`float`, *optional*, defaults to 100.0):
            See `objective`. The MMD is between 0 and 2.
        free_bits (`float`, *optional*, defaults to 0.0):
            Nats that each latent of each picture may use free of charge (Kingma et al., 2016): its KL counts as at
            least this much. Objective `"elbo"` only.
        capacity (`float`, *optional*):
            Target C of the KL in nats: the loss has beta |KL - C| (Burgess et al., 2018). Objective `"elbo"` only.
        dataset_size (`int`, *optional*):
            Size of the training set, for the `"beta_tc"` estimator. By default a batch stands for the data.
        anomaly_kind (`str`, *optional*):
            The score with which [`VAEModel.is_anomaly`] decides; see [`VAEModel.anomaly_score`].
        anomaly_threshold (`float`, *optional*):
            The score above which a picture is an anomaly.
        mixture_components (`int`, *optional*):
            Components of the Gaussian mixture fitted on latents, if there is one.
        second_stage (`dict`, *optional*):
            [`VAEConfig`] fields of a second VAE fitted on latents (Dai and Wipf, 2019), if there is one.

    Raises:
        `ValueError`: A field has a value that no model can have, or its name is misspelt.

    Example:

    ```python
    >>> from hf_genkit import VAEConfig, VAEModel

    >>> config = VAEConfig(image_size=32, num_channels=3, latent_dim=64, likelihood="gaussian", sigma="learned")
    >>> model = VAEModel(config)
    ```
    """

    model_type = "genkit_vae"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["reconstruction_loss", "kl_loss", "regularizer"]

    image_size: int = 28
    num_channels: int = 1
    latent_dim: int = 16
    architecture: str = "conv"
    hidden_sizes: list[int] | None = None
    gated: bool = False
    likelihood: str = "bernoulli"
    sigma: str = "learned"
    sigma_value: float = 1.0
    sigma_min: float = 1e-3
    bounded: bool = True
    objective: str = "elbo"
    beta: float = 1.0
    num_importance_samples: int = 1
    mmd_weight: float = 100.0
    free_bits: float = 0.0
    capacity: float | None = None
    dataset_size: int | None = None
    anomaly_kind: str | None = None
    anomaly_threshold: float | None = None
    mixture_components: int | None = None
    second_stage: dict | None = None

    def __post_init__(self, **kwargs):
        for name in kwargs:
            if match := get_close_matches(name, self.own_fields(), n=1, cutoff=0.8):
                raise ValueError(f"VAEConfig has no field '{name}'; did you mean '{match[0]}'?")
        for name, choices in (
            ("architecture", ARCHITECTURES),
            ("likelihood", LIKELIHOODS),
            ("sigma", SIGMAS),
            ("objective", OBJECTIVES),
            ("anomaly_kind", (None, *ANOMALY_KINDS)),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("image_size", "num_channels", "latent_dim", "num_importance_samples"):
            self._check_integer(name)
        for name in ("dataset_size", "mixture_components"):
            if getattr(self, name) is not None:
                self._check_integer(name)
        for name in ("beta", "mmd_weight", "free_bits", "sigma_value", "sigma_min"):
            self._check_number(name, above=name.startswith("sigma"))
        if self.capacity is not None:
            self._check_number("capacity")
        for name in ("gated", "bounded"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}, but it must be True or False.")
        if self.anomaly_threshold is not None and type(self.anomaly_threshold) not in (int, float):
            raise ValueError(f"`anomaly_threshold` is {self.anomaly_threshold!r}, but it must be a number.")
        self._check_network()
        self._check_combinations()
        super().__post_init__(**kwargs)
        if self.second_stage is not None:
            self.second_stage_config()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As for every configuration, but a checkpoint of another model type is refused.

        Raises:
            `ValueError`: If `config_dict` names another `model_type`.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"The checkpoint holds a model of type '{model_type}', but {cls.__name__} needs '{cls.model_type}'."
            )
        return super().from_dict(config_dict, **kwargs)

    @classmethod
    def own_fields(cls) -> list[str]:
        """Names of the fields that this class adds to those of every configuration."""
        inherited = {field.name for field in fields(PreTrainedConfig)}
        return [field.name for field in fields(cls) if field.name not in inherited]

    def second_stage_config(self) -> "VAEConfig":
        """
        The configuration of the second VAE, for which a latent vector is a picture of one pixel.

        Raises:
            `ValueError`: `second_stage` has fields that don't fit latents.
        """
        fixed = {"image_size": 1, "num_channels": self.latent_dim, "architecture": "mlp", "bounded": False}
        fixed |= {"likelihood": "gaussian", "sigma": "learned"}
        for name, value in fixed.items():
            given = self.second_stage.get(name, value)
            if given != value:
                raise ValueError(f"`second_stage` has {name}={given!r}, but a VAE of these latents has {value!r}.")
        if self.second_stage.get("second_stage") is not None:
            raise ValueError("`second_stage` has a second stage itself, but there can only be two.")
        return VAEConfig(**{**self.second_stage, **fixed})

    def _check_network(self):
        if self.hidden_sizes is None:
            self.hidden_sizes = default_stages(self.image_size) if self.architecture == "conv" else [512, 256]
        sizes = self.hidden_sizes
        if not isinstance(sizes, list | tuple) or not sizes or not all(type(s) is int and s > 0 for s in sizes):
            raise ValueError(f"`hidden_sizes` is {sizes!r}, but it must be a list of one or more integers above 0.")
        self.hidden_sizes = list(sizes)
        if self.architecture == "conv":
            if self.gated:
                raise ValueError("`gated` is True, but only architecture 'mlp' has gated layers.")
            if self.image_size % 2 ** len(sizes):
                raise ValueError(
                    f"`image_size` is {self.image_size}, but a 'conv' network with {len(sizes)} stages takes multiples "
                    f"of {2 ** len(sizes)}: use another size, fewer `hidden_sizes` or architecture 'mlp'."
                )

    def _check_combinations(self):
        if not self.bounded and self.likelihood != "gaussian":
            raise ValueError(
                f"`bounded` is False, but likelihood '{self.likelihood}' is for pictures in [-1, 1]; use 'gaussian'."
            )
        if self.num_importance_samples > 1 and self.objective != "iwae":
            raise ValueError(
                f"`num_importance_samples` is {self.num_importance_samples}, but objective '{self.objective}' takes "
                "one sample; use 'iwae'."
            )
        for name in ("free_bits", "capacity"):
            if getattr(self, name) and self.objective != "elbo":
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, but objective '{self.objective}' has none; use 'elbo'."
                )
        if self.free_bits and self.capacity is not None:
            raise ValueError("`free_bits` and `capacity` both reshape the KL term; set one of them.")

    def _check_integer(self, name: str):
        value = getattr(self, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"`{name}` is {value!r}, but it must be an integer of 1 or more.")

    def _check_number(self, name: str, above: bool = False):
        value = getattr(self, name)
        if type(value) not in (int, float) or not (value > 0 if above else value >= 0) or value == float("inf"):
            raise ValueError(
                f"`{name}` is {value!r}, but it must be a number {'above 0' if above else 'of 0 or more'}."
            )


def check_choice(name: str, value, choices: tuple):
    """
    Raises:
        `ValueError`: `value` is none of `choices`; the nearest of them is suggested.
    """
    if value in choices:
        return
    names = [choice for choice in choices if choice is not None]
    match = get_close_matches(str(value), names, n=1)
    hint = f" Did you mean '{match[0]}'?" if match else ""
    raise ValueError(f"`{name}` is {value!r}, but it must be one of {', '.join(map(repr, names))}.{hint}")


def default_stages(image_size: int) -> list[int]:
    """Channels of the stages that halve a picture of `image_size` pixels while at least 4 are left."""
    stages = []
    while image_size % 2 == 0 and image_size >= 8:
        image_size //= 2
        stages.append(min(32 * 2 ** len(stages), 256))
    if not stages:
        raise ValueError(
            f"`image_size` is {image_size}, but a 'conv' network takes even sizes of 8 or more: use another size, "
            "set `hidden_sizes`, or use architecture 'mlp'."
        )
    return stages


__all__ = ["VAEConfig"]
