"""
Noise that belongs to a sample and not to a batch.

Every draw is a function of (seed, step, position in the global batch, stream): a resumed run, gradient accumulation and
any number of processes draw the same numbers for the same sample. The generator is counter-based: it chains the
finalizer of SplitMix64 ([Steele et al., 2014](https://doi.org/10.1145/2714064.2660195)) over these arguments in integer
arithmetic, on any device.
"""

import math
import zlib

import torch


def random_words(seed: int, step: int, positions: torch.Tensor, stream: str, count: int) -> torch.Tensor:
    """
    Random 64-bit words.

    Args:
        seed (`int`): The seed of the run.
        step (`int`): The optimizer step; negative numbers are free for draws outside of training.
        positions (`torch.Tensor`): Positions of the samples, `int64` of shape `[batch]`, on the device to draw on.
        stream (`str`): What is drawn, such as "latents": different names give independent numbers.
        count (`int`): How many words a sample gets.

    Returns:
        `torch.Tensor`: `int64` of shape `[batch, count]`.
    """
    state = torch.zeros(1, dtype=torch.int64, device=positions.device)
    elements = torch.arange(count, device=positions.device)
    for value in (seed, step, zlib.crc32(stream.encode()), positions[:, None], elements):
        state = state + value - 0x61C8864680B583EB  # 2^64 / golden ratio, as a signed number
        state = (state ^ _shift_right(state, 30)) * -0x40A7B892E31B1A47
        state = (state ^ _shift_right(state, 27)) * -0x6B2FB644ECCEEE15
        state = state ^ _shift_right(state, 31)
    return state


def _shift_right(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Shifts in zeros, where `>>` repeats the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def uniform_noise(seed: int, step: int, positions: torch.Tensor, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Uniform numbers in [0, 1) of type `float32` and shape `[batch, *shape]`; arguments as in [`random_words`]."""
    words = random_words(seed, step, positions, stream, math.prod(shape))
    return (_shift_right(words, 40).float() * 2**-24).view(len(positions), *shape)


def normal_noise(seed: int, step: int, positions: torch.Tensor, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
    """
    Standard normal numbers of type `float32` and shape `[batch, *shape]`, two of each word by Box and Muller's
    transform; arguments as in [`random_words`].
    """
    count = math.prod(shape)
    words = random_words(seed, step, positions, stream, (count + 1) // 2)
    radius = torch.sqrt(-2 * torch.log((_shift_right(words, 32).float() + 1) * 2**-32))
    angle = (words & 0xFFFFFFFF).float() * (2 * math.pi * 2**-32)
    pairs = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return pairs[:, :count].reshape(len(positions), *shape)


def generator_for(seed: int, step: int, position: torch.Tensor) -> torch.Generator:
    """A CPU generator for draws that no counter can serve; `position` is of shape `[1]`, see [`random_words`]."""
    return torch.Generator().manual_seed(int(random_words(seed, step, position, "generator", 1)) & (2**63 - 1))


class SampleNoise:
    """
    The noise of one run: knows which samples of the global batch a process works on.

    Args:
        seed (`int`): The seed of the run.
        process_index (`int`): Which process this is.
        num_processes (`int`): How many there are.
    """

    def __init__(self, seed: int, process_index: int, num_processes: int):
        self.seed, self.process_index, self.num_processes = seed, process_index, num_processes
        self.start(step=0, batch_size=1)

    def start(self, step: int, batch_size: int) -> None:
        """Begins an optimizer step, or an evaluation (with a negative step), of micro-batches of `batch_size`."""
        self.step, self.batch_size, self.micro_step = step, batch_size, 0

    def advance(self) -> None:
        """Goes on to the next micro-batch."""
        self.micro_step += 1

    def positions(self, count: int, device: torch.device) -> torch.Tensor:
        """Where the micro-batch's samples stand in the global batch, as one process would read it: `int64` `[count]`."""
        first = (self.micro_step * self.num_processes + self.process_index) * self.batch_size
        return torch.arange(first, first + count, device=device)

    def normal(self, stream: str, count: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """[`normal_noise`] for the `count` samples of this micro-batch."""
        return normal_noise(self.seed, self.step, self.positions(count, device), stream, shape)

    def uniform(self, stream: str, count: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """[`uniform_noise`] for the `count` samples of this micro-batch."""
        return uniform_noise(self.seed, self.step, self.positions(count, device), stream, shape)
