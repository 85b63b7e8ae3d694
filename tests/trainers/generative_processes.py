"""Run by test_generative_processes.py under torchrun, and by itself: generative training on one process or two."""

import json
import sys
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from hf_genkit.evaluation import FeatureExtractor, PictureJudge

from .test_exactness import GradientRecorder
from .tiny import tiny_model
from .tiny_diffusion import diffusion_trainer, few_step_trainer, unet
from .tiny_generative import gan, pictures, trainer_for, vae, vq_vae


GLOBAL_BATCH = 8


def few_step_teacher() -> DDPMPipeline:
    return DDPMPipeline(unet(), DDPMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2"))


RUNS = {
    "vae": (vae, {"binarize": "dynamic", "max_steps": 3}),
    "iwae": (lambda: vae(objective="iwae", num_importance_samples=2), {"max_steps": 3}),
    "gan": (
        lambda: gan(num_labels=4),
        {"loss_type": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0, "max_steps": 4},
    ),
    # The critic's last bias has no gradient but rounding errors, of which Adam would make whole steps.
    "wgan_gp": (
        gan,
        {"loss_type": "wgan_gp", "n_critic": 2, "max_steps": 4, "discriminator_augmentation": "ada", "optim": "sgd"},
    ),
    "diffusion": (
        lambda: unet(num_class_embeds=5),
        {"prediction_type": "v", "weighting": "min_snr", "condition_dropout": 0.5, "max_steps": 4},
    ),
    "progressive": (few_step_teacher, {"teacher_steps": 8, "student_steps": 2, "max_steps": 4}),
    "consistency": (few_step_teacher, {"method": "consistency", "max_steps": 3}),
}


def make_trainer(model, folder: Path, **options):
    if isinstance(model, DDPMPipeline):
        return few_step_trainer(model, folder, **options)
    return (diffusion_trainer if isinstance(model, UNet2DModel) else trainer_for)(model, folder, **options)


def flat(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def main(out: Path, world: int) -> None:
    found = {"weights": {}, "gradients": {}, "equal": {}, "logs": {}}
    for name, (build, options) in RUNS.items():
        recorder = GradientRecorder()
        trainer = make_trainer(
            build(), out / name, per_device_train_batch_size=GLOBAL_BATCH // world, callbacks=[recorder],
            **{"ada_images": 100, **options} if "gan" in name else options,
        )  # fmt: skip
        trainer.train()
        own = flat(trainer.model)
        everyone = trainer.accelerator.gather(own[None]).view(world, -1)
        found["weights"][name] = own.tolist()
        found["gradients"][name] = recorder.gradient.tolist()
        found["equal"][name] = all(torch.equal(everyone[0], other) for other in everyone)
        keys = (
            "reconstruction_loss",
            "kl_loss",
            "discriminator_loss",
            "generator_loss",
            "penalty",
            "real_accuracy",
            "mse",
        )
        logs = [log for log in trainer.state.log_history if "train_runtime" not in log]
        found["logs"][name] = [[log.get(key, 0.0) for key in keys] for log in logs]
    found["world"] = trainer.args.world_size

    # The codebook of a VQ-VAE is the same on every process.
    trainer = trainer_for(vq_vae(), out / "vq", per_device_train_batch_size=GLOBAL_BATCH // world)
    trainer.train()
    state = torch.cat([value.flatten().double() for value in trainer.model.state_dict().values()])
    everyone = trainer.accelerator.gather(state[None]).view(world, -1)
    found["equal"]["vq_vae"] = all(torch.equal(everyone[0], other) for other in everyone)

    # Evaluation, generated pictures and their score, with a number of images that two processes can't share evenly.
    extractor = FeatureExtractor(tiny_model("vit").eval(), name="tiny", size=8)
    judge = PictureJudge(extractor, pictures(40, seed=2), cache_dir=out / "features", metrics=["fd"])
    options = {"judge": judge, "eval_dataset": pictures(9, seed=1), "per_device_eval_batch_size": 2}
    for name, build in (("vae", vae), ("gan", gan), ("diffusion", unet)):
        trainer = make_trainer(build(), out / f"{name}-eval", num_judged_pictures=11, **options)
        metrics = trainer.evaluate()
        found[f"{name}_metrics"] = {
            key: v for key, v in metrics.items() if key.endswith(("_loss", "_mse", "_8", "_gap"))
        }
    trainer = trainer_for(vae(), out / "encode", **options)
    found["means"] = trainer.encode(pictures(9, seed=1))[0].tolist()
    found["scores"] = trainer.anomaly_scores(pictures(9, seed=1), "elbo").tolist()
    if trainer.is_world_process_zero():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
