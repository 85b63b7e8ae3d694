"""Few-step students of diffusion models: progressive distillation and consistency distillation."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDPMPipeline, DiffusionPipeline, SchedulerMixin
from torch import nn
from transformers import TrainerCallback

from ..evaluation import PictureJudge
from ..hub import CardFacts, TeacherFacts, hub_id
from ..pipelines import ImageDiffusionPipeline, SuperResolutionPipeline, make_sampler, scheduler_kind
from .denoiser import Denoiser
from .diffusion_distillation_config import DiffusionDistillationConfig
from .diffusion_steps import clean_for_step, ddim_step, predicted_clean, pseudo_huber, truncated_snr_weight
from .diffusion_trainer import DiffusionTrainer


TEACHERS = (DDPMPipeline, DDIMPipeline, ImageDiffusionPipeline)
KINDS = {"progressive": ["vp", "flow"], "consistency": ["vp"]}


class DiffusionDistillationTrainer(DiffusionTrainer):
    """
    Trains a copy of a diffusion model to draw in a few steps what the model draws in many.

    What is learned follows from the teacher: pictures or latents, classes, captions. The data are those of the teacher;
    real pictures are only noised, to ask the teacher about. The student keeps the kind of prediction. "v" and "x0" stay
    exact where there is little signal, and are to be preferred: a student that predicts "epsilon" divides its error by
    `alpha` at the first step, so give it float32.

    A progressive student is drawn by a `DDIMScheduler` (along a flow by Euler's steps) in `student_steps` steps and no
    others; the student of each finished stage is left in `stages/<n>-steps` of the output folder. A consistency student is
    drawn by diffusers' `LCMScheduler` in 1 to `teacher_steps` steps. Both are pipelines as [`DiffusionTrainer`]'s are.

    Stages, noise and levels follow from the optimizer step and from the sample, and a checkpoint holds the current
    teacher, so that resuming, gradient accumulation and the number of processes don't change a run.

    Args:
        teacher (`DiffusionPipeline`):
            A `DDPMPipeline` or `DDIMPipeline` of diffusers, or one of `hf_genkit.pipelines`; its weights are left as they are.
        args ([`DiffusionDistillationConfig`], *optional*): The arguments.
        prompts (`list[str]`, *optional*): Captions to draw pictures for.
        judge ([`~hf_genkit.evaluation.PictureJudge`], *optional*): What judges generated pictures at evaluations.
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: The teacher is of another kind, or the method can't take it.

    Example:

    ```python
    >>> trainer = DiffusionDistillationTrainer(
    ...     load_pipeline("outputs/ddpm-digits"),
    ...     DiffusionDistillationConfig("few-steps", teacher_steps=32, student_steps=4, max_steps=3000),
    ...     train_dataset=train,
    ...     processing_class=image_processor_for(1, 8),
    ... )
    >>> trainer.train()
    >>> trainer.pipeline()(["3", "7"]).images[0].save("picture.png")
    ```
    """

    _tag_names = ("hf_genkit", "diffusion", "distillation")

    def __init__(
        self,
        teacher: DiffusionPipeline | None = None,
        args: DiffusionDistillationConfig | None = None,
        *,
        prompts: Sequence[str] = (),
        judge: PictureJudge | None = None,
        **kwargs,
    ):
        args = args or DiffusionDistillationConfig("few_step_output", max_steps=1000)
        if not isinstance(args, DiffusionDistillationConfig):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a DiffusionDistillationConfig.")
        if not isinstance(teacher, TEACHERS) or isinstance(teacher, SuperResolutionPipeline):
            raise ValueError(
                f"`teacher` is a {type(teacher).__name__}, but it must be a DDPMPipeline, a DDIMPipeline or one of "
                "hf_genkit.pipelines that draws from noise."
            )
        kind = scheduler_kind(teacher.scheduler)
        if kind not in KINDS[args.method]:
            raise ValueError(
                f"`method` is '{args.method}', which learns from {' and '.join(KINDS[args.method])} models, but the "
                f"teacher's {type(teacher.scheduler).__name__} is made for '{kind}'."
            )
        levels = teacher.scheduler.config.num_train_timesteps
        if args.teacher_steps > levels:
            raise ValueError(
                f"`teacher_steps` is {args.teacher_steps}, but the teacher's schedule has {levels} steps only."
            )
        parts = {name: teacher.components.get(name) for name in ("vae", "text_encoder", "tokenizer")}
        if parts["text_encoder"] is not None:
            parts["text_encoder"] = parts["text_encoder"].requires_grad_(False)
        if parts["vae"] is not None:
            args.latent_scaling = parts["vae"].config.scaling_factor
        student = copy.deepcopy(teacher.unet).requires_grad_(True)
        self.teacher_name = teacher.name_or_path or ""
        student.register_to_config(_name_or_path=self.teacher_name)
        self.stage = 0
        names = ["teacher"] if args.method == "progressive" else ["teacher", "target"]
        self.helpers = {
            name: Denoiser(copy.deepcopy(teacher.unet), parts["text_encoder"], has_ema=False) for name in names
        }
        super().__init__(
            student,
            teacher.scheduler,
            args,
            vae=parts["vae"],
            text_encoder=parts["text_encoder"],
            tokenizer=parts["tokenizer"],
            id2label=teacher.config.get("id2label"),
            prompts=prompts,
            judge=judge,
            **kwargs,
        )
        guided = self.args.teacher_guidance_scale != 1
        if guided and not self.classes and self.tokenizer is None:
            raise ValueError(
                f"`teacher_guidance_scale` is {self.args.teacher_guidance_scale}, but the teacher draws without a "
                "condition that could guide it."
            )
        for helper in self.helpers.values():
            helper.requires_grad_(False).to(self.args.device)
            if self.args.channels_last:
                helper.to(memory_format=torch.channels_last)
            if self.args.torch_compile:
                helper.compile()
        if self.args.method == "consistency":
            self._scalings = self.sampler().get_scalings_for_boundary_condition_discrete
        self.add_callback(Stages(self))

    # ---- Stages ----

    @property
    def steps(self) -> tuple[int, int]:
        """Steps of teacher and student in the present stage."""
        return self.args.stages[self.stage]

    def enter_stage(self, stage: int) -> None:
        """Draws pictures from now on in as many steps as the stage's student."""
        self.stage = stage
        self.args.num_inference_steps = self.steps[1]

    def next_stage(self) -> None:
        """Makes the student, with its averaged weights, the teacher of a new stage, and leaves it as a pipeline."""
        model = self.accelerator.unwrap_model(self.model)
        if self.args.should_save:
            self.pipeline().save_pretrained(self.stage_folder(self.stage))
        learned = model.averaged["unet"].state_dict()
        for network in (self.helpers["teacher"].raw["unet"], model.raw["unet"]):
            network.load_state_dict(learned)
        self.enter_stage(self.stage + 1)

    def stage_folder(self, stage: int) -> Path:
        """Where the student of a finished stage is."""
        return Path(self.args.output_dir, "stages", f"{self.args.stages[stage][1]}-steps")

    @property
    def ema_decay(self) -> float:
        steps = self.state.global_step - self.args.stage_start(self.stage)
        return min(self.args.ema_decay, 1 - (steps + 1) ** -self.args.ema_power)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """The learning rate's schedule, once for each stage."""
        args, stages = self.args, len(self.args.stages)
        scheduler = super().create_scheduler(-(-num_training_steps // stages), optimizer)
        if stages > 1:
            scheduler.lr_lambdas = [
                lambda step, once=once: once(step - args.stage_start(args.stage_of(step)))
                for once in scheduler.lr_lambdas
            ]
        return scheduler

    def run_identity(self) -> dict:
        identity = super().run_identity()
        if len(self.args.stages) > 1:  # whose lengths follow from that of the run
            identity["arguments"]["max_steps"] = self.args.max_steps
        return identity

    # ---- The loss ----

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        clean = self.encode(self.pixel_values(inputs))
        noise = self.noise.normal("noise", len(clean), clean.shape[1:], clean.device)
        conditions = self.conditions(inputs, len(clean), self.args.condition_dropout if model.training else 0.0)
        method = self._progressive if self.args.method == "progressive" else self._consistency
        output, loss, plain = method(model, clean, noise, conditions, inputs)
        count = num_items_in_batch["loss"] if num_items_in_batch else len(clean)
        if model.training:
            self.record({"mse": plain.sum() / count})
        else:
            ones = torch.ones_like(loss)
            self.record_evaluation({"weighted_loss": (loss, ones), "mse": (plain, ones)})
        loss = loss.sum() / count
        return (loss, {"sample": output}) if return_outputs else loss

    def _progressive(self, model, clean, noise, conditions, inputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Output, loss and squared error of `x0`: the student's step against as many as it stands for."""
        (many, few), kind = self.steps, self.prediction_type
        index = self._indices(few, clean)
        alpha, sigma, times = self.levels.at(index, few)
        state = noisy = alpha * clean + sigma * noise
        ratio = many // few
        with torch.no_grad():
            here = (alpha, sigma, times)
            for left in range(ratio - 1, -1, -1):
                there = self.levels.at(index * ratio - ratio + left, many)
                state = self._teacher_step(state, here, there, conditions, inputs)
                here = there
            target = clean_for_step(state, noisy, alpha, sigma, *here[:2])
        output = model(self._laid_out(noisy), times, **conditions)
        error = predicted_clean(output, noisy, alpha, sigma, kind) - target
        plain = error.square().flatten(1).mean(1)
        return output, plain * truncated_snr_weight(alpha, sigma).flatten(), plain

    def _consistency(self, model, clean, noise, conditions, inputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Output, loss and squared error: where the student sees a path end, against where it does one step further."""
        total = self.levels.num_timesteps
        width = total // self.args.teacher_steps  # of a step, as `LCMScheduler` counts
        index = self._indices(self.args.teacher_steps, clean)
        here, there = (self.levels.at(place * width, total) for place in (index, index - 1))
        alpha, sigma, times = here
        noisy = alpha * clean + sigma * noise
        with torch.no_grad():
            state = self._teacher_step(noisy, here, there, conditions, inputs)
            seen = self.helpers["target"](self._laid_out(state), there[2], **conditions)
            target = self._end_of_path(seen, state, there)
        output = model(self._laid_out(noisy), times, **conditions)
        error = self._end_of_path(output, noisy, here) - target
        return output, pseudo_huber(error), error.square().flatten(1).mean(1)

    def _indices(self, steps: int, clean: torch.Tensor) -> torch.Tensor:
        """How many of the steps are left, from 1 on, for each sample."""
        uniform = self.uniform_times(len(clean), clean.device)
        return (uniform * steps).long().clamp(max=steps - 1) + 1

    def _teacher_step(self, x, here, there, conditions, inputs) -> torch.Tensor:
        """One step of the teacher, guided if it is the one that was given."""
        alpha, sigma, times = here
        scale = self.args.teacher_guidance_scale if self.stage == 0 else 1.0
        teacher, laid_out = self.helpers["teacher"], self._laid_out(x)
        output = teacher(laid_out, times, **conditions).float()
        if scale != 1:
            plain = teacher(laid_out, times, **self.conditions(inputs, len(x), 1.0)).float()
            output = plain + scale * (output - plain)
        clean = predicted_clean(output, x, alpha, sigma, self.prediction_type)
        return ddim_step(clean, x, alpha, sigma, *there[:2])

    def _end_of_path(self, output, x, level) -> torch.Tensor:
        """The picture that a consistency model sees: `x` itself at the lowest level, see `LCMScheduler`."""
        alpha, sigma, times = level
        skip, out = self._scalings(times.float().view(-1, 1, 1, 1))
        return skip * x + out * predicted_clean(output, x, alpha, sigma, self.prediction_type)

    def _laid_out(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.args.channels_last else x

    # ---- What is drawn, saved and told ----

    def sampler(self) -> SchedulerMixin:
        """The scheduler of diffusers that draws the student. Nothing is cut in between, as nothing is in training."""
        if self.levels.kind == "flow":
            return make_sampler(self.noise_scheduler, "euler")
        unclipped = {"clip_sample": False, "thresholding": False, "set_alpha_to_one": True}
        if self.args.method == "progressive":
            return make_sampler(self.noise_scheduler, "ddim", **unclipped)
        steps = self.args.teacher_steps
        return make_sampler(self.noise_scheduler, "lcm", **unclipped, original_inference_steps=steps)

    @property
    def pipeline_defaults(self) -> dict:
        return {"num_inference_steps": self.args.num_inference_steps, "guidance_scale": self.args.guidance_scale}

    @property
    def _changing_helper(self) -> nn.Module:
        """The network beside the student that training changes: a stage's teacher, or the target of consistency."""
        return self.helpers["teacher" if self.args.method == "progressive" else "target"].raw["unet"]

    def training_state(self) -> dict:
        kept = self._changing_helper.state_dict()
        return super().training_state() | {"helper": kept, "stage": self.stage, "max_steps": self.args.max_steps}

    def load_training_state(self, state: dict) -> None:
        helper, stage, steps = (state.pop(name) for name in ("helper", "stage", "max_steps"))
        if len(self.args.stages) > 1 and steps != self.args.max_steps:
            raise ValueError(f"`max_steps` is {self.args.max_steps}, but the checkpoint's stages share {steps}.")
        super().load_training_state(state)
        self._changing_helper.load_state_dict(helper)
        self.enter_stage(stage)

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        if facts.teacher is None and self.teacher_name:
            facts.teacher = TeacherFacts(Path(self.teacher_name).name, id=hub_id(self.teacher_name))
        return facts

    @property
    def method_sentence(self) -> str:
        few = self.args.num_inference_steps
        if self.args.method == "progressive":
            chain = ", ".join(str(steps) for steps in (self.args.teacher_steps, *(few for _, few in self.args.stages)))
            how = f"Progressive distillation: each stage's student does in one step what its teacher does in several ({chain} steps)."
            drawn = f"It is drawn in {few} steps and no others."
        else:
            how = (
                "Consistency distillation: all points of a path of the teacher, which takes "
                f"{self.args.teacher_steps} steps of DDIM, are to lead to the same picture."
            )
            drawn = f"It is drawn in a few steps, {few} by default, each of which adds new noise."
        guided = self.args.teacher_guidance_scale
        guidance = f" The teacher's guidance of {guided:g} is learned along." if guided != 1 else ""
        return f"{how}{guidance} The network predicts '{self.prediction_type}'. {drawn}"


class Stages(TrainerCallback):
    """Begins a stage with its first step, and moves a consistency student's target on after each step."""

    def __init__(self, trainer: DiffusionDistillationTrainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        if args.stage_of(state.global_step) > self.trainer.stage:
            self.trainer.next_stage()

    @torch.no_grad()
    def on_step_end(self, args, state, control, **kwargs):
        target: nn.Module | None = self.trainer.helpers.get("target")
        if target is not None:
            means, values = (list(network.raw["unet"].parameters()) for network in (target, self.trainer.model))
            torch._foreach_lerp_(means, values, 1 - args.target_decay)
