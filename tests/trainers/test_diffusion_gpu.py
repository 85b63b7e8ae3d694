"""Diffusion models on an accelerator: the same noise, the same pictures, bf16."""

import pytest
import torch

from hf_genkit.pipelines import UnconditionalPipeline, speed_up

from .tiny_diffusion import diffusion_trainer, dit, unet
from .tiny_generative import pictures


pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("prediction_type", ["v", "flow", "edm"])
def test_a_run_has_the_losses_of_a_run_on_the_cpu(tmp_path, prediction_type):
    losses = []
    for use_cpu in (True, False):
        trainer = diffusion_trainer(
            unet(num_class_embeds=5), tmp_path / str(use_cpu), use_cpu=use_cpu, prediction_type=prediction_type,
            learning_rate=1e-3, eval_dataset=pictures(8),
        )  # fmt: skip
        trainer.train()
        losses.append([log["loss"] for log in trainer.state.log_history if "loss" in log])
        losses[-1].append(trainer.evaluate()["eval_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_bf16_and_compilation_train_and_resume(tmp_path):
    options = {"use_cpu": False, "bf16": True, "torch_compile": True, "save_strategy": "steps", "save_steps": 2}
    whole = diffusion_trainer(dit(), tmp_path / "whole", prediction_type="flow", max_steps=4, **options)
    whole.train()
    again = diffusion_trainer(dit(), tmp_path / "again", prediction_type="flow", max_steps=4, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, value in whole.model.ema.state_dict().items():
        assert torch.allclose(again.model.ema.state_dict()[name], value, atol=1e-3), name


def test_a_seed_gives_the_picture_that_it_gives_on_the_cpu(tmp_path):
    trainer = diffusion_trainer(unet(), tmp_path)
    trainer.train()
    pipeline = UnconditionalPipeline(trainer.pipeline().unet, trainer.sampler())
    options = {"seed": 3, "num_inference_steps": 10, "output_type": "pt"}
    expected = pipeline(2, **options).images
    found = pipeline.to("cuda")(2, **options).images
    assert torch.allclose(found.cpu(), expected, atol=2e-2)
    fast = speed_up(pipeline, bf16=True, channels_last=True)(2, **options).images
    assert torch.allclose(fast.cpu(), expected, atol=0.1)
