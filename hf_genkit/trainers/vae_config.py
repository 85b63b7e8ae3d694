"""Arguments of [`VAETrainer`]."""

from dataclasses import dataclass, field

from ..arguments import check_choice, check_range
from .generative_config import GenerativeConfig


BINARIZATIONS = ["none", "dynamic", "threshold"]
LATENT_PRIORS = ["normal", "mixture", "two_stage"]


@dataclass
class VAETrainingConfig(GenerativeConfig):
    """
    Arguments of [`VAETrainer`], on top of those of [`~transformers.TrainingArguments`]. What the model minimises
    (likelihood, objective, beta) is in its [`~hf_genkit.VAEConfig`].

    Args:
        kl_warmup_steps (`float`, *optional*, defaults to 0):
            Optimizer steps in which the weight of the KL term grows from 0 to the model's `beta`, or, below 1, their
            share of all steps ([Bowman et al., 2016](https://huggingface.co/papers/1511.06349)).
        binarize (`str`, *optional*, defaults to `"none"`):
            "dynamic" draws each pixel as black or white with its grey level as probability, anew in each step of
            training and always alike in evaluation ([Salakhutdinov and Murray, 2008](https://doi.org/10.1145/1390156.1390266));
            "threshold" cuts at half.
        latent_prior (`str`, *optional*, defaults to `"normal"`):
            Where samples come from: "normal" is the VAE's own prior; "mixture" (a Gaussian mixture) and "two_stage" (a
            second VAE, [Dai and Wipf, 2019](https://huggingface.co/papers/1903.05789)) are fitted on the training set's
            latents by [`~VAETrainer.fit_prior`].
        mixture_components (`int`, *optional*, defaults to 10): Components of the Gaussian mixture.
        likelihood_samples (`int`, *optional*, defaults to 100):
            Importance samples for the likelihood of the test set in recipes; 0 leaves it out.

    Raises:
        `ValueError`: A value lies outside its range; the message names both.
    """

    kl_warmup_steps: float = field(
        default=0,
        metadata={"help": "Steps (below 1: share of all steps) in which the KL term's weight grows to beta."},
    )
    binarize: str = field(
        default="none", metadata={"help": f"Makes pixels black or white: {', '.join(BINARIZATIONS)}."}
    )

    latent_prior: str = field(
        default="normal", metadata={"help": f"Where the latents of samples come from: {', '.join(LATENT_PRIORS)}."}
    )
    mixture_components: int = field(default=10, metadata={"help": "Components of the mixture prior."})
    likelihood_samples: int = field(
        default=100, metadata={"help": "Importance samples for the likelihood of the test set; 0: leave it out."}
    )

    def __post_init__(self):
        check_choice("latent_prior", self.latent_prior, LATENT_PRIORS)
        check_range(self, "mixture_components", 1)
        check_range(self, "likelihood_samples", 0)
        check_range(self, "kl_warmup_steps", 0)
        check_choice("binarize", self.binarize, BINARIZATIONS)
        super().__post_init__()
