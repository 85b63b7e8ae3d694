"""Distillation on an accelerator: the losses are those of the CPU, whatever the head and whoever the teacher is."""

import pytest

from .test_adversarial_distillation_trainer import adversarial_trainer
from .tiny_diffusion import diffusion_trainer, few_step_trainer, unet
from .tiny_distillation import HEADS, distiller
from .tiny_generative import gan, trainer_for, vae, vq_vae
from .tiny_mutual import mutual_trainer
from .tiny_self import adapted, early_exit, self_trainer


pytestmark = pytest.mark.gpu


def logged(trainer) -> list[float]:
    trainer.train()
    history = [*trainer.state.log_history, *([trainer.evaluate()] if trainer.eval_dataset is not None else [])]
    losses = [value for log in history for name, value in log.items() if name.endswith("loss")]
    assert losses
    return losses


def alike(make, folder, tolerance: float = 1e-2, **options):
    """Trains on the CPU and on the accelerator from the same weights, and compares what is logged."""
    on_cpu, on_gpu = (logged(make(folder / str(cpu), use_cpu=cpu, **options)) for cpu in (True, False))
    assert on_gpu == pytest.approx(on_cpu, rel=tolerance, abs=1e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_a_student_learns_what_it_learns_on_the_cpu(kind, tmp_path):
    alike(lambda folder, **options: distiller(kind, folder, **options), tmp_path, max_steps=3)


@pytest.mark.parametrize("options", [
    {"loss_type": "jsd"}, {"feature_loss": "mse", "projector": "always"}, {"teacher_top_k": 8}, {"fused_head": False},
    {"bf16": True},
], ids=str)  # fmt: skip
def test_every_way_of_teaching_gives_the_losses_of_the_cpu(options, tmp_path):
    tolerance = 5e-2 if "bf16" in options else 1e-2
    alike(lambda folder, **more: distiller("llama", folder, **more), tmp_path, tolerance, max_steps=3, **options)


@pytest.mark.parametrize("kind", ["vit", "llama-lm"])
def test_an_opponent_on_the_accelerator_gives_the_losses_of_the_cpu(kind, tmp_path):
    alike(lambda folder, **options: adversarial_trainer(folder, kind, **options), tmp_path, max_steps=4)


@pytest.mark.parametrize("task", ["images", "language", "speech"])
def test_peers_on_the_accelerator_learn_what_they_learn_on_the_cpu(task, tmp_path):
    alike(lambda folder, **options: mutual_trainer(task, folder, **options), tmp_path, max_steps=3)


@pytest.mark.parametrize(("self_teacher", "make"), [
    ("ema", lambda: adapted("vit")), ("adapter_off", lambda: adapted("vit")), ("deep_supervision", lambda: early_exit("vit")),
], ids=["ema", "adapter_off", "deep_supervision"])  # fmt: skip
def test_a_model_teaches_itself_as_on_the_cpu(self_teacher, make, tmp_path):
    alike(lambda folder, **options: self_trainer(make(), folder, **options), tmp_path, self_teacher=self_teacher)


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_a_student_of_few_steps_learns_what_it_learns_on_the_cpu(method, tmp_path):
    teacher = diffusion_trainer(unet(), tmp_path / "teacher")
    teacher.train()
    options = {"method": method, "teacher_steps": 8, "student_steps": 4}
    alike(lambda folder, **more: few_step_trainer(teacher.pipeline(), folder, **options, **more), tmp_path)


@pytest.mark.parametrize("make", [vae, vq_vae, gan], ids=["vae", "vq-vae", "gan"])
def test_the_other_families_learn_what_they_learn_on_the_cpu(make, tmp_path):
    # The codes of a VQ-VAE that nobody uses are drawn anew, on each device by its own generator.
    alike(lambda folder, **options: trainer_for(make(), folder, **options), tmp_path, max_steps=2)
