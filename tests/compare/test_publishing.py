"""A report as a static Space: one commit, a card whose links work, and what is refused before anything is trained."""

import json
import re

import pytest
import torch
from huggingface_hub import HfApi

from hf_genkit.compare import check_report_space, push_report, render_report_card
from hf_genkit.evaluation import save_grid
from hf_genkit.hub.card_rules import parse_metadata
from hf_genkit.report import Chart, Picture, Pictures, Report, Section, Series, write_report

from ..hub.metadata import read_metadata
from .test_comparison import compare, refused  # noqa: F401
from .test_task_models import save_classifier


SPACE = "tester/compared"
FILES = {"README.md", "report.html", "report.json", "results.json", "VAE samples.png", "old.png", "report-fd.svg"}


@pytest.fixture
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    return hub


def report(*drawn: str) -> Report:
    shown = Pictures("Side by side", [Picture(name, name) for name in drawn])
    chart = Chart("FD", "ms", "FD", [Series("VAE", [(1.0, 2.0)])])
    return Report("One: two", ["All is well."], {}, [Section("Samples", [shown, chart])], "accelerate launch it")


@pytest.fixture
def folder(tmp_path):
    for name in ("VAE samples.png", "old.png", "foreign.png"):
        save_grid(torch.zeros(1, 1, 8, 8), tmp_path / name)
    (tmp_path / "results.json").write_text(
        json.dumps({"model": "/home/me/vae", "command": "x --hub_token hf_" + "a" * 30})
    )
    write_report(report("VAE samples.png", "old.png"), tmp_path)
    return tmp_path


def files_of(hub) -> dict[str, bytes]:
    return {name: data for name, data in hub.files(SPACE, repo_type="space").items() if name != ".gitattributes"}


def test_a_report_goes_up_in_one_commit_and_the_space_shows_its_page(logged_in, folder):
    push_report(report("VAE samples.png", "old.png"), folder, SPACE, private=True)
    files = files_of(logged_in)
    assert set(files) == FILES
    assert len(logged_in.commits(SPACE, repo_type="space")) == 2
    assert HfApi().space_info(SPACE).private
    card = files["README.md"].decode()
    metadata, errors, warnings = read_metadata(card)
    assert (metadata["sdk"], metadata["app_file"], metadata["title"]) == ("static", "report.html", "One: two")
    assert errors == warnings == []
    assert b"All is well." in files["report.html"]


def test_every_link_of_the_card_is_a_file_of_the_space(logged_in, folder):
    push_report(report("VAE samples.png", "old.png"), folder, SPACE)
    files = files_of(logged_in)
    links = set(re.findall(r"\]\(([^)]+)\)", files["README.md"].decode()))
    assert {link.replace("%20", " ") for link in links} == FILES - {"README.md"}


def test_a_second_push_takes_away_pictures_that_are_gone(logged_in, folder):
    push_report(report("VAE samples.png", "old.png"), folder, SPACE)
    push_report(report("VAE samples.png"), folder, check_report_space("compared"))
    assert set(files_of(logged_in)) == FILES - {"old.png"}


def test_no_token_and_no_local_path_leaves_this_machine(logged_in, folder):
    push_report(report("VAE samples.png"), folder, SPACE)
    found = json.loads(files_of(logged_in)["results.json"])
    assert found["model"] == "vae"
    assert "hf_a" not in found["command"]


def test_models_and_data_of_the_hub_are_linked_and_local_ones_are_not(tmp_path):
    card = render_report_card(report(), ["me/one", str(tmp_path)], ["me/data", "digits"])
    metadata = parse_metadata(card)
    assert (metadata["models"], metadata["datasets"]) == (["me/one"], ["me/data"])
    assert "(https://huggingface.co/me/one)" in card
    assert "(https://huggingface.co/datasets/me/data)" in card
    assert str(tmp_path) not in card
    assert "datasets" not in parse_metadata(render_report_card(report(), [], ["digits"]))


def test_a_space_of_another_kind_and_a_public_one_are_refused(logged_in, monkeypatch):
    api = HfApi()
    api.create_repo(SPACE, repo_type="space", space_sdk="static")
    assert check_report_space("compared") == SPACE, "a push that was cut off could not be repeated"
    with pytest.raises(ValueError, match="exists and is public: make it private"):
        check_report_space(SPACE, private=True)
    with monkeypatch.context() as squashed:
        api.upload_file(path_or_fileobj=b"mine", path_in_repo="photo.png", repo_id=SPACE, repo_type="space")
        only = api.list_repo_commits(SPACE, repo_type="space")[:1]
        squashed.setattr(HfApi, "list_repo_commits", lambda *args, **kwargs: only)
        with pytest.raises(ValueError, match="exists and is no report"):
            check_report_space(SPACE)
    mine = b"---\ntitle: Mine\ncolorFrom: red\ncolorTo: red\nsdk: static\napp_file: report.html\n---\n"
    api.upload_file(path_or_fileobj=mine, path_in_repo="README.md", repo_id=SPACE, repo_type="space")
    with pytest.raises(ValueError, match="exists and is no report: choose another `hub_space_id`"):
        check_report_space(SPACE)


def test_a_push_that_fails_says_so(logged_in, folder):
    logged_in.die_on("POST", "/commit/", times=99)
    with pytest.raises(ConnectionError, match="The push to the Space 'tester/compared' failed"):
        push_report(report("VAE samples.png"), folder, SPACE)


def test_the_recipe_pushes_what_it_found(logged_in, tmp_path, monkeypatch, capsys):
    names = save_classifier(tmp_path / "teacher", 32), save_classifier(tmp_path / "student", 16)
    words = ["--task", "image-classification", "--models", *names, "--output_dir", tmp_path / "out"]
    compare(monkeypatch, *words, "--push_to_hub", "--hub_space_id", "compared", "--hub_token", logged_in.write_token)
    assert f"/spaces/{SPACE}." in capsys.readouterr().out
    files = files_of(logged_in)
    assert {name for name in files if name.endswith(".svg")} == {
        "report-accuracy-against-latency.svg",
        "report-accuracy-against-size.svg",
    }
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for content in [*written, *files.values()]:
        assert logged_in.write_token.encode() not in content
    assert not any(str(tmp_path).encode() in content for content in files.values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--push_to_hub"], "Pushing to 'out' needs an access token"),
        (["--push_to_hub", "--hub_space_id", "a b"], "The repository name 'a b' is not valid"),
        (["--hub_space_id", "me/x"], "`hub_space_id` is 'me/x', but `push_to_hub` is not set."),
    ],
)
def test_a_push_that_can_not_succeed_is_refused_before_training(hub, tmp_path, refused, words, expected):  # noqa: F811
    assert expected in refused("--output_dir", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()
