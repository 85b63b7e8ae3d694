"""Which task a data set and a model are for, and what is refused before anything is trained."""

import datasets
import pytest
from transformers import BertConfig, GPT2Config, LlamaConfig, ViTConfig

from hf_genkit import FineTuningDataArguments
from hf_genkit.data import train_tokenizer
from hf_genkit.trainers.task_data import TaskData


CAUSAL, MASKED = LlamaConfig(architectures=["LlamaForCausalLM"]), BertConfig(architectures=["BertForMaskedLM"])
CHAT = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]


def saved(folder, count: int = 20, **columns):
    """A folder with a data set; each column is a function of the row's number."""
    rows = {name: [value(number) for number in range(count)] for name, value in columns.items()}
    splits = {name: datasets.Dataset.from_dict(rows) for name in ("train", "validation", "test")}
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return FineTuningDataArguments(str(folder))


def text(number: int) -> str:
    return "a b"


@pytest.mark.parametrize(
    ("columns", "config", "task"),
    [
        ({"text": text}, CAUSAL, "text-generation"),
        ({"text": text}, MASKED, "fill-mask"),
        ({"text": text, "label": lambda number: number % 2}, CAUSAL, "text-classification"),
        ({"tokens": lambda number: ["a", "b"], "ner_tags": lambda number: [0, 1]}, MASKED, "token-classification"),
        ({"messages": lambda number: CHAT}, CAUSAL, "text-generation"),
        ({"prompt": text, "completion": text}, CAUSAL, "text-generation"),
    ],
    ids=["plain", "masked", "labels", "tokens", "chat", "completion"],
)
def test_the_task_follows_from_the_columns_and_for_plain_text_from_the_model(columns, config, task, tmp_path):
    args = saved(tmp_path / "data", **columns)
    assert TaskData(args, config).task == task


def test_digits_are_images_and_have_their_labels():
    data = TaskData(FineTuningDataArguments(max_train_samples=100), ViTConfig())
    assert data.task == "image-classification"
    assert data.labels == list("0123456789")
    labelled, everything = data.training_splits(20, seed=0)
    assert (len(labelled), len(everything)) == (20, 100)


def test_language_has_one_training_split_and_no_labels_to_leave_out(tmp_path):
    data = TaskData(saved(tmp_path / "data", text=text), CAUSAL)
    labelled, everything = data.training_splits(None, seed=0)
    assert labelled is everything
    assert (data.labels, data.collator()) == ([], None)
    with pytest.raises(ValueError, match="`labelled_samples` is 5, but text-generation has no labels"):
        data.training_splits(5, seed=0)


def test_a_model_that_can_not_do_the_task_is_refused(tmp_path):
    data = TaskData(saved(tmp_path / "data", text=text), CAUSAL)
    tokenizer = train_tokenizer(["a b"], 300)
    data.check_model(GPT2Config(n_positions=128), tokenizer)
    with pytest.raises(ValueError, match="A 'vit' model has no head for text-generation"):
        data.check_model(ViTConfig(), tokenizer)
    with pytest.raises(ValueError, match="`max_length` is 128, but the model reads at most 64 tokens"):
        data.check_model(GPT2Config(n_positions=64), tokenizer)


def test_another_data_set_gives_its_test_split_of_the_same_classes(tmp_path):
    args = saved(tmp_path / "one", text=text, label=lambda number: number % 2)
    args.max_train_samples = 2
    data = TaskData(args, MASKED)
    same = saved(tmp_path / "same", 30, text=text, label=lambda number: number % 2).dataset_name
    assert len(data.elsewhere(same).data.test_split) == 30
    other = saved(tmp_path / "other", text=text, label=lambda number: number % 3).dataset_name
    with pytest.raises(ValueError, match=r"has the classes 0, 1, 2, not 0, 1\."):
        data.elsewhere(other)
