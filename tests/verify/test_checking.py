"""Cards on a Hub against the weights beside them: what agrees, what differs, and what can't be checked."""

import json
import re

import datasets
import pytest
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

from hf_genkit.hub import Claim, DatasetFacts, Result, check_model_card, read_claims
from hf_genkit.verify import verify_card
from hf_genkit.verify.checking import Verification, allowed
from hf_genkit.verify.verdict import Check


VALUE = r"(type: accuracy\n      value:) [\d.]+"


@pytest.fixture
def repo(push, classifier):
    return push(classifier, "vit")


def test_an_honest_card_agrees_and_its_commit_is_named(hub, repo, check, tmp_path):
    status, shown = check(repo, "--json", tmp_path / "found.json")
    assert status == 0
    assert f"{repo} (commit {hub.commits(repo)[0].id}), measured on cpu" in shown
    assert re.search(r"Accuracy +(\S+) +\1 +0\.004 +agrees", shown)
    assert "Not checked: figures in the card's text about other models" in shown
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["agrees"], found["commit"]) == (True, hub.commits(repo)[0].id)
    assert [each["agrees"] for each in found["checks"]] == [True]
    card = hub.files(repo)["README.md"].decode()
    check_model_card(card)
    assert "Check these figures: `python -m hf_genkit.verify .`" in card


def test_a_better_figure_in_the_card_is_seen(repo, check, edit_card):
    edit_card(repo, VALUE, r"\1 0.999")
    status, shown = check(repo)
    assert status == 1
    assert re.search(r"Accuracy +0\.999 +0\.\d+ +0\.004 +DIFFERS", shown)
    assert shown.rstrip().endswith("Not as claimed: Accuracy.")
    assert check(repo, "--tolerance", "accuracy=1")[0] == 0


def test_other_weights_under_the_same_card_are_seen(repo, check, classifier, tmp_path):
    weights = {name: -value for name, value in load_file(classifier / "model.safetensors").items()}
    save_file(weights, tmp_path / "other.safetensors", metadata={"format": "pt"})
    HfApi().upload_file(path_or_fileobj=tmp_path / "other.safetensors", path_in_repo="model.safetensors", repo_id=repo)
    status, shown = check(repo)
    assert status == 1
    assert "DIFFERS" in shown


def test_a_revision_is_judged_by_its_own_card(repo, check, edit_card):
    HfApi().create_tag(repo, tag="v1")
    edit_card(repo, VALUE, r"\1 0.999")
    assert check(repo)[0] == 1
    assert check(repo, "--revision", "v1")[0] == 0
    status, sentence = check(repo, "--revision", "v2")
    assert status == 2
    assert "The Hub has no model 'tester/vit' at the revision 'v2'" in sentence


@pytest.mark.parametrize(
    ("pattern", "new", "reason"),
    [
        (r"model-index:.*?---", "---", "claims no figures, so there is nothing to check"),
        (r"      args:\n(        \S+: \S+\n)+", "", "doesn't say how they were measured"),
        (r"args: {}", "args:\n        callback: os.system", "`argument of accuracy` is 'callback', but it must be one of"),
        (r"(max_eval_samples:) \S+", r"\1 ten", "`max_eval_samples` is 'ten', but it must be of the type int"),
        (r"(fingerprint:) \S+", r"\1 abc", "The samples of 'scikit-learn digits' are not those"),
        (r"\A---.*?\n---", "", "has no metadata"),
        (r"args: {}", "args:\n        teacher: 3", "`teacher` is 3, but it must be of the type str"),
        (r"args: {}", "args:\n        dtype: int3", "`dtype` is 'int3', but it must be one of float32"),
        (r"(fingerprint:) \S+", r"\1 abc\n        classes: 3", "`classes` is 3, but it must be of the type list"),
        (r"(type: accuracy\n      value:) [\d.]+", r"\1 high", "accuracy must be a finite number, got 'high'"),
        (r"task:\n      type: image-classification", "task:\n      type: robotics", "models for robotics are not measured"),
        (r"dataset_name: digits", "dataset_name: ~/digits", "is not on the Hub: name that data set with --dataset_name"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_said_in_one_sentence(repo, check, edit_card, pattern, new, reason):
    edit_card(repo, pattern, new)
    status, sentence = check(repo)
    assert status == 2
    assert sentence.startswith("It can't be checked: ")
    assert reason in sentence


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("model-index:", "model-index: [", "metadata is not valid YAML"),
        ("  results:\n", "  results: 3\n  others:\n", "must give each result a task type"),
        ("        dataset_name: digits\n", "        max_length: 9\n", "is not on the Hub: name that data set"),
    ],
)
def test_a_card_that_is_broken_is_said_in_one_sentence(check, classifier, edited, old, new, reason):
    status, sentence = check(edited(classifier, old, new))
    assert status == 2
    assert reason in sentence


def test_more_is_allowed_where_there_are_fewer_bits():
    def of(**args) -> float:
        return allowed(Claim("", DatasetFacts("x"), Result("perplexity", 20.0, args=args)), {})

    assert of(dtype="bfloat16") == of(bits=4) == of(form="onnx") == pytest.approx(5 * of(seed=1))


def test_a_card_that_is_no_text_is_said(check, classifier, edited):
    folder = edited(classifier, "", "")
    (folder / "README.md").write_bytes(b"\xff\xfe")
    assert "is no text in UTF-8" in check(folder)[1]


def test_data_that_are_gone_are_said_in_one_sentence(check, hub, classifier, edited):
    folder = edited(classifier, "        dataset_name: digits\n", "        max_length: 9\n")
    card = folder / "README.md"
    card.write_text(
        card.read_text()
        .replace("type: scikit-learn-digits", "type: me/gone")
        .replace("tags:", "datasets: [me/gone]\ntags:", 1)
    )
    status, sentence = check(folder)
    assert status == 2
    assert "The data set 'me/gone' is neither a path nor a data set that the Hub offers" in sentence


def test_what_is_not_there_is_said_in_one_sentence(hub, check, classifier, tmp_path):
    hub_has_none = check("tester/nothing")
    assert hub_has_none[0] == 2
    assert "The Hub has no model 'tester/nothing', or none that you may read" in hub_has_none[1]
    assert "is a folder, which has no revision 'v1'" in check(classifier, "--revision", "v1")[1]
    assert "holds no weights in safetensors" in check(tmp_path)[1]
    assert "`tolerance` is 'fd=much', but it must be a number" in check(classifier, "--tolerance", "fd=much")[1]
    assert "There is no folder to write" in check(classifier, "--json", tmp_path / "gone" / "found.json")[1]


def test_data_in_a_folder_are_known_by_their_samples_and_not_by_their_name(push, check, corpus, tmp_path):
    from .conftest import train

    out = train(
        "finetune", tmp_path / "out", "--dataset_name", corpus, "--max_train_samples", 48, "--max_length", 16,
        "--vocab_size", 300, "--num_train_epochs", 1, "--model_config",
        '{"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}',
    )  # fmt: skip
    repo = push(out, "writer")
    card = (out / "README.md").read_text()
    assert str(corpus) not in card
    assert "--dataset_name corpus`, where the name is that of your folder" in card
    claims = read_claims(card)
    assert [claim.result.metric for claim in claims] == ["perplexity", "accuracy"]
    assert "fingerprint" in claims[0].dataset.args
    status, sentence = check(repo)
    assert status == 2
    assert "The figures were measured on 'corpus', which is not on the Hub: name that data set" in sentence
    status, shown = check(repo, "--dataset_name", corpus)
    assert status == 0
    assert re.search(r"Perplexity .*agrees\nToken accuracy .*agrees", shown)

    other = datasets.load_from_disk(str(corpus))
    other["test"] = other["test"].map(lambda row: {"text": row["text"].upper()})
    other.save_to_disk(str(tmp_path / "corpus"))
    status, sentence = check(repo, "--dataset_name", tmp_path / "corpus")
    assert status == 2
    assert "are not those that the figures were measured on ('corpus', split test)" in sentence
    assert check(repo, "--dataset_name", tmp_path / "corpus", corpus)[0] == 0


def test_the_value_of_several_seeds_is_that_of_the_published_weights(tmp_path):
    from .conftest import train

    out = train(
        "distill", tmp_path / "out", "--teacher_epochs", 1, "--num_train_epochs", 2, "--baseline", "false",
        "--max_train_samples", 100, "--seeds", 3, 4,
    )  # fmt: skip
    (claim,) = read_claims((out / "README.md").read_text())
    assert claim.result.seeds == [3, 4]
    found = verify_card(str(out), use_cpu=True)
    (checked,) = found.checks
    assert found.commit is None
    assert checked.agrees
    assert checked.interval == claim.result.interval
    assert checked.is_in_interval is (claim.result.interval[0] <= checked.measured <= claim.result.interval[1])


def test_one_seed_outside_the_interval_of_a_mean_is_explained():
    cases = [(0.85, True), (0.79, True), (0.79, False)]
    verdicts = [Check("Accuracy", "accuracy", value, value, 0.01, (0.8, 0.9), seeds) for value, seeds in cases]
    inside, outside, of_samples = (Verification("me/student", None, "cpu", [check]).text() for check in verdicts)
    assert "of their mean" not in of_samples
    assert "0.8 to 0.9: outside" in outside
    assert "of their mean" in outside
    assert "of their mean" not in inside
    assert outside.endswith("Every figure agrees.")
