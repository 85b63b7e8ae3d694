"""The codebook of a vector-quantised variational autoencoder."""

import torch
from torch import distributed, nn

from .configuration_vq_vae import VQVAEConfig


LEAST_COUNT = 1e-5


class Codebook(nn.Module):
    """
    Codes whose vectors are moving averages of the encodings that took them (van den Oord et al., 2017, appendix A).

    All state is in buffers, so that a checkpoint holds it, and no random number is drawn, so that a resumed run is
    exact. Counts and sums are added up over processes, which keeps their codebooks equal.
    """

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        self.decay, self.revival_steps = config.decay, config.revival_steps
        self.register_buffer("vectors", torch.zeros(config.codebook_size, config.code_dim))
        self.register_buffer("sums", torch.zeros(config.codebook_size, config.code_dim))
        self.register_buffer("counts", torch.zeros(config.codebook_size))
        # Updates since each code was last taken, and updates in all.
        self.register_buffer("idle", torch.zeros(config.codebook_size, dtype=torch.long))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """The vectors of `codes` (batch, rows, columns), as (batch, code_dim, rows, columns)."""
        return nn.functional.embedding(codes, self.vectors).permute(0, 3, 1, 2)

    def nearest(self, encodings: torch.Tensor) -> torch.Tensor:
        """The codes (batch, rows, columns) nearest to `encodings` (batch, code_dim, rows, columns)."""
        flat = encodings.permute(0, 2, 3, 1)
        # The encoding's own square is the same for all codes, and so left out of the distance.
        vectors = self.vectors.float()
        return (vectors.square().sum(-1) - 2 * flat @ vectors.T).argmin(-1)

    def usage(self, codes: torch.Tensor) -> torch.Tensor:
        """How many of `codes` are each code, (codebook_size,)."""
        ones = self.counts.new_ones(codes.numel())
        return torch.zeros_like(self.counts).index_add_(0, codes.flatten(), ones)

    @torch.no_grad()
    def update(self, encodings: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """
        Moves the codebook towards a batch of `encodings` and draws codes anew that none has taken for long.

        Returns:
            `torch.Tensor`: The usage of the codes, over all processes.
        """
        flat = encodings.permute(0, 2, 3, 1).flatten(0, 2)
        usage = self.usage(codes)
        sums = torch.zeros_like(self.sums).index_add_(0, codes.flatten(), flat)
        candidates = flat[self._spread(len(flat))]
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(usage)
            distributed.all_reduce(sums)
            distributed.broadcast(candidates, 0)
        self.counts.lerp_(usage, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.idle.add_(1).masked_fill_(usage > 0, 0)
        dead = self.idle >= self.revival_steps
        self.idle.masked_fill_(dead, 0)
        self.counts.masked_fill_(dead, 1)
        self.sums.copy_(torch.where(dead[:, None], candidates, self.sums))
        self.vectors.copy_(self.sums / self.counts.clamp(min=LEAST_COUNT)[:, None])
        self.updates.add_(1)
        return usage

    def _spread(self, positions: int) -> torch.Tensor:
        """A position out of `positions` for each code, spread by Fibonacci hashing and different in each update."""
        number = self.updates * len(self.counts) + torch.arange(len(self.counts), device=self.counts.device)
        return (number * 2654435761 % 2**32) * positions // 2**32
