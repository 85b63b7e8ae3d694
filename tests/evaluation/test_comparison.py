"""Models side by side: each metric with its own interval, its own direction and its own digits."""

from hf_genkit.evaluation import PERPLEXITY, WORD_ERRORS, ComparedModel, describe_difference, text_table
from hf_genkit.evaluation.statistics import ratio_interval, wilson_interval


COSTS = {"latency_ms": 1.0, "latency_ms_iqr": (0.9, 1.1), "parameters": 1234, "size_bytes": 5000}


def model(name, *values, **options) -> ComparedModel:
    return ComparedModel(name, list(values), 100, COSTS, **options)


def test_one_accuracy_has_the_interval_of_its_samples():
    one = model("a", 0.8)
    assert one.interval == wilson_interval(80, 100)
    assert one.row()["95 % interval"].endswith("(100 samples)")
    assert model("a", 0.8, 0.9).row()["95 % interval"].endswith("(2 seeds)")


def test_one_perplexity_has_no_interval_rather_than_that_of_an_accuracy():
    one = model("a", 12.345, metric=PERPLEXITY)
    assert one.row()["Perplexity"] == "12.35"
    assert one.row()["95 % interval"] == ""
    assert "(one seed, so no interval)" in describe_difference(one, model("b", 20.0, metric=PERPLEXITY))


def test_word_errors_of_one_seed_are_paired_by_clip():
    """Both models miss the same hard clip: its interval is wide, and that of their difference is not."""
    words = [10] * 20
    first = model("a", 0.1, metric=WORD_ERRORS, parts=[10, 10, *[0] * 18], wholes=words)
    second = model("b", 0.2, metric=WORD_ERRORS, parts=[10, 10, *[1] * 18], wholes=words)
    assert first.interval == ratio_interval(first.parts, words)
    sentence = describe_difference(first, second)
    assert sentence.startswith(
        "a minus b: -0.0900 word error rate, where less is better, 95 % interval -0.1000 to -0.07"
    )
    assert sentence.endswith("over 20 paired samples of one seed (excludes zero).")


def test_more_seeds_are_paired_by_seed_whatever_the_clips():
    options = {"metric": WORD_ERRORS, "parts": [1, 2], "wholes": [5, 5]}
    sentence = describe_difference(model("a", 0.1, 0.2, **options), model("b", 0.2, 0.31, **options))
    assert "over 2 paired seeds" in sentence


def test_other_data_sets_and_times_get_columns_of_their_own():
    rows = [
        model("teacher", 0.1, metric=WORD_ERRORS, elsewhere={"books": [0.3]}, seconds_per_clip=1.25).row(),
        model("student", 0.2, metric=WORD_ERRORS, elsewhere={"books": [0.4, 0.6]}, agreement=[0.7]).row(),
    ]
    lines = text_table(rows).splitlines()
    assert lines[0].split("  ")[0] == "Model"
    assert "On books" in lines[0]
    assert "1.25 s" in lines[2]
    assert "0.5000" in lines[3]
    assert "0.7000" in lines[3]
