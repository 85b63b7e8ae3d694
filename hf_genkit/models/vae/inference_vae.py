"""What a trained variational autoencoder is for: new pictures, pictures between two others, and scores of pictures."""

import torch
from transformers import PreTrainedModel

from .configuration_vae import ANOMALY_KINDS, VAEConfig, check_choice
from .priors_vae import PRIORS, check_mixture, standard_normal
from .scoring_vae import SCORES, importance_sampled


DECODED_AT_ONCE = 1024


class VAEInferenceMixin:
    """The methods of [`VAEModel`] that need no gradient."""

    @torch.no_grad()
    def reconstruct(self, pixel_values: torch.FloatTensor) -> torch.Tensor:
        """Pictures decoded from the mean of q(z | x), with the shape of `pixel_values`."""
        return self.decode(self.encode(pixel_values)[0])

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        generator: torch.Generator | None = None,
        prior: str = "normal",
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """
        New pictures, of shape `(num_samples, channels, height, width)`.

        Args:
            num_samples (`int`): How many.
            generator (`torch.Generator`, *optional*, defaults to the global one): Draws the latents.
            prior (`str`, *optional*, defaults to `"normal"`):
                `"normal"`, or a prior fitted on latents: `"mixture"` (see [`~VAEModel.set_mixture_prior`]) or
                `"two_stage"` (see [`~VAEModel.set_second_stage`]).
            temperature (`float`, *optional*, defaults to 1.0): Factor on the standard deviation of all noise.

        Raises:
            `ValueError`: The prior is unknown or has not been fitted, or `num_samples` is less than 1.
        """
        if num_samples < 1:
            raise ValueError(f"`num_samples` is {num_samples}, but it must be 1 or more.")
        check_choice("prior", prior, tuple(PRIORS))
        latents = PRIORS[prior](self, num_samples, generator, temperature)
        return torch.cat([self.decode(part) for part in latents.split(DECODED_AT_ONCE)])

    def set_mixture_prior(self, weights: torch.Tensor, means: torch.Tensor, scale_trils: torch.Tensor):
        """
        Gives the model a Gaussian mixture over latents for `sample(prior="mixture")`; it is saved with the model.

        Args:
            weights (`torch.Tensor` of shape `(components,)`): Probabilities.
            means (`torch.Tensor` of shape `(components, latent_dim)`): Means.
            scale_trils (`torch.Tensor` of shape `(components, latent_dim, latent_dim)`):
                Lower Cholesky factors of the covariances.

        Raises:
            `ValueError`: A shape is wrong, the weights are no probabilities, or a factor is not lower triangular.
        """
        tensors = [torch.as_tensor(value, dtype=torch.float64) for value in (weights, means, scale_trils)]
        check_mixture(*tensors, self.config.latent_dim)
        weights, means, scale_trils = (value.to(self.device, torch.float32) for value in tensors)
        self.register_mixture(weights.log(), means, scale_trils)
        self.config.mixture_components = len(weights)

    def set_second_stage(self, model: PreTrainedModel):
        """
        Gives the model a second VAE over its latents for `sample(prior="two_stage")` (Dai and Wipf, 2019); it is saved
        with the model. Latents move when the model is trained on, so train it first.

        Args:
            model (`VAEModel`): Trained on latents of shape `(batch, latent_dim, 1, 1)`; its configuration is
                `VAEConfig(image_size=1, num_channels=latent_dim, architecture="mlp", likelihood="gaussian",
                sigma="learned", bounded=False, latent_dim=..., hidden_sizes=...)`.

        Raises:
            `ValueError`: The configuration of `model` doesn't fit.
        """
        fields = {name: getattr(model.config, name) for name in VAEConfig.own_fields()}
        before, self.config.second_stage = self.config.second_stage, fields
        try:
            self.config.second_stage_config()
        except ValueError:
            self.config.second_stage = before
            raise
        self.second_stage = model.to(self.device)

    @torch.no_grad()
    def interpolate(
        self, a: torch.FloatTensor, b: torch.FloatTensor, steps: int = 8, mode: str = "linear"
    ) -> torch.Tensor:
        """
        Pictures between `a` and `b`, both (batch, channels, height, width), along the way from the mean of q(z | a) to
        that of q(z | b), both ends included: `(batch, steps, channels, height, width)`.

        Args:
            steps (`int`, *optional*, defaults to 8): Pictures on the way, 2 or more.
            mode (`str`, *optional*, defaults to `"linear"`): `"linear"` or `"slerp"` (spherical; White, 2016).

        Raises:
            `ValueError`: `steps` is less than 2, `mode` is unknown, or `a` and `b` are not pictures of one shape.
        """
        check_choice("mode", mode, ("linear", "slerp"))
        if steps < 2:
            raise ValueError(f"`steps` is {steps}, but both ends are included, so it must be 2 or more.")
        if a.shape != b.shape:
            raise ValueError(f"`a` has the shape {tuple(a.shape)} and `b` has {tuple(b.shape)}, but both must agree.")
        first, last = self.encode(a)[0], self.encode(b)[0]
        time = torch.linspace(0, 1, steps, device=first.device)[:, None]
        weights = 1 - time, time
        if mode == "slerp":
            cosine = torch.cosine_similarity(first, last, dim=-1).clamp(-1, 1)
            angle = torch.acos(cosine)[:, None, None]
            spherical = [torch.sin(weight * angle) / torch.sin(angle) for weight in weights]
            # Vectors on one line have no arc between them; the straight line is left.
            on_line = torch.sin(angle) < 1e-4
            weights = [torch.where(on_line, line, arc) for line, arc in zip(weights, spherical, strict=True)]
        latents = weights[0] * first[:, None] + weights[1] * last[:, None]
        return self.decode(latents.flatten(0, 1)).unflatten(0, (len(a), steps))

    @torch.no_grad()
    def log_likelihood(
        self,
        pixel_values: torch.FloatTensor,
        num_samples: int = 100,
        generator: torch.Generator | None = None,
        chunk_size: int | None = None,
    ) -> torch.Tensor:
        """
        log p(x) of each picture under the N(0, 1) prior, `(batch,)` in nats: importance sampling from q(z | x), a
        lower bound in expectation that is tight for many samples (Burda et al., 2016). The noise of a picture doesn't
        depend on `chunk_size`.

        Args:
            num_samples (`int`, *optional*, defaults to 100): Samples per picture.
            generator (`torch.Generator`, *optional*, defaults to the global one): Draws the noise.
            chunk_size (`int`, *optional*):
                Latents to decode at a time, over pictures and samples; by default as many as suit the device.

        Raises:
            `ValueError`: `pixel_values` is no batch of such pictures, `num_samples` or `chunk_size` is less than 1, or
                the optimal sigma, which is chosen after seeing the picture, makes p(x | z) no density.
        """
        self.check_pixel_values(pixel_values)
        self._check_density()
        for name, value in (("num_samples", num_samples), ("chunk_size", chunk_size)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}, but it must be 1 or more.")
        shape = (num_samples, self.config.latent_dim)
        return importance_sampled(
            self, pixel_values, lambda: standard_normal(shape, generator, self.device), chunk_size
        )

    @torch.no_grad()
    def anomaly_score(
        self,
        pixel_values: torch.FloatTensor,
        kind: str = "reconstruction",
        num_samples: int = 50,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """
        How unusual each picture is, `(batch,)`; higher is more anomalous.

        Args:
            kind (`str`, *optional*, defaults to `"reconstruction"`):
                `"reconstruction"` is the mean squared error of the picture decoded from the mean of q(z | x);
                `"scaled_reconstruction"` is that over the variance of the picture's pixels; `"elbo"` is the negative
                evidence lower bound and `"likelihood"` the negative importance-sampled log-likelihood; `"regret"` is
                what 20 gradient steps on the picture's own q(z | x) gain (Xiao et al., 2020).
            num_samples (`int`, *optional*, defaults to 50):
                Samples of q(z | x) for the last three kinds.
            generator (`torch.Generator`, *optional*):
                Draws their noise, which is the same for all pictures, so that a score doesn't depend on the rest of
                the batch; by default it is the same in each call, too.

        Raises:
            `ValueError`: `pixel_values` is no batch of such pictures, `kind` is unknown, or `num_samples` is less
                than 1.
        """
        self.check_pixel_values(pixel_values)
        check_choice("kind", kind, ANOMALY_KINDS)
        if num_samples < 1:
            raise ValueError(f"`num_samples` is {num_samples}, but it must be 1 or more.")
        if kind == "likelihood":
            self._check_density()
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        noise = standard_normal((num_samples, self.config.latent_dim), generator, self.device)
        return SCORES[kind](self, pixel_values, lambda: noise)

    def is_anomaly(self, pixel_values: torch.FloatTensor) -> torch.Tensor:
        """
        Whether the score `config.anomaly_kind` of each picture is above `config.anomaly_threshold`, `(batch,)`.

        Raises:
            `ValueError`: The configuration has no threshold or no kind.
        """
        kind, threshold = self.config.anomaly_kind, self.config.anomaly_threshold
        if kind is None or threshold is None:
            raise ValueError("`config.anomaly_kind` and `config.anomaly_threshold` must be set to tell anomalies.")
        return self.anomaly_score(pixel_values, kind) > threshold

    def _check_density(self):
        if self.config.likelihood == "gaussian" and self.config.sigma == "optimal":
            raise ValueError(
                "The likelihood of a picture under sigma 'optimal' is not defined, as sigma is chosen after seeing the "
                "picture; train with sigma 'learned' to have one."
            )
