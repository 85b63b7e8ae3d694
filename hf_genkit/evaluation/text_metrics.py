"""Metrics of labels and transcripts as `evaluate.Metric`s that need no network."""

from collections.abc import Callable

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score


AVERAGES = ("macro", "micro", "weighted")


class TextMetric(evaluate.Metric):
    """
    Base of the metrics below. They keep what is added in memory, on one process: where several make predictions, gather
    these before.
    """

    values = "int64"
    inputs = """
            predictions (`list[int]`): The predicted class of each sample.
            references (`list[int]`): The right one.
    """

    def __init__(self):
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value(self.values)
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description=self.inputs,
            features=datasets.Features({"predictions": value, "references": value}),
        )


class WordErrorRate(TextMetric):
    """
    Words that a transcript has wrong, leaves out or adds, divided by the words of the reference, over all samples, under
    the key `wer`: from 0, and above 1 where many are added.

    Args:
        normalise (`Callable[[str], str]`, *optional*):
            Applied to predictions and references first, such as [`normalise_transcript`]. Without it "Yes." and "yes"
            are different words.

    Raises:
        `ValueError`: The references hold no word.

    Example:

    ```python
    >>> WordErrorRate().compute(predictions=["a c"], references=["a b c d"])
    {'wer': 0.5}
    ```
    """

    values = "string"
    inputs = """
            predictions (`list[str]`): The transcripts.
            references (`list[str]`): What was said.
    """

    def __init__(self, normalise: Callable[[str], str] | None = None):
        super().__init__()
        self.normalise = normalise or str

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        errors, words = word_errors(predictions, references, self.normalise)
        if sum(words) == 0:
            raise ValueError("The references hold no word, so there is no word error rate.")
        return {"wer": sum(errors) / sum(words)}


class Accuracy(TextMetric):
    """The share of right predictions, under the key `accuracy`."""

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class F1(TextMetric):
    """
    The harmonic mean of precision and recall, under the key `f1`; 0 for a class that is never right.

    Args:
        average (`str`, *optional*, defaults to `"macro"`):
            Over the classes: "macro" for their plain mean, "weighted" by their samples, "micro" over all samples, which is
            the accuracy.

    Raises:
        `ValueError`: `average` is none of these.
    """

    def __init__(self, average: str = "macro"):
        if average not in AVERAGES:
            raise ValueError(f"`average` is '{average}', but it must be one of {', '.join(AVERAGES)}.")
        super().__init__()
        self.average = average

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"f1": float(f1_score(references, predictions, average=self.average, zero_division=0))}


def word_errors(
    predictions: list[str], references: list[str], normalise: Callable[[str], str] = str
) -> tuple[list[int], list[int]]:
    """
    Wrong words of each transcript, and words of each reference.

    Args:
        predictions (`list[str]`): The transcripts.
        references (`list[str]`): What was said.
        normalise (`Callable[[str], str]`, *optional*): As for [`WordErrorRate`].
    """
    said = [normalise(reference).split() for reference in references]
    written = [normalise(prediction).split() for prediction in predictions]
    errors = [edit_distance(one, other) for one, other in zip(written, said, strict=True)]
    return errors, [len(words) for words in said]


def edit_distance(first: list, second: list) -> int:
    """The least number of insertions, deletions and replacements that turn one list into the other (Levenshtein)."""
    previous = list(range(len(second) + 1))
    for row, item in enumerate(first, 1):
        current = [row]
        for column, other in enumerate(second):
            current.append(min(previous[column] + (item != other), previous[column + 1] + 1, current[column] + 1))
        previous = current
    return previous[-1]
