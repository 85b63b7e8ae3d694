"""distill_ddpm.py as people run it: what it leaves, what plain diffusers draws of it, and what it refuses."""

import json
import re

import pytest
from diffusers import DiffusionPipeline
from PIL import Image

from hf_genkit.hub import check_model_card

from .launching import launch
from .test_diffusion import run, snippet_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("few") / "digits-few-steps"
    return out, launch("distill_ddpm", "single", out).stdout


def test_the_run_leaves_students_scores_and_pictures(finished):
    out, printed = finished
    assert re.search(r"^Model +Steps +Seconds a picture +FD \(digits classifier\)", printed, re.MULTILINE)
    metrics = json.loads((out / "results.json").read_text())["metrics"]
    contenders = ["teacher_8", *(f"{name}_{steps}" for name in ("teacher_dpmpp", "student") for steps in (1, 2, 4))]
    assert {f"fd_digits_classifier_{name}_steps" for name in contenders} <= set(metrics)
    with Image.open(out / "few_steps.png") as picture:
        assert picture.size[1] > 7 * 80
    assert {path.name for path in (out / "stages").iterdir()} == {"2-steps", "4-steps"}


def test_the_card_compares_them_and_its_snippet_draws_in_the_students_steps(finished, monkeypatch):
    out, _ = finished
    card = (out / "README.md").read_text()
    check_model_card(card)
    assert "](few_steps.png)" in card
    assert "| teacher, DPM++ |" in card
    assert "accelerate launch recipes/distill_ddpm.py" in card
    snippet = snippet_of(out)
    assert "num_inference_steps=1" in snippet
    assert "guidance_scale=1," in snippet
    monkeypatch.chdir(out)
    exec(snippet, {})
    assert Image.open("picture.png").size == (8, 8)


def test_the_student_of_a_stage_is_a_pipeline_that_knows_its_steps(finished):
    loaded = DiffusionPipeline.from_pretrained(finished[0] / "stages" / "4-steps", trust_remote_code=True)
    steps = []
    loaded(["3"], callback_on_step_end=lambda *_: steps.append(1))
    assert len(steps) == 4


def test_another_run_in_the_same_folder_is_refused(finished, refusal):
    out, _ = finished
    assert "holds another run" in refusal("distill_ddpm", "--output_dir", out, "--teacher_steps", "4")


def test_a_consistency_student_of_a_pipeline_goes_to_the_hub(finished, hub, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [])
    teacher = finished[0] / "runs" / "teacher"
    debug = "recipes/distill_ddpm/debug.yaml"
    words = [
        "--teacher_config",
        "null",
        "--teacher_model_name_or_path",
        teacher,
        "--method",
        "consistency",
        "--teacher_steps",
        50,
    ]
    words += ["--student_steps", 4, "--feature_extractor", "none", "--max_steps", 2, "--save_strategy", "no"]
    words += ["--push_to_hub", "--hub_model_id", "few", "--hub_token", hub.write_token]
    run("distill_ddpm", "--config", debug, "--output_dir", tmp_path / "out", *words)
    files = hub.files("tester/few")
    assert {"README.md", "few_steps.png", "unet/diffusion_pytorch_model.safetensors"} <= set(files)
    assert not [name for name in files if "training_weights" in name or name.startswith(("stages", "runs"))]
    loaded = DiffusionPipeline.from_pretrained("tester/few", trust_remote_code=True)
    assert type(loaded.scheduler).__name__ == "LCMScheduler"
    assert loaded(["3"], seed=0).images[0].size == (8, 8)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--student_steps", "3"], "`student_steps` is 3, but halving the 8"),
        (["--max_steps", "2"], "`max_steps` is 2, but there are 3 stages"),
        (["--method", "adversarial"], "`method` is 'adversarial'"),
        (["--teacher_config", "null"], "given: neither"),
        (["--teacher_config", "null", "--teacher_model_name_or_path", "./nowhere"], "'./nowhere' is no diffusion pipeline"),
        (["--teacher_config", '{"layer_per_block": 1}'], "(did you mean 'layers_per_block'?)"),
        (["--compared_steps", "0"], "`compared_steps` is [0]"),
        (["--push_to_hub"], "needs an access token"),
    ],
)  # fmt: skip
def test_bad_input(refusal, tmp_path, words, expected):
    assert expected in refusal("distill_ddpm", "--output_dir", tmp_path / "out", *words)
    assert not list(tmp_path.rglob("*.safetensors"))
