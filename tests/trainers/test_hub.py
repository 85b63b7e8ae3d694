"""Pushing from a trainer to a real Hub on this machine, and going on from what lies there."""

import json

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load
from transformers import AutoModelForImageClassification

from hf_genkit.hub import DatasetFacts, check_model_card

from .test_resume import StopAt
from .tiny import Samples, tiny_model
from .tiny_distillation import distiller


SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4, "lr_scheduler_type": "cosine"}


@pytest.fixture
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    return hub


def pushing(strategy="end", **options):
    return {"push_to_hub": True, "hub_model_id": "student", "hub_strategy": strategy, **SAVING, **options}


def pushes(hub, repo="tester/student"):
    return [commit for commit in hub.commits(repo) if commit.message != "initial commit"]


def test_push_at_the_end_is_one_commit_that_loads(make_trainer, logged_in):
    trainer = make_trainer("vit", eval_dataset=Samples("vit"), **pushing())
    trainer.train()
    trainer.evaluate()
    trainer.push_to_hub(dataset=DatasetFacts("toy images"))
    (commit,) = pushes(logged_in)
    assert {"README.md", "config.json", "model.safetensors"} <= set(commit.paths)
    loaded = AutoModelForImageClassification.from_pretrained("tester/student", revision=commit.id)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    card = logged_in.files("tester/student")["README.md"].decode()
    check_model_card(card)
    assert "toy images" in card
    assert "distillation" in card


def test_private_push_is_private(make_trainer, logged_in):
    trainer = make_trainer("vit", **pushing(hub_private_repo=True))
    trainer.train()
    trainer.push_to_hub()
    assert HfApi().model_info("tester/student").private


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint"])
def test_strategies_push_no_pickle_and_no_state_that_is_not_asked_for(make_trainer, logged_in, strategy):
    make_trainer("vit", **pushing(strategy, hub_always_push=True, save_total_limit=1)).train()
    assert len(pushes(logged_in)) == 4
    files = logged_in.files("tester/student")
    assert {name.rsplit(".", 1)[-1] for name in files} <= {"gitattributes", "json", "md", "safetensors"}
    state = [name for name in files if name.startswith("last-checkpoint/")]
    assert bool(state) == (strategy == "checkpoint")
    assert not any(name.startswith(("optimizer", "rng_state", "trainer_state")) for name in files)


def test_training_goes_on_from_the_hubs_copy(make_trainer, logged_in, tmp_path):
    whole = make_trainer("vit", folder="whole", **SAVING)
    whole.train()
    first = make_trainer("vit", folder="first", callbacks=[StopAt(2)], **pushing("checkpoint", hub_always_push=True))
    first.train()
    elsewhere = make_trainer("vit", folder="elsewhere", **SAVING)
    elsewhere.train(resume_from_checkpoint="tester/student")
    assert elsewhere.state.global_step == 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(elsewhere.model.state_dict()[name], value), name


def test_hub_copy_without_state_is_named(make_trainer, logged_in):
    first = make_trainer("vit", **pushing())
    first.train()
    first.push_to_hub()
    with pytest.raises(ValueError, match="has no last-checkpoint"):
        make_trainer("vit", folder="other").train(resume_from_checkpoint="tester/student")


def test_pushed_weights_are_those_of_the_step(make_trainer, logged_in, tmp_path):
    make_trainer("vit", **pushing("every_save", hub_always_push=True)).train()
    newest = pushes(logged_in)[0]
    assert "step 4" in newest.message
    local = (tmp_path / "run/checkpoint-4/model.safetensors").read_bytes()
    assert load(logged_in.files("tester/student")["model.safetensors"]).keys() == load(local).keys()
    assert logged_in.files("tester/student")["model.safetensors"] == local


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"hub_model_id": "no good/na me"}, "no good"), ({"hub_token": "hf_wrong"}, "not valid"), ({}, "hf auth login")],
)
def test_what_would_fail_after_training_fails_before(make_trainer, hub, setting, message):
    with pytest.raises(ValueError, match=message):
        make_trainer("vit", **pushing(**setting))


def test_read_only_token_fails_before_training(make_trainer, hub):
    with pytest.raises(ValueError, match="read"):
        make_trainer("vit", **pushing(hub_token=hub.read_token))


def test_hub_that_dies_during_training_costs_nothing(make_trainer, logged_in, tmp_path):
    trainer = make_trainer("vit", **pushing("every_save", hub_always_push=True))
    logged_in.die_on(method="POST", path_contains="/commit/", times=1)
    trainer.train()
    assert trainer.state.global_step == 4
    assert (tmp_path / "run/checkpoint-4").is_dir()
    trainer.push_to_hub()
    assert AutoModelForImageClassification.from_pretrained("tester/student").num_parameters() > 0


def test_hand_written_card_is_kept(make_trainer, logged_in, tmp_path):
    trainer = make_trainer("vit", **pushing())
    trainer.train()
    (tmp_path / "run/README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")
    trainer.push_to_hub()
    assert "# Mine" in logged_in.files("tester/student")["README.md"].decode()


def test_code_of_a_custom_model_goes_along_with_each_save(make_trainer, logged_in, tmp_path, monkeypatch):
    """A registered model's .py files stand beside the weights that every_save pushes."""
    import importlib
    import sys

    package = tmp_path / "toy_model"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "configuration_toy.py").write_text(
        "from transformers import PretrainedConfig\n\n\nclass ToyConfig(PretrainedConfig):\n    model_type = 'toy'\n"
    )
    (package / "modeling_toy.py").write_text(
        "import torch\nfrom transformers import PreTrainedModel\n"
        "from transformers.modeling_outputs import ImageClassifierOutput\n"
        "from .configuration_toy import ToyConfig\n\n\n"
        "class ToyForImageClassification(PreTrainedModel):\n"
        "    config_class = ToyConfig\n    main_input_name = 'pixel_values'\n\n"
        "    def __init__(self, config):\n        super().__init__(config)\n"
        "        self.classifier = torch.nn.Linear(64, config.num_labels)\n        self.post_init()\n\n"
        "    def forward(self, pixel_values, labels=None):\n"
        "        return ImageClassifierOutput(logits=self.classifier(pixel_values.flatten(1)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    modeling = importlib.import_module("toy_model.modeling_toy")
    configuration = sys.modules["toy_model.configuration_toy"]
    from transformers import AutoConfig

    AutoConfig.register("toy", configuration.ToyConfig)
    AutoModelForImageClassification.register(configuration.ToyConfig, modeling.ToyForImageClassification)
    configuration.ToyConfig.register_for_auto_class()
    modeling.ToyForImageClassification.register_for_auto_class("AutoModelForImageClassification")
    student = modeling.ToyForImageClassification(configuration.ToyConfig(num_labels=3))
    make_trainer("vit", model=student, **pushing("every_save", hub_always_push=True)).train()
    files = logged_in.files("tester/student")
    assert {"modeling_toy.py", "configuration_toy.py"} <= set(files)
    assert "auto_map" in json.loads(files["config.json"])
    assert "trust_remote_code=True" in files["README.md"].decode()


def test_card_of_an_unevaluated_teacher_names_no_local_path(make_trainer, logged_in, tmp_path):
    tiny_model("vit", seed=1, scale=4.0).save_pretrained(tmp_path / "teacher")
    trainer = make_trainer("vit", teacher=str(tmp_path / "teacher"), teacher_cache="off", **pushing())
    trainer.train()
    trainer.push_to_hub()
    assert str(tmp_path) not in logged_in.files("tester/student")["README.md"].decode()


def test_card_gives_the_score_of_the_weights_that_are_pushed(make_trainer, logged_in):
    trainer = make_trainer(
        "vit",
        eval_dataset=Samples("vit", size=9, unlabelled=0),
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_kd_loss",
        greater_is_better=False,
        **{**pushing(), "learning_rate": 0.5},
    )
    trainer.train()
    (best,) = [
        log
        for log in trainer.state.log_history
        if "eval_accuracy" in log and log["step"] == trainer.state.best_global_step
    ]
    assert trainer.card_facts().results[0].value == best["eval_accuracy"]


def test_each_failed_push_during_training_is_named(make_trainer, logged_in, caplog):
    logged_in.die_on(method="POST", path_contains="/commit/", times=2)
    with caplog.at_level("WARNING"):
        make_trainer("vit", **pushing("every_save", hub_always_push=True)).train()
    assert caplog.text.count("A push during training failed") == 2


def test_missing_hub_checkpoint_is_one_sentence(make_trainer, logged_in):
    with pytest.raises(ValueError, match="'tester/gone' is no local checkpoint"):
        make_trainer("vit").train(resume_from_checkpoint="tester/gone")


def test_a_model_of_frames_has_the_pipeline_tag_that_the_hub_knows(tmp_path):
    distiller("ctc", tmp_path).create_model_card()
    card = (tmp_path / "README.md").read_text()
    check_model_card(card)
    assert "pipeline_tag: automatic-speech-recognition" in card
