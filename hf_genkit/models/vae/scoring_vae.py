"""The likelihood of pictures under a variational autoencoder, and scores that tell how unusual they are."""

from collections.abc import Callable, Iterator

import torch

from .objectives_vae import kl_divergence, log_mean_exp, log_ratio


# Values in the decoder's widest layer that one call may hold: 16 MiB where a CPU's cache counts, 1 GiB on a GPU.
WIDEST_ON_CPU, WIDEST_ON_GPU = 2**22, 2**28

REGRET_STEPS, REGRET_LEARNING_RATE = 20, 0.1


def latents_at_once(model) -> int:
    """How many latents one call of the decoder should take, for a model on this device."""
    widest = WIDEST_ON_CPU if model.device.type == "cpu" else WIDEST_ON_GPU
    return max(1, widest // model.decoder.width)


def sampled_terms(
    model, pixel_values: torch.Tensor, draw: Callable[[], torch.Tensor], chunk_size: int | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """
    Encodes each picture once, and decodes samples of its q(z | x) in chunks of about `chunk_size` latents, which hold
    many samples of one picture or few samples of many pictures.

    Args:
        draw (`Callable`): Gives one picture's standard normal noise, (samples, latents).

    Yields:
        `tuple`: For a block of pictures: log p(x | z) and log p(z) - log q(z | x), both (pictures, samples), and the
        KL divergence (pictures,).
    """
    chunk_size = chunk_size or latents_at_once(model)
    for encoded in pixel_values.split(chunk_size):
        mean, log_variance = model.encode_checked(encoded)
        position = 0
        while position < len(encoded):
            noise = [draw()]
            samples = len(noise[0])
            pictures = min(max(1, chunk_size // samples), len(encoded) - position)
            noise = torch.stack(noise + [draw() for _ in range(pictures - 1)])
            block = slice(position, position + pictures)
            latents = mean[block, None] + torch.exp(log_variance[block, None] / 2) * noise
            log_likelihood = [
                model.log_prob(part, encoded[block])[0]
                for part in latents.split(max(1, chunk_size // pictures), dim=1)
            ]
            yield (
                torch.cat(log_likelihood, dim=1),
                log_ratio(latents, noise, log_variance[block]),
                kl_divergence(mean[block], log_variance[block]).sum(-1),
            )
            position += pictures


def importance_sampled(model, pixel_values, draw, chunk_size: int | None = None) -> torch.Tensor:
    """log p(x) of each picture, (pictures,)."""
    blocks = sampled_terms(model, pixel_values, draw, chunk_size)
    return torch.cat([log_mean_exp(log_likelihood + ratio) for log_likelihood, ratio, _ in blocks])


def reconstruction_score(model, pixel_values, draw) -> torch.Tensor:
    return (pixel_values - model.reconstruct(pixel_values)).square().flatten(1).mean(1)


def scaled_reconstruction_score(model, pixel_values, draw) -> torch.Tensor:
    # A picture of one colour has no variance; one grey level of 256, squared, stands in for it.
    variance = pixel_values.flatten(1).var(1, correction=0).clamp(min=(2 / 255) ** 2)
    return reconstruction_score(model, pixel_values, draw) / variance


def elbo_score(model, pixel_values, draw) -> torch.Tensor:
    blocks = sampled_terms(model, pixel_values, draw, None)
    return torch.cat([kl - log_likelihood.mean(1) for log_likelihood, _, kl in blocks])


def likelihood_score(model, pixel_values, draw) -> torch.Tensor:
    return -importance_sampled(model, pixel_values, draw)


def regret_score(model, pixel_values, draw) -> torch.Tensor:
    noise = draw()
    pictures = max(1, latents_at_once(model) // len(noise))
    return torch.cat([regret_of_block(model, block, noise) for block in pixel_values.split(pictures)])


def regret_of_block(model, pixel_values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What gradient steps on its own posterior gain each picture, with the same noise (samples, latents) for all."""

    def elbo(mean, log_variance):
        latents = mean[:, None] + torch.exp(log_variance[:, None] / 2) * noise
        log_likelihood, _ = model.log_prob(latents, pixel_values)
        return log_likelihood.mean(1) - kl_divergence(mean, log_variance).sum(-1)

    posterior = model.encode_checked(pixel_values)
    first = elbo(*posterior)
    with torch.enable_grad():
        best = [parameter.clone().requires_grad_() for parameter in posterior]
        optimizer = torch.optim.Adam(best, lr=REGRET_LEARNING_RATE, maximize=True)
        for _ in range(REGRET_STEPS):
            gradients = torch.autograd.grad(elbo(*best).sum(), best)
            for parameter, gradient in zip(best, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    return elbo(*best) - first


SCORES = {
    "elbo": elbo_score,
    "likelihood": likelihood_score,
    "reconstruction": reconstruction_score,
    "regret": regret_score,
    "scaled_reconstruction": scaled_reconstruction_score,
}
