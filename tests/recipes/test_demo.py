"""demo.py as people run it: building, writing and pushing a Space, and what it refuses."""

import pytest

from hf_genkit.hub import push_folder

from ..demo.tiny_demos import save_classifier, save_gan
from ..trainers.tiny_finetuning import finetuning_model
from .launching import run


def test_the_demo_of_a_folder_is_built(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "demo", "--model_name_or_path", save_gan(tmp_path / "gan"))
    assert capsys.readouterr().out == f"The demo of {tmp_path / 'gan'} can be launched.\n"


def test_a_model_of_the_hub_becomes_a_space_here_and_there(tmp_path, monkeypatch, capsys, hub):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    push_folder(save_classifier(tmp_path / "student"), "student")
    model = ("--model_name_or_path", "tester/student", "--title", "Grey pictures")
    run(monkeypatch, "demo", *model, "--output_dir", tmp_path / "space")
    assert "title='Grey pictures'" in (tmp_path / "space" / "app.py").read_text()
    assert not [id for kind, id in hub.repositories if kind == "space"]
    run(monkeypatch, "demo", *model, "--push_to_hub", "--hub_private_repo", "true")
    assert set(hub.files("tester/student-demo", repo_type="space")) > {"app.py", "requirements.txt", "README.md"}
    assert "/spaces/tester/student-demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--hub_space_id", "me/x"], "`hub_space_id` is 'me/x', but `push_to_hub` is not set."),
        (["--server_port", "0"], "`server_port` is 0"),
        (["--push_to_hub"], "A Space loads its models from the Hub, but 'FOLDER' is on this machine"),
        (["--output_dir", "SPACE"], "A Space loads its models from the Hub, but 'FOLDER' is on this machine"),
        ([], "'FOLDER' is a BertModel, but there are demos of"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(words, sentence, tmp_path, refusal):
    folder = tmp_path / "headless"
    finetuning_model("bert").base_model.save_pretrained(folder)
    words = [word.replace("SPACE", str(tmp_path / "space")) for word in words]
    assert sentence.replace("FOLDER", str(folder)) in refusal("demo", "--model_name_or_path", folder, *words)
    assert not (tmp_path / "space").exists()
