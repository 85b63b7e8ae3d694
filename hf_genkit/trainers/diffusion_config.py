"""Arguments of [`DiffusionTrainer`]."""

from dataclasses import dataclass, field

from ..arguments import check_choice, check_range
from ..losses.diffusion import PREDICTIONS, WEIGHTINGS
from .generative_config import GenerativeConfig
from .noise_levels import DENSITIES, NOISE_SCHEDULES


@dataclass
class DiffusionConfig(GenerativeConfig):
    """
    Arguments of [`DiffusionTrainer`], on top of those of [`~transformers.TrainingArguments`].

    Args:
        prediction_type (`str`, *optional*):
            What the network predicts: a key of [`~hf_genkit.losses.diffusion.PREDICTIONS`], or diffusers' own "sample",
            "v_prediction" or "flow_prediction". Defaults to what a given scheduler says, else to "epsilon".
        noise_schedule (`str`, *optional*, defaults to `"linear"`):
            Of the scheduler that is made where none is given, as are the next four, see [`make_noise_scheduler`].
        num_train_timesteps (`int`, *optional*, defaults to 1000): Levels of noise.
        zero_terminal_snr (`bool`, *optional*, defaults to `False`): Whether the last level is noise alone.
        sigma_data (`float`, *optional*, defaults to 0.5): Standard deviation of the data, for "edm".
        flow_shift (`float`, *optional*, defaults to 1.0): Above 1 more of a "flow" is noisy.
        weighting (`str`, *optional*, defaults to `"none"`): A key of [`~hf_genkit.losses.diffusion.WEIGHTINGS`].
        snr_gamma (`float`, *optional*, defaults to 5.0): The gamma of "min_snr".
        stratified_timesteps (`bool`, *optional*, defaults to `True`):
            Spread the levels of a global batch evenly ([Kingma et al., 2021](https://huggingface.co/papers/2107.00630)):
            each picture's level is as random as before, and the loss less.
        timestep_density (`str`, *optional*, defaults to `"uniform"`): "uniform" or "logit_normal".
        edm_mean, edm_std (`float`, *optional*, default to -1.2 and 1.2): Of the logarithm of EDM's sigma.
        condition_dropout (`float`, *optional*, defaults to 0.1):
            Share of labels or captions that are left out, for classifier-free guidance
            ([Ho and Salimans, 2022](https://huggingface.co/papers/2207.12598)).
        super_resolution_factor (`int`, *optional*, defaults to 1):
            Above 1: learn to enlarge so many times; the network sees the reduced picture beside the noisy one.
        latent_scaling (`float`, *optional*):
            What latents are multiplied by; by default it is measured so that they get the standard deviation 1.
        ema_decay (`float`, *optional*, defaults to 0.9999):
            Decay of the moving average of the weights, at full length; 0 for none.
        ema_power (`float`, *optional*, defaults to 0.75): After n steps the decay is `1 - (n + 1)^-power` at most.
        channels_last (`bool`, *optional*, defaults to `False`):
            Store pictures channels last: faster for wide networks, slower where groups of the normalisation have fewer
            than 16 channels.
        sampler (`str`, *optional*):
            Draws the pictures and goes with the pipeline: "ddpm", "ddim" (the default), "dpm++" or "unipc"; for "flow"
            "euler" (the default), "dpm++" or "unipc"; for "edm" "euler" (the default) or "dpm++".
        num_inference_steps (`int`, *optional*, defaults to 50): Steps in which pictures are drawn.
        guidance_scale (`float`, *optional*, defaults to 1.0): Guidance with which they are drawn; 1 is none.

    Raises:
        `ValueError`: A value lies outside its range, or a name is unknown; the message names both.
    """

    prediction_type: str | None = field(
        default=None, metadata={"help": f"What the network predicts: {', '.join(PREDICTIONS)}; default: epsilon."}
    )
    noise_schedule: str = field(default="linear", metadata={"help": f"Noise schedule: {', '.join(NOISE_SCHEDULES)}."})
    num_train_timesteps: int = field(default=1000, metadata={"help": "Levels of noise."})
    zero_terminal_snr: bool = field(default=False, metadata={"help": "Whether the last level is noise alone."})
    sigma_data: float = field(default=0.5, metadata={"help": "Standard deviation of the data, for edm."})
    flow_shift: float = field(default=1.0, metadata={"help": "Above 1 more of a flow is noisy."})
    weighting: str = field(default="none", metadata={"help": f"Weight of a noise level: {', '.join(WEIGHTINGS)}."})
    snr_gamma: float = field(default=5.0, metadata={"help": "The gamma of min_snr."})
    stratified_timesteps: bool = field(default=True, metadata={"help": "Spread the levels of a batch evenly."})
    timestep_density: str = field(default="uniform", metadata={"help": f"Of noise levels: {', '.join(DENSITIES)}."})
    edm_mean: float = field(default=-1.2, metadata={"help": "Mean of the logarithm of EDM's sigma."})
    edm_std: float = field(default=1.2, metadata={"help": "Its standard deviation."})
    condition_dropout: float = field(default=0.1, metadata={"help": "Share of labels or captions to leave out."})
    super_resolution_factor: int = field(default=1, metadata={"help": "Above 1: learn to enlarge so many times."})
    latent_scaling: float | None = field(
        default=None, metadata={"help": "What latents are multiplied by; default: measured to give them deviation 1."}
    )
    ema_decay: float = field(default=0.9999, metadata={"help": "Decay of the weights' moving average; 0 for none."})
    ema_power: float = field(default=0.75, metadata={"help": "After n steps the decay is 1 - (n + 1)^-power at most."})
    channels_last: bool = field(default=False, metadata={"help": "Store pictures channels last: for wide networks."})
    sampler: str | None = field(
        default=None, metadata={"help": "ddpm, ddim, dpm++, unipc or euler; default: ddim, for flow and edm euler."}
    )
    num_inference_steps: int = field(default=50, metadata={"help": "Steps in which pictures are drawn."})
    guidance_scale: float = field(default=1.0, metadata={"help": "Guidance with which they are drawn; 1 is none."})

    def __post_init__(self):
        names = {prediction.diffusers_name: name for name, prediction in PREDICTIONS.items() if name != "edm"}
        self.prediction_type = names.get(self.prediction_type, self.prediction_type)
        if self.prediction_type is not None:
            check_choice("prediction_type", self.prediction_type, list(PREDICTIONS))
        check_choice("noise_schedule", self.noise_schedule, list(NOISE_SCHEDULES))
        check_choice("weighting", self.weighting, list(WEIGHTINGS))
        check_choice("timestep_density", self.timestep_density, DENSITIES)
        check_range(self, "num_train_timesteps", 2)
        for name in ("sigma_data", "flow_shift", "snr_gamma", "edm_std", "latent_scaling", "ema_power"):
            check_range(self, name, 0, above=True)
        check_range(self, "condition_dropout", 0, 1)
        check_range(self, "super_resolution_factor", 1)
        check_range(self, "ema_decay", 0, 0.999999)
        check_range(self, "num_inference_steps", 1)
        check_range(self, "guidance_scale", 0)
        super().__post_init__()
