import pytest

from hf_genkit.data import normalise_transcript
from hf_genkit.evaluation import F1, Accuracy, WordErrorRate
from hf_genkit.evaluation.text_metrics import edit_distance, word_errors


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("", "", 0), ("abc", "abc", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)],
)
def test_edit_distances(first, second, distance):
    assert edit_distance(list(first), list(second)) == distance
    assert edit_distance(list(second), list(first)) == distance


@pytest.mark.parametrize(
    ("predictions", "references", "rate"),
    [
        (["a b c d"], ["a b c d"], 0.0),
        (["a x c d"], ["a b c d"], 1 / 4),  # one replaced
        (["a c d"], ["a b c d"], 1 / 4),  # one left out
        (["a b b c d"], ["a b c d"], 1 / 4),  # one added
        ([""], ["a b"], 1.0),
        (["a b c"], ["a"], 2.0),
        (["a", "b c d x"], ["a", "b c d e"], 1 / 5),  # over all words, not the mean of 0 and 1/4
        (["a", ""], ["a", ""], 0.0),
        (["Yes."], ["yes"], 1.0),
    ],
)
def test_word_error_rates_worked_out_by_hand(predictions, references, rate):
    assert WordErrorRate().compute(predictions=predictions, references=references) == {"wer": pytest.approx(rate)}


def test_errors_and_words_are_those_of_each_sample():
    assert word_errors(["A b", "", "c d"], ["a b", "x y z", "c"], str.lower) == ([0, 3, 1], [2, 3, 1])


def test_both_sides_are_normalised():
    metric = WordErrorRate(normalise_transcript)
    said = ["Please press the 2 key, it's Mr. Smith!", " two"]
    heard = ["please press the two key it is mister smith", "2"]
    assert metric.compute(predictions=heard, references=said) == {"wer": 0.0}
    assert WordErrorRate().compute(predictions=heard, references=said)["wer"] > 0.5


def test_references_without_words_are_refused():
    with pytest.raises(ValueError, match="no word"):
        WordErrorRate().compute(predictions=["a"], references=[" "])


def test_batches_add_up_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    metric = WordErrorRate()
    metric.add_batch(predictions=["a b", "c"], references=["a b", "d"])
    metric.add(prediction="e", reference="e")
    assert metric.compute() == {"wer": 1 / 4}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_accuracy_is_the_share_of_right_predictions():
    assert Accuracy().compute(predictions=[0, 1, 2, 2], references=[0, 1, 1, 2]) == {"accuracy": 0.75}


def test_f1_averages_worked_out_by_hand():
    # Class 0: precision 1, recall 1/2, F1 2/3. Class 1: 2/3, 1, 4/5.
    predictions, references = [0, 1, 1, 1], [0, 0, 1, 1]
    classes = {"macro": (2 / 3 + 4 / 5) / 2, "micro": 3 / 4, "weighted": (2 / 3 + 4 / 5) / 2}
    for average, value in classes.items():
        assert F1(average).compute(predictions=predictions, references=references) == {"f1": pytest.approx(value)}
    # A fifth sample, of class 2, taken for class 0: its own F1 is 0, and that of class 0 sinks to 1/2.
    third = F1().compute(predictions=[*predictions, 0], references=[*references, 2])
    assert third == {"f1": pytest.approx((1 / 2 + 4 / 5 + 0) / 3)}
    assert F1("weighted").compute(predictions=[*predictions, 0], references=[*references, 2]) == {
        "f1": pytest.approx((2 * 1 / 2 + 2 * 4 / 5 + 0) / 5)
    }


def test_an_unknown_average_is_named():
    with pytest.raises(ValueError, match="`average` is 'mean', but it must be one of macro, micro, weighted"):
        F1("mean")
