import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from hf_genkit.data import train_tokenizer
from hf_genkit.hub import (
    CardFacts,
    DatasetFacts,
    Result,
    check_model_card,
    hub_id,
    is_generated,
    render_model_card,
    write_model_card,
)

from .golden_cards import FOLDER, golden_facts
from .tiny_models import save_image_classifier, save_text_classifier


GOLDEN = golden_facts()
IMAGE_CARD = render_model_card(GOLDEN["distilled_image_classifier"])
TEXT_CARD = render_model_card(GOLDEN["distilled_text_classifier"])


def small_facts(**values) -> CardFacts:
    defaults = {
        "model_name": "student",
        "task": "image-classification",
        "auto_class": "AutoModelForImageClassification",
        "dataset": DatasetFacts("flowers"),
        "results": [],
    }
    return CardFacts(**defaults | values)


def usage_snippet(card: str) -> str:
    return re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_card_is_what_the_facts_render_to(name):
    golden = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert render_model_card(GOLDEN[name]) == golden
    check_model_card(golden)


def test_the_hub_reads_from_the_metadata_what_was_measured():
    data = ModelCard(TEXT_CARD).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == "nreimers/MiniLM-L6-H384-uncased"
    assert data.datasets == ["cornell-movie-review-data/rotten_tomatoes"]
    assert data.license == "apache-2.0"
    assert data.language == "en"
    assert {"hf_genkit", "distillation"} <= set(data.tags)
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("accuracy", 0.7983),
        ("f1", 0.7968),
    ]
    assert {result.task_type for result in data.eval_results} == {"text-classification"}
    assert {result.dataset_type for result in data.eval_results} == {"cornell-movie-review-data/rotten_tomatoes"}
    assert {result.dataset_split for result in data.eval_results} == {"test"}


def test_embedded_data_is_not_named_as_a_data_set_of_the_hub():
    data = ModelCard(IMAGE_CARD).data
    assert data.datasets is None
    assert data.eval_results[0].dataset_name == "scikit-learn's digits"
    check_model_card(render_model_card(small_facts(dataset=DatasetFacts("花"), results=[Result("accuracy", 0.5)])))


def test_no_fact_is_missing_from_the_text():
    for fact in (
        "0, 1, 2 ",
        "0.9661 to 0.9747",
        "0.9861",
        "27,018",
        "student alone",
        "![Losses and accuracy during training](curves.png)",
        "temperature: 4.0",
        "torch 2.13.0",
        "- It has only seen grey images",
        "accelerate launch recipes/distill.py",
    ):
        assert fact in IMAGE_CARD


def test_absent_facts_leave_no_placeholder_and_no_empty_section():
    card = render_model_card(small_facts())
    check_model_card(card)
    assert "None" not in card
    assert "This model has not been evaluated." in card
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == ["Use", "Results"]
    assert set(yaml.safe_load(card.split("---")[1])) == {"library_name", "pipeline_tag", "tags"}
    assert "\n\n\n" not in card


@pytest.mark.parametrize(
    ("task", "auto_class"),
    [
        ("image-classification", "AutoModelForImageClassification"),
        ("text-classification", "AutoModelForSequenceClassification"),
        ("token-classification", "AutoModelForTokenClassification"),
    ],
)
def test_usage_snippet_runs(task, auto_class, tmp_path, monkeypatch, capsys):
    if task == "image-classification":
        save_image_classifier(tmp_path)
    else:
        save_text_classifier(tmp_path, per_token=task == "token-classification")
    card = render_model_card(small_facts(task=task, auto_class=auto_class, image_mode="L", image_size=(20, 12)))
    check_model_card(card)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(usage_snippet(card), {})
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[-1] for line in lines} <= {"no", "yes"}
    words = ["[CLS]", "this", "is", "an", "example", ".", "[SEP]"]
    assert [line.split()[0] for line in lines] == words if task == "token-classification" else len(lines) == 1


LANGUAGE = [
    ("text-generation", "AutoModelForCausalLM"),
    ("fill-mask", "AutoModelForMaskedLM"),
    ("text2text-generation", "AutoModelForSeq2SeqLM"),
    ("automatic-speech-recognition", "AutoModelForSpeechSeq2Seq"),
    ("automatic-speech-recognition", "AutoModelForCTC"),
]


@pytest.mark.parametrize(("task", "auto_class"), LANGUAGE)
@pytest.mark.parametrize("options", [{}, {"library_name": "peft", "adapter_base": "me/base"}, {"chat": True}])
def test_usage_snippets_of_language_and_speech_are_python(task, auto_class, options):
    card = render_model_card(small_facts(task=task, auto_class=auto_class, **options))
    check_model_card(card)
    snippet = usage_snippet(card)
    compile(snippet, "usage", "exec")
    assert ("PeftModel.from_pretrained(base, model_id)" in snippet) == ("adapter_base" in options)
    assert ("apply_chat_template" in snippet) == (task == "text-generation" and "chat" in options)


def test_usage_snippet_of_a_text_generator_runs(tmp_path, monkeypatch, capsys):
    tokenizer = train_tokenizer(["This is an example."] * 3, 300)
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    card = render_model_card(small_facts(task="text-generation", auto_class="AutoModelForCausalLM"))
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(usage_snippet(card), {})
    assert capsys.readouterr().out


def test_usage_snippet_of_frames_runs(tmp_path, monkeypatch, capsys):
    """A model of frames (CTC) generates nothing: its likeliest letters are read."""
    letters = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5, "b": 6}
    (tmp_path / "vocab.json").write_text(json.dumps(letters))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Wav2Vec2Config(**sizes, vocab_size=7, conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(10, 4),
                            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    card = render_model_card(small_facts(task="automatic-speech-recognition", auto_class="AutoModelForCTC"))
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(usage_snippet(card), {})
    assert set(capsys.readouterr().out.strip()) <= set("ab <>sunk/")


def test_usage_snippet_of_text_to_text_runs(tmp_path, monkeypatch, capsys):
    tokenizer = train_tokenizer(["This is an example."] * 3, 300)
    tokenizer.save_pretrained(tmp_path)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    T5ForConditionalGeneration(T5Config(**sizes, vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    card = render_model_card(small_facts(task="text2text-generation", auto_class="AutoModelForSeq2SeqLM"))
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(usage_snippet(card), {})
    assert capsys.readouterr().out


def test_usage_snippet_loads_the_pushed_revision_and_custom_code():
    snippet = usage_snippet(render_model_card(small_facts(repo_id="a/b", revision="v2", custom_code=True)))
    assert 'model_id = "a/b"' in snippet
    assert snippet.count('from_pretrained(model_id, revision="v2", trust_remote_code=True)') == 2


def test_usage_snippet_survives_quotes_in_the_example():
    facts = small_facts(task="text-classification", auto_class="AutoModel", example_text='He said "C:\\new".\n')
    compile(usage_snippet(render_model_card(facts)), "usage", "exec")


@pytest.mark.parametrize(
    "path", ["/home/me/runs/student", "./runs/student", "../student", "~/student", "C:\\me\\student"]
)
def test_command_and_options_reveal_no_path_and_no_token(path):
    token = "hf_oauth_" + "a1B2" * 8 + ".c-d_e"
    facts = small_facts(
        command=f"HF_TOKEN={token} train --hub_token {token} --output_dir {path} --data=hf://datasets/a/b --epochs 1/2",
        hyperparameters={"output_dir": path, "hub_token": token},
        dataset=DatasetFacts(path),
        model_name=path,
        results=[Result("accuracy", 0.5)],
    )
    card = render_model_card(facts)
    check_model_card(card)
    assert "\ntrain --output_dir student --data=hf://datasets/a/b --epochs 1/2\n" in card.replace(
        "\n train", "\ntrain"
    )
    assert path not in card
    assert token not in card
    assert "# student\n" in card


def test_cell_with_a_bar_does_not_break_the_table():
    card = render_model_card(small_facts(comparison=[{"Model": "a|b", "Size": 1234}, {"Model": "c", "Note": "x"}]))
    assert "| Model | Size | Note |\n| --- | --- | --- |\n| a\\|b | 1,234 |  |\n| c |  | x |\n" in card


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'time-travel'; known are automatic-speech-recognition, fill-mask, image-cl"):
        render_model_card(small_facts(task="time-travel"))


BAD_CARDS = {
    "no metadata": ("---\n", "", "has no metadata"),
    "broken YAML": ("library_name: transformers", "library_name: [", "not valid YAML"),
    "no library": ("library_name: transformers\n", "", "lacks `library_name`"),
    "no task": ("pipeline_tag: text-classification\n", "", "lacks `pipeline_tag`"),
    "unknown task": ("pipeline_tag: text-class", "pipeline_tag: text-glass", "'text-glassification' is not a task"),
    "no tags": ("tags:\n- hf_genkit\n- distillation\n", "", "lacks `tags`"),
    "tags in a string": ("tags:\n- hf_genkit\n- distillation\n", "tags: distillation\n", "a list of strings"),
    "no model-index": ("model-index:", "model-indices:", "lacks `model-index`"),
    "value in words": ("value: 0.7983", "value: high", "accuracy must be a finite number, got 'high'"),
    "value not finite": ("value: 0.7983", "value: .nan", "accuracy must be a finite number, got nan"),
    "metric without value": ("      value: 0.7983\n", "", "type and value"),
    "data set without name": ("      name: Rotten Tomatoes\n", "", "a data set name and type"),
    "data set with an empty name": ("      name: Rotten Tomatoes\n", "      name: ''\n", "an empty name or type"),
    "no result": (re.compile(r"results:.*?---", re.DOTALL), "results: []\n---", "holds no result"),
    "unknown license": ("license: apache-2.0", "license: apache 2", "license 'apache 2' is not an id"),
    "base model from a folder": ("base_model: nreimers", "base_model: ./nreimers", "not a repository id"),
    "base model from the root": ("base_model: nreimers", "base_model: /nreimers", "not a repository id"),
    "data from a folder": ("- cornell-movie", "- ../cornell-movie", "not a repository id"),
    "token": ("# sentiment-student", "# hf_" + "Ab3" * 11, r"an access token \(hf_Ab\.\.\.\)"),
    "token of a login": ("# sentiment-student", "# hf_oauth_" + "Ab3" * 11, "an access token"),
    "path": ("--config recipes", "--output_dir /tmp/out --config recipes", "the local path '/tmp/out'"),
    "path from here": ("--config recipes", "--config ./recipes", "the local path './recipes"),
    "path in a string": ("--config recipes", "--config='C:\\me\\recipes", "the local path 'C:"),
    "placeholder of the Hub": ("## Limits", "[More Information Needed]", "the placeholder '.More Info"),
    "unfinished": ("## Limits", "TODO", "the placeholder 'TODO'"),
    "stand-in for a person": ("example-org/", "your-username/", "the placeholder 'your-username'"),
    "stand-in for a value": (
        "--config recipes",
        "--hub_model_id <model id> --config recipes",
        "the placeholder '<model",
    ),
    "hidden token": ("--config recipes", "--hub_token <HUB_TOKEN> --config recipes", "the placeholder '<HUB_TOKEN>'"),
}


@pytest.mark.parametrize("name", BAD_CARDS)
def test_bad_card_is_refused_in_one_sentence(name):
    old, new, message = BAD_CARDS[name]
    bad_card = re.sub(old if isinstance(old, re.Pattern) else re.escape(old), lambda _: new, TEXT_CARD, count=1)
    assert bad_card != TEXT_CARD
    with pytest.raises(ValueError, match=message) as caught:
        check_model_card(bad_card)
    assert "\n" not in str(caught.value)


def test_ordinary_text_is_not_taken_for_a_secret_a_path_or_a_placeholder():
    check_model_card(
        TEXT_CARD + "It runs at 10 images/s and/or 1/2, for p < 0.05 and n > 3: hf_genkit, hf_hub_download, todo esto,"
        " [a link](https://huggingface.co/home/x), hf://datasets/a/b, <br>, I/O, N/A and ... / more."
    )


def test_edited_card_is_not_taken_for_a_generated_one():
    assert is_generated(TEXT_CARD)
    assert is_generated(TEXT_CARD.replace("\n", "\r\n"))
    assert is_generated(TEXT_CARD.rstrip())
    assert not is_generated(TEXT_CARD.replace("warm", "cold"))
    assert not is_generated(TEXT_CARD + "More.\n")
    assert not is_generated("# A card by hand\n")
    assert not is_generated("")


def test_card_by_hand_is_not_overwritten(tmp_path, caplog):
    assert write_model_card(tmp_path, small_facts()) == tmp_path / "README.md"
    assert write_model_card(tmp_path, small_facts(model_name="newer")) == tmp_path / "README.md"
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "# newer\n" in card
    (tmp_path / "README.md").write_text(card.replace("# newer", "# mine"), encoding="utf-8")
    assert write_model_card(tmp_path, small_facts()) is None
    assert "# mine\n" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "edited by hand" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_bad_card_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="base_model '/models/teacher' is not a repository id"):
        write_model_card(tmp_path, small_facts(base_model="/models/teacher"))
    assert not list(tmp_path.iterdir())


def test_local_folder_that_looks_like_an_id_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_id("out/teacher") == "out/teacher"
    (tmp_path / "out" / "teacher").mkdir(parents=True)
    assert hub_id("out/teacher") is None
    assert hub_id("./elsewhere") is None
    assert hub_id(str(tmp_path / "gone")) is None
    assert hub_id(None) is None
    assert hub_id("bert-base-uncased") == "bert-base-uncased"
