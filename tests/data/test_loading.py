import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, Value
from datasets.arrow_writer import ArrowWriter
from PIL import Image

from hf_genkit.data import load_data
from hf_genkit.data.splitting import stratified_sample


def texts(n, start=0):
    return Dataset.from_dict(
        {"text": [f"text {i}" for i in range(start, start + n)], "label": [i % 4 == 0 for i in range(n)]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])}),
    )


def saved(tmp_path, **splits):
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return str(tmp_path / "saved")


def files_under(path):
    return {str(file): file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


# ---- the embedded digits --------------------------------------------------------------------------------------------


def test_digits_have_fixed_disjoint_stratified_splits_of_the_real_pixels():
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    real = sorted(
        (*np.round(image * 255 / 16).astype(int), label) for image, label in zip(levels, labels, strict=True)
    )
    digits = load_data()
    assert {name: len(split) for name, split in digits.items()} == {"train": 1000, "validation": 297, "test": 500}
    rows = [(*np.asarray(row["image"]).ravel().tolist(), row["label"]) for split in digits.values() for row in split]
    assert sorted(rows) == [tuple(map(int, row)) for row in real]
    for split in digits.values():
        counts = np.bincount(split["label"][:], minlength=10)
        assert np.abs(counts - np.bincount(labels) * len(split) / 1797).max() <= 1.5
    assert load_data()["test"]["label"][:20] == digits["test"]["label"][:20]
    assert digits["train"].features["label"].names == list("0123456789")


def test_the_seed_of_a_run_does_not_move_the_digits_between_splits():
    assert load_data(seed=1)["test"]["label"][:] == load_data(seed=2)["test"]["label"][:]


def test_digits_stream():
    digits = load_data(streaming=True)
    assert isinstance(digits, IterableDatasetDict)
    assert next(iter(digits["train"]))["image"].size == (8, 8)


# ---- sources --------------------------------------------------------------------------------------------------------


def test_a_text_file_is_one_text_whose_end_validates(tmp_path):
    text = "".join(f"line {i}\n\n" for i in range(50))
    (tmp_path / "play.txt").write_text(text)
    splits = load_data(str(tmp_path / "play.txt"), eval_fraction=0.2)
    (train,), (validation,) = splits["train"]["text"][:], splits["validation"]["text"][:]
    assert train + validation == text
    assert len(validation) == round(0.2 * len(text))


def test_a_text_too_short_to_cut_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("abc")
    with pytest.raises(ValueError, match=r"A text of 3 characters can't be split with eval_fraction 0\.1"):
        load_data(str(tmp_path / "a.txt"))


def test_a_folder_of_text_files_has_a_row_for_each_file(tmp_path):
    for name in ("train-1.txt", "train-2.txt", "validation.txt"):
        (tmp_path / name).write_text(f"{name}\n\nsecond paragraph\n")
    splits = load_data(str(tmp_path))
    assert splits["train"]["text"][:] == [f"train-{i}.txt\n\nsecond paragraph\n" for i in (1, 2)]
    assert len(splits["validation"]) == 1


def test_a_single_labelled_row_is_not_cut(tmp_path):
    with pytest.raises(ValueError, match="1 training samples can't be split"):
        load_data(saved(tmp_path, train=texts(1)))


def test_a_saved_dict_keeps_its_splits(tmp_path):
    data = load_data(saved(tmp_path, train=texts(8), validation=texts(4, 8), test=texts(5, 12), extra=texts(1)))
    assert {name: split["text"][0] for name, split in data.items()} == {
        "train": "text 0",
        "validation": "text 8",
        "test": "text 12",
    }


def test_a_saved_data_set_is_the_training_split(tmp_path):
    texts(40).save_to_disk(tmp_path / "one")
    data = load_data(str(tmp_path / "one"))
    assert {name: len(split) for name, split in data.items()} == {"train": 36, "validation": 4}


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_files_and_folders_of_files(kind, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    getattr(texts(40), f"to_{kind}")(folder / f"train.{kind}")
    getattr(texts(6, 40), f"to_{kind}")(folder / f"test.{kind}")
    assert {name: len(split) for name, split in load_data(str(folder)).items()} == {
        "train": 36,
        "validation": 4,
        "test": 6,
    }
    assert load_data(str(folder / f"test.{kind}"), eval_fraction=0.5)["train"].num_rows == 3


def test_tab_separated_and_json_lines(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "x, y\t1\n" * 10)
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": "a"}\n' * 10)
    assert load_data(str(tmp_path / "a.tsv"))["train"][0] == {"text": "x, y", "label": 1}
    assert load_data(str(tmp_path / "a.jsonl"))["train"][0] == {"text": "x", "label": "a"}


def test_a_folder_of_images_in_class_folders(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / split / name / "0.png")
    data = load_data(str(tmp_path))
    assert data["train"].features["label"].names == ["cat", "dog"]
    assert len(data["validation"]) == 2


def test_loading_and_splitting_write_nothing_beside_the_data(tmp_path):
    name = saved(tmp_path, train=texts(40))
    before = files_under(tmp_path)
    load_data(name, max_train_samples=10, max_eval_samples=2)
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("source", ["saved", "csv"])
def test_streaming_reads_the_same_rows(source, tmp_path):
    name = saved(tmp_path, train=texts(8), test=texts(3))
    if source == "csv":
        name = str(tmp_path / "train.csv")
        texts(8).to_csv(name)
    data = load_data(name, streaming=True, max_train_samples=5)
    assert isinstance(data, IterableDatasetDict)
    assert [row["text"] for row in data["train"]] == [f"text {i}" for i in range(5)]
    assert "validation" not in data


# ---- choosing splits ------------------------------------------------------------------------------------------------


def test_splits_by_name(tmp_path):
    name = saved(tmp_path, part1=texts(8), part2=texts(4), part3=texts(5), train=texts(1))
    data = load_data(name, train_split="part1", eval_split="part2", test_split="part3")
    assert {name: len(split) for name, split in data.items()} == {"train": 8, "validation": 4, "test": 5}


@pytest.mark.parametrize("name", ["valid", "val", "dev"])
def test_other_names_of_the_evaluation_split(name, tmp_path):
    assert len(load_data(saved(tmp_path, train=texts(8), **{name: texts(3)}))["validation"]) == 3


def test_the_test_split_is_never_validated_on(tmp_path):
    data = load_data(saved(tmp_path, train=texts(40), test=texts(10, 40)))
    assert set(data["validation"]["text"]) <= {f"text {i}" for i in range(40)}
    assert not set(data["validation"]["text"]) & set(data["train"]["text"])
    assert len(data["validation"]) + len(data["train"]) == 40


def test_held_out_part_is_stratified_and_repeatable(tmp_path):
    name = saved(tmp_path, train=texts(400))
    first, again, other = (load_data(name, eval_fraction=0.25, seed=seed)["validation"] for seed in (0, 0, 1))
    assert sum(first["label"]) == 25
    assert first["text"][:] == again["text"][:] != other["text"][:]


def test_stratified_sample_keeps_shares_and_single_members():
    strata = np.array([0] * 700 + [1] * 299 + [2])
    chosen = stratified_sample(strata, 100, seed=0)
    assert np.bincount(strata[chosen]).tolist()[:2] in ([70, 30], [70, 29])
    assert len(np.unique(chosen)) == 100
    assert stratified_sample(strata, 1000, seed=0).tolist() == list(range(1000))
    assert stratified_sample(strata, 0, seed=0).tolist() == []


def test_limits_keep_every_class_of_sorted_data(tmp_path):
    rows = texts(400).sort("label")
    data = load_data(saved(tmp_path, train=rows, validation=rows), max_train_samples=40, max_eval_samples=8)
    assert sum(data["train"]["label"]) == 10
    assert sum(data["validation"]["label"]) == 2
    assert len(load_data(saved(tmp_path / "b", train=rows, dev=rows), max_train_samples=999)["train"]) == 400


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./missing", "There is no file or folder './missing'."),
        ("/no/such/folder", "There is no file or folder '/no/such/folder'."),
        ("missing.csv", "There is no file or folder 'missing.csv'."),
        ("nobody/nothing", "The data set 'nobody/nothing' is neither a path nor a data set that the Hub offers: "),
    ],
)
def test_a_source_that_does_not_exist(name, message):
    with pytest.raises(ValueError, match=message) as error:
        load_data(name)
    assert "\n" not in str(error.value)


def test_an_empty_split_with_a_file_is_named_too(tmp_path):
    name = saved(tmp_path, train=texts(8), test=texts(3))
    shard = next((tmp_path / "saved" / "test").glob("*.arrow"))
    with ArrowWriter(path=str(shard), features=texts(1).features) as writer:
        writer.finalize()
    with pytest.raises(ValueError, match=r"The split 'test' of the data set '.*' is empty"):
        load_data(name)


def test_a_configuration_that_does_not_exist(tmp_path):
    texts(8).to_csv(tmp_path / "train.csv")
    with pytest.raises(ValueError, match=r"can't be loaded: BuilderConfig 'tiny' not found. Available: \['default'\]"):
        load_data(str(tmp_path), "tiny")


def test_a_folder_without_data_and_a_file_of_another_type(tmp_path):
    with pytest.raises(ValueError, match=r"can't be loaded: The directory at .* doesn't contain any data files"):
        load_data(str(tmp_path))
    (tmp_path / "a.xyz").write_text("hm")
    with pytest.raises(ValueError, match=r"a.xyz' is of an unknown type; known are \.parquet, \.csv"):
        load_data(str(tmp_path / "a.xyz"))


@pytest.mark.parametrize("option", ["train_split", "eval_split", "test_split"])
def test_an_unknown_split_names_those_that_exist(option, tmp_path):
    with pytest.raises(ValueError, match=r"has no split 'tset'; its splits are \['train', 'test'\]"):
        load_data(saved(tmp_path, train=texts(8), test=texts(3)), **{option: "tset"})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("saved", r"The split 'test' of the data set '.*' is empty"),
        ("csv", r"The data set '.*' can't be loaded: Instruction \"test\" corresponds to no data"),
        ("parquet", r"The data set '.*' can't be loaded: Instruction \"test\" corresponds to no data"),
    ],
)
def test_an_empty_split_is_named(kind, message, tmp_path):
    name = str(tmp_path)
    if kind == "saved":
        name = saved(tmp_path, train=texts(8), test=texts(0))
    else:
        getattr(texts(8), f"to_{kind}")(tmp_path / f"train.{kind}")
        getattr(texts(0), f"to_{kind}")(tmp_path / f"test.{kind}")
    with pytest.raises(ValueError, match=message):
        load_data(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_fraction": 0}, "eval_fraction must lie between 0 and 1, got 0"),
        ({"eval_fraction": 1.5}, "eval_fraction must lie between 0 and 1, got 1.5"),
        ({"max_train_samples": 0}, "max_train_samples must be at least 1, got 0"),
        ({"max_eval_samples": -1}, "max_eval_samples must be at least 1, got -1"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        load_data(**options)


def test_too_few_samples_to_hold_any_out(tmp_path):
    with pytest.raises(ValueError, match=r"3 training samples can't be split with eval_fraction 0\.1"):
        load_data(saved(tmp_path, train=texts(3)))
