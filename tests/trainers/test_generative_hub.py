"""A VAE, a GAN and diffusion models through a real Hub on this machine, into a process that has no hf_genkit."""

import os
import re
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel

from hf_genkit.hub import check_model_card

from .tiny_diffusion import diffusion_trainer, unet
from .tiny_generative import gan, pictures, trainer_for, vae


WITHOUT_PACKAGE = """
import sys
sys.modules["hf_genkit"] = None  # an import of it fails
from transformers import AutoModel
model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
print(type(model).__module__.split(".")[0], model.{call}.shape)
"""


@pytest.mark.parametrize(("build", "call"), [(vae, "sample(2)"), (gan, "generate(2)")], ids=["vae", "gan"])
def test_pushed_while_training_with_pictures_and_loaded_without_the_package(hub, tmp_path, monkeypatch, build, call):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    kind = call.split("(")[0]
    trainer = trainer_for(
        build(), tmp_path / "run", push_to_hub=True, hub_model_id=kind, hub_strategy="checkpoint", save_strategy="steps",
        save_steps=2, eval_strategy="steps", eval_steps=2, eval_dataset=pictures(8), hub_always_push=True,
    )  # fmt: skip
    trainer.train()
    trainer._finish_current_push()
    files = hub.files(f"tester/{kind}")
    card = files["README.md"].decode()
    check_model_card(card)
    shown = re.findall(r"\]\((\w+\.png)\)", card)
    assert "samples.png" in shown
    assert set(shown) <= set(files), "the card shows pictures that are not there"
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    loaded = AutoModel.from_pretrained(f"tester/{kind}")
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name

    code = WITHOUT_PACKAGE.format(repo=f"tester/{kind}", call=call)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split(maxsplit=1) == ["transformers_modules", "torch.Size([2, 1, 8, 8])\n"]

    # Another machine goes on from the Hub's last checkpoint.
    again = trainer_for(build(), tmp_path / "again", max_steps=6)
    again.train(resume_from_checkpoint=f"tester/{kind}")
    assert again.state.global_step == 6


PIPELINE_WITHOUT_PACKAGE = """
import sys
sys.modules["hf_genkit"] = None  # an import of it fails
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained("{repo}"{options})
print(type(pipeline).__module__.split(".")[0], pipeline({call}).images[0].size)
"""


@pytest.mark.parametrize("classes", [None, 5], ids=["stock", "by class"])
def test_a_pipeline_pushed_while_training_is_drawn_without_the_package_and_resumed(
    hub, tmp_path, monkeypatch, classes
):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    trainer = diffusion_trainer(
        unet(num_class_embeds=classes), tmp_path / "run", push_to_hub=True, hub_model_id="ddpm", hub_always_push=True,
        hub_strategy="checkpoint", save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2,
        eval_dataset=pictures(8),
    )  # fmt: skip
    trainer.train()
    trainer._finish_current_push()
    files = hub.files("tester/ddpm")
    check_model_card(files["README.md"].decode())
    assert {"model_index.json", "unet/diffusion_pytorch_model.safetensors", "noising.png", "denoising.png"} <= set(
        files
    )
    assert "training_weights.safetensors" not in files, "the raw weights belong to last-checkpoint/"
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]

    options = "" if classes is None else ", trust_remote_code=True"
    call = "num_inference_steps=2" if classes is None else "[0], num_inference_steps=2"
    code = PIPELINE_WITHOUT_PACKAGE.format(repo="tester/ddpm", options=options, call=call)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{'diffusers' if classes is None else 'diffusers_modules'} (8, 8)\n"

    again = diffusion_trainer(unet(num_class_embeds=classes), tmp_path / "again", max_steps=6)
    again.train(resume_from_checkpoint="tester/ddpm")
    assert again.state.global_step == 6
