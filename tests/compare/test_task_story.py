"""What is said of models of a task: no more than their numbers say."""

import torch

from hf_genkit.compare.judged_models import JudgedModel
from hf_genkit.compare.task_story import latency, summary
from hf_genkit.evaluation import ACCURACY


def judged(name: str, right: int, size: int, milliseconds: float) -> JudgedModel:
    parts = [1.0] * right + [0.0] * (10 - right)
    return JudgedModel(name, parts, [1.0] * 10, size_bytes=size, latency_ms=milliseconds)


def test_models_that_are_as_good_as_each_other_share_the_best_score():
    models = [judged("teacher", 8, 400, 4.0), judged("student", 8, 100, 1.0), judged("pruned", 5, 200, 2.0)]
    said = summary(models, ACCURACY, {one.name: one.quality("image-classification") for one in models})
    assert said[0] == "'teacher' and 'student' have the best accuracy, 0.8."
    assert said[1].startswith("'student' is the smallest and the fastest: 4.0 times smaller and 4.0 times as fast")


def test_what_is_larger_is_not_called_smaller():
    models = [judged("first", 8, 100, 2.0), judged("second", 8, 200, 1.0), judged("third", 8, 400, 4.0)]
    said = summary(models, ACCURACY, {one.name: one.quality("image-classification") for one in models})
    assert said[0] == "'first', 'second' and 'third' have the best accuracy, 0.8."
    assert said[2].startswith("'second' is the fastest: 2.0 times as large and 2.0 times as fast as 'first'")


def test_one_thread_is_spoken_of_on_a_cpu_alone():
    first = judged("first", 8, 100, 2.0)
    assert "on one thread" in latency(first, torch.device("cpu"))
    assert "thread" not in latency(first, torch.device("cuda"))
