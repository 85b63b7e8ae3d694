"""Distributions of latents from which a variational autoencoder samples."""

import torch


def standard_normal(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Noise of `shape` on `device`, drawn where the generator lives, so that a CPU generator suits every device."""
    drawn_on = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=drawn_on).to(device)


def normal(model, num_samples: int, generator: torch.Generator | None, temperature: float) -> torch.Tensor:
    """Latents from N(0, temperature^2)."""
    return temperature * standard_normal((num_samples, model.config.latent_dim), generator, model.device)


def mixture(model, num_samples: int, generator: torch.Generator | None, temperature: float) -> torch.Tensor:
    """Latents from the Gaussian mixture that [`VAEModel.set_mixture_prior`] stored."""
    if model.config.mixture_components is None:
        raise ValueError("The model has no mixture prior; fit one on its latents and give it to `set_mixture_prior`.")
    probabilities = model.mixture_log_weights.float().exp()
    drawn_on = model.device if generator is None else generator.device
    component = torch.multinomial(probabilities.to(drawn_on), num_samples, replacement=True, generator=generator).to(
        model.device
    )
    noise = standard_normal((num_samples, model.config.latent_dim, 1), generator, model.device)
    scale_trils = model.mixture_scale_trils[component].float()
    return model.mixture_means[component] + temperature * (scale_trils @ noise).squeeze(-1)


def two_stage(model, num_samples: int, generator: torch.Generator | None, temperature: float) -> torch.Tensor:
    """Latents sampled from the VAE that [`VAEModel.set_second_stage`] stored, with its learned noise."""
    if model.config.second_stage is None:
        raise ValueError("The model has no second stage; train one on its latents and give it to `set_second_stage`.")
    second = model.second_stage
    expected = second.decode(normal(second, num_samples, generator, temperature)).flatten(1)
    noise = normal(model, num_samples, generator, temperature)
    return expected + second.likelihood.log_sigma().exp() * noise


PRIORS = {"mixture": mixture, "normal": normal, "two_stage": two_stage}


def check_mixture(weights: torch.Tensor, means: torch.Tensor, scale_trils: torch.Tensor, latent_dim: int):
    """
    Raises:
        `ValueError`: The tensors are not the parameters of a Gaussian mixture over `latent_dim` latents.
    """
    shapes = [tuple(tensor.shape) for tensor in (weights, means, scale_trils)]
    components = weights.numel()
    if shapes != [(components,), (components, latent_dim), (components, latent_dim, latent_dim)] or not components:
        raise ValueError(
            f"`weights`, `means` and `scale_trils` have the shapes {shapes}, but they must be (components,), "
            f"(components, {latent_dim}) and (components, {latent_dim}, {latent_dim})."
        )
    if not bool((weights >= 0).all()) or abs(float(weights.sum()) - 1) > 1e-3:
        raise ValueError(f"`weights` adds up to {float(weights.sum()):.4g}, but it must hold probabilities.")
    diagonal = scale_trils.diagonal(dim1=-2, dim2=-1)
    if not torch.equal(scale_trils, scale_trils.tril()) or not bool((diagonal > 0).all()):
        raise ValueError("`scale_trils` must hold lower triangular matrices with a positive diagonal.")


def fitted_prior(config) -> str:
    """The key in `PRIORS` of what was fitted on a model's latents, "normal" if nothing was."""
    return "mixture" if config.mixture_components else "two_stage" if config.second_stage else "normal"
