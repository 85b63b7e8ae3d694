"""What a model of a task is worth on the test split, and what it costs."""

from dataclasses import dataclass, field

from ..evaluation import Interval, ratio_interval, wilson_interval
from ..trainers.tasks import CLASSIFICATION


@dataclass
class JudgedModel:
    """
    A model and what it is worth on the test split.

    Args:
        name (`str`): What it is called.
        parts, wholes (`list[float]`): Of each sample: 1 where the answer is right, and 1; of a language model the sum of the
            negative log-likelihoods of its tokens, and their number; of a model of speech the wrong words and the spoken
            ones.
        parameters (`int`): How many there are, in any number of bits.
        size_bytes (`int`): The files of the weights.
        latency_ms (`float`): Median time of a pass with one sample, of speech of writing down one clip.
        latency_ms_iqr (`tuple[float, float]`): Quartiles of the rounds' medians.
    """

    name: str
    parts: list[float]
    wholes: list[float]
    parameters: int = 0
    size_bytes: int = 0
    latency_ms: float = 0.0
    latency_ms_iqr: tuple[float, float] = (0.0, 0.0)

    def quality(self, task: str) -> Interval:
        """
        Accuracy with the interval of Wilson over the samples; a mean negative log-likelihood or a word error rate with a
        bootstrap's.
        """
        if task in CLASSIFICATION:
            return wilson_interval(round(sum(self.parts)), len(self.parts))
        return ratio_interval(self.parts, self.wholes)

    def minus(self, other: "JudgedModel") -> Interval:
        """The difference to another model on the same samples, with the interval of a bootstrap over pairs."""
        pairs = zip(self.parts, other.parts, strict=True)
        return ratio_interval([one - another for one, another in pairs], self.wholes)


@dataclass
class JudgedSpeechModel(JudgedModel):
    """
    A model of speech and what it is worth on the test split.

    Args:
        wrong_characters, characters (`list[int]`): Of each clip.
        timed_clips (`int`): How many clips `latency_ms` was measured by; it is the mean over them.
        clip_seconds (`float`): How long these last, on average.
    """

    wrong_characters: list[int] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    timed_clips: int = 0
    clip_seconds: float = 0.0

    @property
    def character_errors(self) -> Interval:
        """The character error rate with its interval over the clips."""
        return ratio_interval(self.wrong_characters, self.characters)

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of speech."""
        return self.latency_ms / 1000 / self.clip_seconds
