"""What is written of data and trainers, and read back: fingerprints, defaults, and names that are not known."""

import datasets
import pytest

from hf_genkit import DataArguments, DiffusionConfig, VAETrainingConfig
from hf_genkit.arguments import FineTuningDataArguments
from hf_genkit.data import ImageData, LanguageData, load_data
from hf_genkit.hub import Claim, DatasetFacts, Result
from hf_genkit.trainers.claim_arguments import (
    commit_of,
    data_arguments,
    evaluation_arguments,
    fingerprint,
    read_data_arguments,
    read_evaluation_arguments,
)


def texts(*rows: str) -> LanguageData:
    split = datasets.Dataset.from_dict({"text": list(rows)})
    return LanguageData(datasets.DatasetDict(train=split, validation=split))


def digits(folder=None) -> ImageData:
    return ImageData(load_data("digits" if folder is None else str(folder)))


def test_a_fingerprint_is_of_the_samples_wherever_they_are_stored(tmp_path):
    data = digits()
    found = fingerprint(data)
    data.splits.save_to_disk(str(tmp_path / "saved"))
    assert fingerprint(digits(tmp_path / "saved")) == found
    for name, split in data.splits.items():  # files of another format with the same pixels, in a folder for each class
        for number, row in enumerate(split.select(range(40))):
            path = tmp_path / "pictures" / name / str(row["label"]) / f"{number:03}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            row["image"].save(path)
    first = fingerprint(digits(tmp_path / "pictures"))
    for path in (tmp_path / "pictures").rglob("*.bmp"):
        datasets.Image().decode_example({"path": str(path), "bytes": None}).save(path.with_suffix(".png"))
        path.unlink()
    assert fingerprint(digits(tmp_path / "pictures")) == first != found


def test_a_fingerprint_tells_samples_apart_that_look_alike():
    known = {fingerprint(texts(*rows)) for rows in (("ab", "c"), ("a", "bc"), ("c", "ab"), ("ab", "c", ""), ("ab",))}
    assert len(known) == 5


def test_labels_belong_to_the_samples():
    data = digits()
    before = fingerprint(data)
    data.splits["test"] = data.splits["test"].map(lambda row: {"label": (row["label"] + 1) % 10})
    assert fingerprint(data) != before


def test_options_of_data_are_read_back_without_those_of_training():
    args = DataArguments(
        max_train_samples=50, image_size=16, augmentation="flip", labelled_samples=9, test_split="test"
    )
    written = data_arguments(digits(), args)
    assert written.keys() == {"dataset_name", "max_train_samples", "image_size", "test_split", "fingerprint"}
    claim = Claim("", DatasetFacts("digits", args=written), Result("loss", 1.0, args={}))
    again = read_data_arguments(FineTuningDataArguments, claim)
    assert (again.dataset_name, again.image_size, again.augmentation) == ("digits", 16, None)
    text_args = data_arguments(texts("a", "b"), FineTuningDataArguments(dataset_name="me/texts"))
    assert text_args.keys() == {"max_length", "eval_fraction", "fingerprint"}


def test_a_folder_that_a_card_names_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "secrets").mkdir(parents=True)
    claim = Claim("", DatasetFacts("x", id="me/secrets", args={"max_length": 3}), Result("loss", 1.0, args={}))
    with pytest.raises(ValueError, match="is not on the Hub: name that data set with --dataset_name"):
        read_data_arguments(DataArguments, claim)
    assert read_data_arguments(DataArguments, claim, "me/secrets").dataset_name == "me/secrets"


def test_arguments_of_a_metric_are_those_that_it_depends_on(tmp_path):
    args = VAETrainingConfig(str(tmp_path), binarize="dynamic", seed=7, learning_rate=1.0)
    assert evaluation_arguments(args, "loss") == {"seed": 7, "binarize": "dynamic"}
    assert evaluation_arguments(args, "fd_x") == {"seed": 7, "num_judged_pictures": 1000}
    assert evaluation_arguments(args, "auroc") is None
    diffusion = DiffusionConfig(str(tmp_path), weighting="min_snr", bf16=True, use_cpu=True)
    assert evaluation_arguments(diffusion, "loss") == {"seed": 42, "weighting": "min_snr", "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"output_dir": "x"}, "`argument of loss` is 'output_dir', but it must be one of"),
        ({"learning_rate": 1.0}, "is 'learning_rate', but it must be one of"),
        ({"seed": "7"}, "`seed` is '7', but it must be of the type int"),
        ({"binarize": True}, "`binarize` is True, but it must be of the type str"),
    ],
)
def test_arguments_that_a_metric_does_not_know_are_refused(args, reason):
    claim = Claim("", DatasetFacts("x"), Result("loss", 1.0, args=args))
    with pytest.raises(ValueError, match=reason):
        read_evaluation_arguments(VAETrainingConfig, claim)


def test_a_revision_is_written_as_its_commit(hub, monkeypatch):
    from huggingface_hub import HfApi

    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    HfApi().create_repo("tester/data", repo_type="dataset")
    commit = hub.commits("tester/data", repo_type="dataset")[0].id
    assert commit_of("tester/data", repo_type="dataset") == commit_of("tester/data", "main", "dataset") == commit
    assert commit_of("tester/nothing", "v1", "dataset") == "v1"
