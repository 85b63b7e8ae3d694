import datasets
import numpy as np
import pytest
from PIL import Image
from transformers import BertTokenizer, BitImageProcessor

from hf_genkit.data import ClassificationData, TextCollator, image_processor_for, load_data, prepare_pixels


def image_splits(size=(6, 6), mode="L", labels=(0, 1, 2) * 4):
    rng = np.random.default_rng(0)
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    images = [Image.fromarray(rng.integers(0, 255, shape).astype("uint8")) for _ in labels]
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["a", "b", "c"]),
        }
    )
    rows = {"picture": images, "kind": ["x"] * len(labels), "label": list(labels)}
    split = datasets.Dataset.from_dict(rows, features=features)
    return datasets.DatasetDict(train=split, validation=split.select(range(3)))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("one"), ["good", "bad", "film"])


def make_tokenizer(folder, words):
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    return BertTokenizer(str(vocabulary))


def text_splits(labels):
    return datasets.DatasetDict(train=datasets.Dataset.from_dict({"text": ["good film"] * 4, "label": labels}))


def test_task_follows_the_columns():
    assert ClassificationData(image_splits()).task == "image-classification"
    assert ClassificationData(image_splits(), text_column="kind").task == "text-classification"
    assert ClassificationData(text_splits([0, 1, 0, 1])).task == "text-classification"
    words = datasets.Dataset.from_dict({"tokens": [["good", "film"]] * 2, "labels": [[0, 1], [1, 0]]})
    assert ClassificationData(datasets.DatasetDict(train=words)).task == "token-classification"


def test_class_names_travel():
    data = ClassificationData(image_splits())
    assert data.id2label == {0: "a", 1: "b", 2: "c"}
    assert ClassificationData(text_splits(["no", "yes", "no", "yes"])).id2label == {0: "no", 1: "yes"}


def test_images_keep_their_size_unless_a_model_wants_less():
    processors = [image_processor_for(1, 4), image_processor_for(3, 8)]
    data = ClassificationData(image_splits(size=(6, 6)))
    assert data.inputs(data.splits["train"], *processors).pixels.shape == (12, 1, 6, 6)
    data = ClassificationData(image_splits(size=(20, 20)))
    assert data.inputs(data.splits["train"], *processors).pixels.shape == (12, 1, 8, 8)
    assert data.inputs(data.splits["train"], processors[0]).pixels.shape == (12, 1, 4, 4)
    assert data.inputs(data.splits["train"], *processors, image_size=5).pixels.shape == (12, 1, 5, 5)
    assert data.collator(*processors) is None


def test_colour_stays_colour():
    data = ClassificationData(image_splits(mode="RGB"))
    assert data.channels == 3
    assert data.inputs(data.splits["train"], image_processor_for(1, 6)).pixels.shape == (12, 3, 6, 6)


def test_few_labels_are_the_same_in_both_forms():
    data = ClassificationData(image_splits())
    processor = image_processor_for(1, 6)
    labelled, everything = (data.inputs(split, processor) for split in data.training_splits(6, seed=3))
    assert len(labelled) == 6
    assert len(everything) == 12
    kept = everything.labels != -100
    assert sorted(everything.labels[kept]) == sorted(labelled.labels) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(everything.pixels[kept], labelled.pixels)
    again = data.training_splits(6, seed=3)[0]
    assert again["label"] == data.training_splits(6, seed=3)[0]["label"]
    assert data.training_splits(None, seed=3) == (data.splits["train"], data.splits["train"])


def test_few_labels_that_cannot_be_are_refused():
    data = ClassificationData(image_splits())
    with pytest.raises(ValueError, match="`labelled_samples` is 13, but the training split has 12 labels"):
        data.training_splits(13, seed=0)
    streamed = ClassificationData(load_data("digits", streaming=True))
    with pytest.raises(ValueError, match="stream"):
        streamed.training_splits(10, seed=0)


def test_stream_gives_the_same_kind_of_inputs():
    data = ClassificationData(load_data("digits", streaming=True))
    assert data.is_streamed
    sample = next(iter(data.inputs(data.splits["train"], image_processor_for(1, 8))))
    assert np.array(sample["pixel_values"]).shape == (1, 8, 8)
    with pytest.raises(ValueError, match="'flip'"):
        data.inputs(data.splits["train"], image_processor_for(1, 8), augmentation="flip")


def test_stream_without_validation_says_what_to_set():
    splits = datasets.IterableDatasetDict({"train": image_splits()["train"].to_iterable_dataset()})
    with pytest.raises(ValueError, match="needs `eval_split`"):
        ClassificationData(splits).evaluation_split  # noqa: B018


def test_test_split_falls_back_to_validation():
    data = ClassificationData(image_splits())
    assert data.test_split is data.evaluation_split
    digits = ClassificationData(load_data())
    assert len(digits.test_split) == 500


def test_other_tokenizer_of_the_teacher_gets_columns_of_its_own(tokenizer, tmp_path):
    other = make_tokenizer(tmp_path, ["film", "good", "bad"])
    data = ClassificationData(text_splits([0, 1, 0, 1]))
    same = data.inputs(data.splits["train"], tokenizer, tokenizer)
    assert not any(name.startswith("teacher_") for name in same.column_names)
    both = data.inputs(data.splits["train"], tokenizer, other)
    assert both[0]["teacher_input_ids"] != both[0]["input_ids"]
    batch = data.collator(tokenizer, other)([both[0], both[1]])
    assert isinstance(data.collator(tokenizer), TextCollator)
    assert batch["teacher_input_ids"].shape == batch["input_ids"].shape == (2, 4)


def test_images_of_many_sizes_get_one(tmp_path):
    small, large = image_splits(size=(6, 6))["train"], image_splits(size=(9, 7))["train"]
    data = ClassificationData(datasets.DatasetDict(train=datasets.concatenate_datasets([small, large])))
    assert data.inputs(data.splits["train"], image_processor_for(1, 8)).pixels.shape == (24, 1, 8, 8)


def test_one_grey_image_does_not_make_the_others_grey():
    grey, colour = image_splits()["train"].select([0]), image_splits(mode="RGB")["train"]
    data = ClassificationData(datasets.DatasetDict(train=datasets.concatenate_datasets([grey, colour])))
    assert data.channels == 3


def test_processor_that_crops_sees_no_stretched_image():
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 600).astype("uint8"), (300, 1)))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    train = datasets.Dataset.from_dict({"image": [ramp, ramp], "label": [0, 1]}, features=features)
    data = ClassificationData(datasets.DatasetDict(train=train))
    processor = BitImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, do_convert_rgb=True
    )
    ours = prepare_pixels(data.inputs(train, processor)[0]["pixel_values"][None], processor)
    theirs = processor(ramp.convert("RGB"), return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean() < 0.03


def test_unlabelled_test_split_gives_no_figures():
    splits = image_splits()
    splits["test"] = splits["train"].map(lambda row: {"label": -1}, features=splits["train"].features)
    data = ClassificationData(splits)
    assert data.test_split_name == "validation"
    assert data.test_split is data.evaluation_split


def test_streamed_text_gives_the_same_tokens(tokenizer):
    splits = text_splits([0, 1, 0, 1])
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    splits["train"] = splits["train"].cast(
        datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("int64")})
    )
    splits = datasets.DatasetDict(train=splits["train"].cast(features))
    streamed = datasets.IterableDatasetDict({"train": splits["train"].to_iterable_dataset()})
    kept, stream = ClassificationData(splits), ClassificationData(streamed)
    expected = sorted(map(str, kept.inputs(kept.splits["train"], tokenizer)))
    assert sorted(map(str, stream.inputs(stream.splits["train"], tokenizer))) == expected
