"""The `hf-genkit` command, in this process and as people start it."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands import launch as accelerate_launch
from huggingface_hub.cli import extensions
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from hf_genkit import __version__, cli
from hf_genkit.tuning import recipe_script

from .recipes.test_configs import parse


REPOSITORY = Path(__file__).parents[1]
RECIPES = REPOSITORY / "recipes"
COMMAND = "import sys; sys.argv[0] = 'hf-genkit'; from hf_genkit_cli import main; sys.exit(main())"


def started(*words: str, code: str = COMMAND) -> subprocess.CompletedProcess:
    """The command as its console script starts it."""
    return subprocess.run([sys.executable, "-c", code, *words], cwd=REPOSITORY, capture_output=True, text=True)


@pytest.fixture
def launched(monkeypatch):
    """What accelerate is asked to launch, instead of launching it."""
    found = []
    monkeypatch.setattr(accelerate_launch, "launch_command", found.append)
    return found


@pytest.fixture
def own_recipes(tmp_path, monkeypatch):
    """A folder of recipes to run, which is empty."""
    monkeypatch.setattr(cli, "recipes_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["recipes"], ["run", "--help"], ["run", "distil"]])
def test_what_needs_no_model_imports_no_torch(words):
    """Importing the package takes seconds, and nobody waits seconds for a list."""
    code = f"""
import sys
from hf_genkit_cli import main
try:
    main({words!r})
finally:
    print([name for name in sys.modules if name.partition(".")[0] in ("torch", "transformers", "accelerate", "numpy")])
"""
    done = started(code=code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hf_genkit", "frob"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hf_genkit", run_name="__main__")
    assert ended.value.code == 2
    assert "hf-genkit: error: argument COMMAND: invalid choice: 'frob'" in capsys.readouterr().err


def test_the_list_has_every_recipe_with_every_config(capsys):
    assert cli.main(["recipes"]) == 0
    listed = capsys.readouterr().out
    for script in RECIPES.glob("*.py"):
        found = re.search(rf"^{script.stem}\n    (.*?)Configs: (.*?)(?=\n\S|\n\n)", listed, re.MULTILINE | re.DOTALL)
        assert found.group(1).strip()
        configs = {path.stem for path in (RECIPES / script.stem).glob("*.yaml")}
        assert set(re.split(r",\s+", found.group(2))) == configs


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough_ends_it_quietly(unbuffered):
    """As in `hf-genkit recipes | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    words = [sys.executable, "-c", COMMAND, "recipes"]
    done = subprocess.run(words, cwd=REPOSITORY, env=env, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 128 + signal.SIGPIPE


def test_a_copy_is_the_recipe_and_its_configs_and_is_overwritten_by_none(tmp_path, capsys):
    folder = tmp_path / "my recipes"
    assert cli.main(["copy", "train_vae", str(folder)]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert command == f"    accelerate launch '{folder}/train_vae.py' --config '{folder}/train_vae/debug.yaml'"
    copied = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    originals = [RECIPES / "train_vae.py", *(RECIPES / "train_vae").iterdir()]
    assert copied == {path.relative_to(RECIPES): path.read_bytes() for path in originals}
    (folder / "train_vae.py").write_text("mine")
    assert cli.main(["copy", "train_vae", str(folder)]) == 1
    assert f"'{folder / 'train_vae.py'}' exists and is not overwritten" in capsys.readouterr().err
    (folder / "train_vae.py").unlink()  # the configs alone are there
    (folder / "train_vae" / "debug.yaml").write_text("mine: 1")
    assert cli.main(["copy", "train_vae", str(folder)]) == 1
    assert not (folder / "train_vae.py").exists()
    assert (folder / "train_vae" / "debug.yaml").read_text() == "mine: 1"


def test_a_copy_that_fails_leaves_nothing(own_recipes, tmp_path, capsys):
    (own_recipes / "broken.py").write_text("")  # and no configs
    assert cli.main(["copy", "broken", str(tmp_path / "copy")]) == 1
    assert "broken" in capsys.readouterr().err
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("recipe", ["distill", "finetune", "merge_adapters", "train_vae"])
def test_a_copy_runs_with_its_own_default_config_from_anywhere(recipe, tmp_path, monkeypatch, capsys):
    cli.main(["copy", recipe, str(tmp_path / "mine")])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    parse(tmp_path / "mine" / f"{recipe}.py", [], monkeypatch)
    default = tmp_path / "mine" / recipe / ("debug.yaml" if recipe == "merge_adapters" else "digits.yaml")
    default.write_text("unknown_key: 1")
    with pytest.raises(SystemExit):
        parse(tmp_path / "mine" / f"{recipe}.py", [], monkeypatch)
    assert f"unknown key 'unknown_key' in '{default}'" in capsys.readouterr().err


def test_a_copied_search_finds_the_recipes_that_it_searches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["copy", "search", "mine"])
    folders = [tmp_path / "mine", cli.recipes_folder()]
    assert recipe_script("finetune", *folders).resolve() == RECIPES / "finetune.py"
    assert cli.find_config(RECIPES / "finetune", "debug") == RECIPES / "finetune" / "debug.yaml"
    cli.main(["copy", "finetune", "mine"])
    assert recipe_script("finetune", *folders).resolve() == tmp_path / "mine" / "finetune.py"


def test_options_are_the_recipes_and_those_of_accelerate_may_stand_anywhere(launched):
    options = ["--learning_rate", "-1", "--seeds", "0", "1", "--model_config", '{"a": 1}', "--push_to_hub", "--help"]
    before, after = ["--num_processes", "3"], ["--launch_config", "ddp", "--config=digits"]
    assert cli.main(["run", *before, "distill", *options[:5], *after, *options[5:]]) == 0
    (args,) = launched
    assert args.training_script == str(RECIPES / "distill.py")
    assert args.training_script_args == ["--config", str(RECIPES / "distill" / "digits.yaml"), *options]
    assert args.num_processes == 3
    assert args.config_file == str(RECIPES / "accelerate_configs" / "ddp.yaml")


def test_a_config_of_ones_own_is_given_by_its_path(launched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("seed: 1")
    assert cli.main(["run", "distill", "--config", "mine.yaml"]) == 0
    assert launched[0].training_script_args == ["--config", "mine.yaml"]
    assert launched[0].num_processes is None
    assert launched[0].config_file is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "distil"], "error: There is no recipe 'distil' (did you mean 'distill'?)."),
        (["copy", "trainvae", "x"], "error: There is no recipe 'trainvae' (did you mean 'train_vae'?)."),
        (
            ["run", "train_gan", "--config", "zzz"],
            "error: There is no file 'zzz', and none of that name in train_gan (there are debug, digits, fashion_mnist).",
        ),
        (
            ["run", "train_gan", "--launch_config", "fsdp"],
            "error: There is no file 'fsdp', and none of that name in accelerate_configs (did you mean 'fsdp2'?).",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(words, sentence, launched, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    assert capsys.readouterr().err == f"{sentence}\n"
    assert launched == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "status"),
    [("", 0), ("import sys; sys.exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL)],
)
def test_the_exit_status_of_a_recipe_is_passed_on(source, status, own_recipes):
    (own_recipes / "mine.py").write_text(source)
    assert cli.main(["run", "mine"]) == status


def test_the_exit_status_of_the_first_process_that_failed_is_passed_on(own_recipes, monkeypatch):
    def fail(args):
        raise ChildFailedError("mine", {1: ProcessFailure(1, 123, 5, "no such file")})

    monkeypatch.setattr(accelerate_launch, "launch_command", fail)
    (own_recipes / "mine.py").write_text("")
    assert cli.main(["run", "mine"]) == 5


def test_verify_has_a_help_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", "--help"])
    assert ended.value.code == 0
    assert "--tolerance" in capsys.readouterr().out


def test_a_report_is_written_once(tmp_path, capsys):
    (tmp_path / "results.json").write_text('{"metrics": {"accuracy": 0.75}}')
    assert cli.main(["report", str(tmp_path)]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "0.75" in page
    (tmp_path / "report.html").write_text("mine")
    assert cli.main(["report", str(tmp_path)]) == 1
    assert f"'{tmp_path / 'report.html'}' exists" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "mine"
    assert cli.main(["report", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "report.html").read_text() == page


def test_a_report_goes_where_it_is_told_or_is_printed_as_markdown(tmp_path, capsys):
    (tmp_path / "results.json").write_text('{"metrics": {"accuracy": 0.75}}')
    output = tmp_path / "page.html"
    assert cli.main(["report", str(tmp_path), "--output", str(output)]) == 0
    assert output.read_text().lower().startswith("<!doctype html>")
    assert not (tmp_path / "report.html").exists()
    capsys.readouterr()
    assert cli.main(["report", str(tmp_path), "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# ")
    assert cli.main(["report", str(tmp_path), "--markdown", "--output", str(output)]) == 1
    assert capsys.readouterr().err == f"error: '{output}' exists: choose another file, or pass --overwrite.\n"
    assert cli.main(["report", str(tmp_path), "--markdown", "--output", str(output), "--overwrite"]) == 0
    assert output.read_text() == printed
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 1
    assert "holds no results" in capsys.readouterr().err


# ---- `hf genkit`: what huggingface_hub asks of a repository whose command it installs ----


def test_the_console_script_has_the_name_that_hf_looks_for():
    """hf installs the repository hf-genkit of anyone with pip, and looks for a console script of the same name."""
    *_, name = extensions._normalize_repo_id("me/hf-genkit")
    script = extensions._get_executable_name(name).removesuffix(".exe")
    assert re.search(rf'^{script} = "hf_genkit_cli:main"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert not (REPOSITORY / script).exists(), (
        "hf would take a file of that name for a shell script and install no package"
    )


def test_hf_hands_its_words_over_and_the_exit_status_back(tmp_path):
    script = tmp_path / "hf-genkit"
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n{COMMAND}\n")
    script.chmod(0o755)
    folder = tmp_path / ".local" / "share" / "hf" / "extensions" / "hf-genkit"
    folder.mkdir(parents=True)
    manifest = {
        "owner": "me",
        "repo": "hf-genkit",
        "repo_id": "me/hf-genkit",
        "short_name": "genkit",
        "type": "python",
    }
    manifest |= {"executable_path": str(script), "installed_at": "2026-01-01T00:00:00+00:00"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", "genkit", "run", "distil"],
        env={**os.environ, "HOME": str(tmp_path), "HF_HUB_DISABLE_UPDATE_CHECK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stderr == "error: There is no recipe 'distil' (did you mean 'distill'?).\n"
    assert done.returncode == 1
