"""A figure written into a card's metadata and read back: what is kept, and what is refused."""

import pytest
import yaml

from hf_genkit.hub import CardFacts, Claim, DatasetFacts, Result, check_model_card, read_claims, render_model_card


def facts(dataset: DatasetFacts, *results: Result, **values) -> CardFacts:
    return CardFacts("student", "text-classification", "AutoModel", dataset, list(results), **values)


ON_THE_HUB = DatasetFacts(
    "Reviews", id="me/reviews", config="plain", split="test", revision="abc", samples=360, args={"max_length": 64}
)


def test_a_claim_is_read_back_as_it_was_written():
    results = [
        Result("accuracy", 0.75, name="Accuracy", interval=(0.7, 0.8), seeds=[0, 1], args={"seed": 3}),
        Result("loss", 1.5, name="Loss"),
    ]
    card = render_model_card(facts(ON_THE_HUB, *results))
    check_model_card(card)
    claims = read_claims(card)
    assert claims == [Claim("text-classification", ON_THE_HUB, result) for result in results]
    assert [claim.can_be_checked for claim in claims] == [True, False]
    index = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]
    assert index["dataset"]["args"] == {"max_length": 64, "samples": 360}
    assert index["metrics"][0]["args"] == {"seed": 3, "interval": [0.7, 0.8], "seeds": [0, 1]}
    assert "args" not in index["metrics"][1]


def test_a_first_figure_that_cannot_be_checked_takes_nothing_from_the_next():
    card = render_model_card(facts(ON_THE_HUB, Result("loss", 1.5), Result("accuracy", 0.75, args={})))
    assert [claim.can_be_checked for claim in read_claims(card)] == [False, True]


def test_local_and_embedded_data_have_no_id():
    local = DatasetFacts("me", args={"max_length": 64})
    embedded = DatasetFacts("scikit-learn digits", args={"dataset_name": "digits"})
    for dataset in (local, embedded):
        (claim,) = read_claims(render_model_card(facts(dataset, Result("accuracy", 0.5, args={}))))
        assert claim.dataset.id is None
        assert claim.dataset.args == dataset.args
    assert read_claims(render_model_card(facts(local))) == []


@pytest.mark.parametrize(
    ("dataset", "options", "command"),
    [
        (ON_THE_HUB, {"repo_id": "me/student"}, "`python -m hf_genkit.verify me/student`."),
        (ON_THE_HUB, {"repo_id": "me/student", "revision": "v2"}, "`python -m hf_genkit.verify me/student --revision v2`."),
        (DatasetFacts("digits", args={"dataset_name": "digits"}), {}, "`python -m hf_genkit.verify .`."),
        (DatasetFacts("/data/my reviews", args={"max_length": 9}), {}, "verify . --dataset_name 'my reviews'`, where the name"),
    ],
)  # fmt: skip
def test_the_card_says_how_to_check_it(dataset, options, command):
    card = render_model_card(facts(dataset, Result("accuracy", 0.5, args={}), **options))
    assert command in card
    check_model_card(card)


def test_a_card_without_arguments_promises_no_check():
    assert "hf_genkit.verify" not in render_model_card(facts(DatasetFacts("x"), Result("accuracy", 0.5, args={})))
    assert "hf_genkit.verify" not in render_model_card(facts(ON_THE_HUB, Result("accuracy", 0.5)))


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"seed": {"of": "x"}}, "argument 'seed' of accuracy must be a number, a word or a list of these, got {'of': 'x'}"),
        ({"seed": [[1]]}, "got \\[\\[1\\]\\]"),
        ({"path": "/data/reviews"}, "the local path '/data/reviews'"),
        ({3: 4}, "args that are no names with values"),
    ],
)  # fmt: skip
def test_arguments_that_are_not_plain_are_refused(args, reason):
    with pytest.raises(ValueError, match=reason):
        check_model_card(render_model_card(facts(ON_THE_HUB, Result("accuracy", 0.5, args=args))))
    with pytest.raises(ValueError, match="args that are no names"):
        read_claims(
            render_model_card(facts(ON_THE_HUB, Result("accuracy", 0.5, args={}))).replace("args: {}", "args: x")
        )
