import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hf_genkit import DataArguments, DistillationConfig, GenkitParser, TeacherStudentArguments
from hf_genkit.arguments import commands, parse_terms, recipe_command, recipe_terminal
from hf_genkit.losses import DISTILLATION_LOSSES


PAIR = ["--teacher_model_name_or_path", "teacher", "--student_model_name_or_path", "student"]


@pytest.fixture
def parse(tmp_path):
    """Parses words, with `yaml` as the config file, into the arguments of the distillation recipe."""

    def parse(*words: str, yaml: str | None = None):
        parser = GenkitParser((TeacherStudentArguments, DataArguments, DistillationConfig), prog="distill.py")
        if yaml is not None:
            (tmp_path / "config.yaml").write_text(yaml)
            words = ("--config", str(tmp_path / "config.yaml"), *words)
        return parser.parse_args_into_dataclasses([*PAIR, "--output_dir", str(tmp_path / "out"), *words])

    return parse


@pytest.fixture
def refusal(parse, capsys):
    """The one sentence with which a command line is refused."""

    def refusal(*words: str, yaml: str | None = None) -> str:
        with pytest.raises(SystemExit) as refused:
            parse(*words, yaml=yaml)
        assert refused.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("distill.py: error: ")
        assert error.count("\n") == 1, f"more than one line: {error}"
        return error.removeprefix("distill.py: error: ").strip()

    return refusal


# ---- YAML and command line ----


def test_yaml_gives_defaults_and_the_command_line_wins(parse):
    yaml = "alpha: 0.25\ntemperature: 2.0\nmax_length: 64\nteacher_epochs: 3\n"
    pair, data, config = parse("--alpha", "0.75", yaml=yaml)
    assert (config.alpha, config.temperature, data.max_length, pair.teacher_epochs) == (0.75, 2.0, 64, 3)
    assert parse("--alpha=0.75", "--seeds", "7", yaml="seeds: [1, 2]")[0].seeds == [7]


def test_the_last_config_file_counts_and_may_be_given_with_an_equals_sign(parse, tmp_path):
    (tmp_path / "other.yaml").write_text("alpha: 0.125")
    assert parse(f"--config={tmp_path / 'other.yaml'}", yaml="alpha: 0.25")[2].alpha == 0.125


@pytest.mark.parametrize("number", ["5e-4", "5.0e-4", "0.0005", "5E-04", ".0005", "+5e-4"])
def test_exponents_without_a_dot_are_numbers(parse, number):
    assert parse(yaml=f"learning_rate: {number}")[2].learning_rate == 5e-4


def test_numbers_inside_a_dict_are_numbers_too(parse):
    config = parse(yaml="loss_type: jsd\nloss_kwargs: {beta: 1e-1}")[2]
    assert config.loss_kwargs == {"beta": 0.1}


def test_the_word_off_stays_a_word(parse):
    """YAML 1.1 makes it a boolean: the cache would then go to a folder called False."""
    config = parse(yaml="teacher_cache: off\nsave_strategy: no\neval_strategy: no")[2]
    assert config.teacher_cache == "off"
    assert config.save_strategy == config.eval_strategy == "no"


@pytest.mark.parametrize(
    ("words", "yaml", "expected"),
    [
        ([], None, True),
        ([], "baseline: false", False),
        ([], "baseline: no", False),
        (["--no_baseline"], None, False),
        (["--baseline", "false"], None, False),
        (["--baseline"], "baseline: false", True),
        (["--no_baseline"], "baseline: true", False),
    ],
)
def test_booleans(parse, words, yaml, expected):
    assert parse(*words, yaml=yaml)[0].baseline is expected


def test_null_leaves_the_default(parse):
    pair, data, config = parse(yaml="alpha: null\nlabel_column: null\nseeds:\n")
    assert (config.alpha, data.label_column, pair.seeds) == (0.5, None, None)


def test_lists_and_dicts(parse):
    yaml = "seeds: [3, 4]\nlr_scheduler_type: cosine_with_restarts\nlr_scheduler_kwargs: {num_cycles: 2}"
    pair, _, config = parse(yaml=yaml)
    assert pair.seeds == [3, 4]
    assert config.lr_scheduler_kwargs == {"num_cycles": 2}
    assert parse("--loss_type", "jsd", "--loss_kwargs", '{"beta": 0.1}')[2].loss_kwargs == {"beta": 0.1}


def test_a_config_of_a_model_is_a_dict_from_yaml_and_from_the_command_line(tmp_path):
    parser = GenkitParser(TeacherStudentArguments)
    options = {"model_type": "vit", "hidden_sizes": [8, 16], "rate": 1e-3}
    (tmp_path / "config.yaml").write_text("student_config: {model_type: vit, hidden_sizes: [8, 16], rate: 1e-3}")
    teacher = ["--teacher_model_name_or_path", "teacher"]
    json_option = ["--student_config", '{"model_type": "vit", "hidden_sizes": [8, 16], "rate": 0.001}']
    for words in (["--config", str(tmp_path / "config.yaml")], json_option):
        (pair,) = parser.parse_args_into_dataclasses([*teacher, *words])
        assert pair.student_config == options


def test_one_parser_parses_twice_alike(tmp_path):
    (tmp_path / "config.yaml").write_text("alpha: 0.25")
    parser = GenkitParser(DistillationConfig)
    (with_yaml,) = parser.parse_args_into_dataclasses(["--config", str(tmp_path / "config.yaml")])
    (without,) = parser.parse_args_into_dataclasses([])
    assert (with_yaml.alpha, without.alpha) == (0.25, 0.5)


def test_every_option_has_a_help_text(capsys):
    parser = GenkitParser((TeacherStudentArguments, DataArguments, DistillationConfig))
    assert [action.dest for action in parser._actions if not action.help] == []
    with pytest.raises(SystemExit) as done:
        parser.parse_args_into_dataclasses(["--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "--config FILE.yaml" in shown
    assert "Weight of the soft targets" in shown


# ---- Refusals ----


def test_unknown_names_suggest_the_nearest(refusal):
    assert "unknown key 'temprature'" in refusal(yaml="temprature: 2.0")
    assert "did you mean 'temperature'?" in refusal(yaml="temprature: 2.0")
    assert refusal("--alhpa", "0.5") == "unknown option '--alhpa' (did you mean '--alpha'?)."
    assert refusal("--alhpa=0.5") == "unknown option '--alhpa' (did you mean '--alpha'?)."
    assert refusal("digits") == "unknown option 'digits'."


def test_a_name_that_resembles_nothing_is_refused_without_a_suggestion(refusal):
    assert refusal("--qqqq", "1") == "unknown option '--qqqq'."


def test_abbreviations_are_off(refusal):
    assert "unknown option '--temp'" in refusal("--temp", "2")
    assert "unknown option '--conf'" in refusal("--conf", "some.yaml")


def test_a_value_of_the_wrong_type_is_refused_alike_from_yaml_and_command_line(refusal):
    assert refusal("--alpha", "much") == refusal(yaml="alpha: much")
    assert "alpha" in refusal(yaml="alpha: much")
    assert "seeds" in refusal(yaml="seeds: [a]")
    assert "baseline" in refusal(yaml="baseline: maybe")


def test_choices_from_yaml_are_checked(refusal):
    assert "cosin" in refusal(yaml="lr_scheduler_type: cosin")
    assert "'2bit'" in refusal(yaml="teacher_quantization: 2bit")


def test_config_files_that_cannot_be_read(refusal, tmp_path):
    assert refusal("--config", "missing.yaml") == "the config file 'missing.yaml' does not exist."
    assert "is not valid YAML" in refusal(yaml="alpha: [0.5")
    assert "must hold 'key: value' lines, not a list" in refusal(yaml="- alpha\n- 0.5")
    assert "expected one argument" in refusal("--config")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--alpha", "2"], "`alpha` is 2.0, but it must be at least 0 and at most 1."),
        (["--alpha", "-0.1"], "`alpha` is -0.1, but it must be at least 0 and at most 1."),
        (["--alpha", "nan"], "`alpha` is nan, but it must be at least 0 and at most 1."),
        (["--temperature", "0"], "`temperature` is 0.0, but it must be above 0."),
        (["--temperature", "-4"], "`temperature` is -4.0, but it must be above 0."),
        (["--learning_rate", "-0.001"], "`learning_rate` is -0.001, but it must be at least 0."),
        (["--num_train_epochs", "0"], "`num_train_epochs` is 0.0, but it must be above 0."),
        (
            ["--gradient_accumulation_steps", "0"],
            "`gradient_accumulation_steps` is 0, but it must be at least 1.",
        ),
        (["--eval_fraction", "0"], "`eval_fraction` is 0.0, but it must be above 0 and at most 0.9."),
        (["--labelled_samples", "0"], "`labelled_samples` is 0, but it must be at least 1."),
        (["--max_train_samples", "-5"], "`max_train_samples` is -5, but it must be at least 1."),
        (["--teacher_epochs", "-1"], "`teacher_epochs` is -1.0, but it must be at least 0."),
        (["--seeds", "1", "1"], "`seeds` is [1, 1], but it must hold one or more different numbers from 0 on."),
        (["--seeds", "-1"], "`seeds` is [-1], but it must hold one or more different numbers from 0 on."),
        (["--loss_kwargs", "beta"], "`loss_kwargs` is 'beta', but it must be a JSON object such as '{\"key\": 1}'."),
        (["--loss_kwargs", '{"beta": 1}'], "`loss_kwargs` holds 'beta', but 'kl' takes none."),
        (
            ["--loss_type", "jsd", "--loss_kwargs", '{"bta": 1}'],
            "`loss_kwargs` holds 'bta', but 'jsd' takes beta (did you mean 'beta'?).",
        ),
        (
            ["--loss_type", "jsd", "--loss_kwargs", '{"beta": "a"}'],
            "`loss_kwargs` sets 'beta' to 'a', but it must be a number.",
        ),
        (["--loss_type", "jsd", "--loss_kwargs", '{"beta": 2}'], "beta must lie between 0 and 1, got 2."),
        (
            ["--loss_type", "kld"],
            f"`loss_type` is 'kld', but it must be one of {', '.join(DISTILLATION_LOSSES)} (did you mean 'kl'?).",
        ),
        (
            ["--teacher_dtype", "bf16"],
            "`teacher_dtype` is 'bf16', but it must be one of bfloat16, float16, float32, float64",
        ),
        (["--license", "apache2"], "`license` is 'apache2', but it must be one of "),
    ],
)
def test_values_out_of_range(refusal, words, sentence):
    assert refusal(*words).startswith(sentence)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "The teacher needs exactly one of teacher_model_name_or_path, teacher_config; given: none."),
        (
            {"teacher_model_name_or_path": "a", "teacher_config": '{"model_type": "vit"}', "teacher_epochs": 1},
            "given: teacher_model_name_or_path, teacher_config.",
        ),
        (
            {"teacher_model_name_or_path": "a"},
            "The student needs exactly one of student_model_name_or_path, student_config, student_layers; given: none.",
        ),
        (
            {"teacher_model_name_or_path": "a", "student_layers": [0], "student_model_name_or_path": "b"},
            "given: student_model_name_or_path, student_layers.",
        ),
        (
            {"teacher_config": '{"model_type": "vit"}', "student_layers": [0]},
            "`teacher_epochs` is 0, but a teacher built from `teacher_config` has to be trained.",
        ),
        (
            {"teacher_model_name_or_path": "a", "student_config": "vit"},
            "`student_config` is 'vit', but it must be a JSON object",
        ),
        (
            {"teacher_model_name_or_path": "a", "student_layers": [0], "seeds": []},
            "`seeds` is [], but it must hold one or more different numbers",
        ),
    ],
)
def test_teacher_and_student_need_one_source_each(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TeacherStudentArguments(**options)


@pytest.mark.parametrize("loss_type", DISTILLATION_LOSSES)
def test_every_loss_can_be_configured(loss_type):
    assert DistillationConfig("out", loss_type=loss_type).loss_type == loss_type


def test_parsing_a_recipes_models_and_data_loads_nothing_heavy(tmp_path):
    """A misspelt key is told soon, not after datasets and trainers are imported."""
    code = (
        "import sys\n"
        "from hf_genkit import DataArguments, GenkitParser, TeacherStudentArguments\n"
        "try:\n"
        "    GenkitParser((DataArguments, TeacherStudentArguments)).parse_args_into_dataclasses(['--max_length', '0'])\n"
        "except SystemExit as refused:\n"
        "    assert refused.code == 2\n"
        "heavy = {'datasets', 'matplotlib', 'bitsandbytes', 'sklearn', 'transformers.trainer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "`max_length` is 0" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], 0.25), (["--max_length", "9"], 0.25), (["--dataset_name", "beans"], 0.1), (["--dataset-name=beans"], 0.1)],
)
def test_the_default_config_serves_a_command_line_without_config_and_data(tmp_path, words, expected):
    """With other data its settings would be wrong, and beside another config they would be mixed."""
    (tmp_path / "default.yaml").write_text("eval_fraction: 0.25")
    (tmp_path / "other.yaml").write_text("max_length: 3")
    parser = GenkitParser(DataArguments, tmp_path / "default.yaml")
    assert parser.parse_args_into_dataclasses(words)[0].eval_fraction == expected
    other = parser.parse_args_into_dataclasses(["--config", str(tmp_path / "other.yaml"), *words])[0]
    assert other.eval_fraction == 0.1


# ---- A recipe's terminal ----


def test_a_refusal_inside_a_recipe_ends_it_with_the_sentence_alone():
    with pytest.raises(SystemExit) as refused, recipe_terminal():
        DataArguments(eval_fraction=2)
    assert refused.value.code == "error: `eval_fraction` is 2, but it must be above 0 and at most 0.9."


def test_a_missing_file_ends_a_recipe_with_the_sentence_alone(tmp_path):
    with pytest.raises(SystemExit, match="No such file"), recipe_terminal():
        (tmp_path / "missing").read_text()


def test_a_bug_keeps_its_traceback():
    """A ValueError of other code than ours is no bad input."""
    with pytest.raises(ValueError, match="invalid literal"), recipe_terminal():
        int("a")


def test_terms_are_a_name_or_names_with_weights():
    known = ["mse", "attention"]
    assert parse_terms("feature_loss", None, known) == {}
    assert parse_terms("feature_loss", "mse", known) == {"mse": 1.0}
    assert parse_terms("feature_loss", '{"attention": 1000, "mse": 0.5}', known) == {"attention": 1000.0, "mse": 0.5}
    assert parse_terms("feature_loss", {"mse": 2}, known) == {"mse": 2.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("attentoin", "`feature_loss` holds 'attentoin', but it takes mse, attention (did you mean 'attention'?)."),
        ({1: 1}, "`feature_loss` holds '1', but it takes mse, attention."),
        ('{"mse": 0}', "`feature_loss` gives 'mse' the weight 0, but it must be a number above 0."),
        ({"mse": float("nan")}, "`feature_loss` gives 'mse' the weight nan, but it must be a number above 0."),
        ({"mse": True}, "`feature_loss` gives 'mse' the weight True, but it must be a number above 0."),
        ({"mse": "1"}, "`feature_loss` gives 'mse' the weight '1', but it must be a number above 0."),
        ("{mse: 1}", "`feature_loss` is '{mse: 1}', but it must be a JSON object such as '{\"key\": 1}'."),
    ],
)
def test_terms_that_are_none_are_refused_in_one_sentence(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_terms("feature_loss", value, ["mse", "attention"])


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (False, "accelerate launch recipes/train_vae.py --config recipes/train_vae/digits.yaml --seed 1"),
        (True, "hf-genkit run train_vae --config digits --seed 1"),
    ],
)
def test_the_command_in_a_card_can_be_typed_elsewhere(installed, expected, tmp_path, monkeypatch):
    """`hf-genkit run --config digits` hands the recipe a path that only this machine has."""
    package = tmp_path / "hf_genkit"
    recipes = package / "recipes" if installed else tmp_path / "recipes"
    (recipes / "train_vae").mkdir(parents=True)
    (recipes / "train_vae" / "digits.yaml").write_text("")
    monkeypatch.setattr(commands, "PACKAGE", package)
    config = str(recipes / "train_vae" / "digits.yaml")
    script = "recipes/train_vae.py"
    assert recipe_command([script, "--config", config, "--seed", "1"]) == expected
    assert recipe_command([script, f"--config={config}", "--seed", "1"]) == expected.replace("--config ", "--config=")
    monkeypatch.chdir(tmp_path)
    Path("digits.yaml").write_text("")
    for words in (["--config", "digits.yaml"], ["--output_dir", "a b"]):  # the user's own
        assert recipe_command([script, *words]).endswith(shlex.join(words))
    assert recipe_command([script]) == expected.partition(" --config")[0]
