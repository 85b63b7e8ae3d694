"""A few-step student's teacher, and how both draw in a few steps: scores, seconds and pictures side by side."""

import copy
import time
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DiffusionPipeline

from ..arguments import DiffusionModelArguments
from ..arguments.few_step_arguments import FewStepArguments
from ..data import ArrayImageDataset, ImageData
from ..evaluation import PictureJudge, save_grid
from ..evaluation.drawing import draw
from ..pipelines import ImageDiffusionPipeline, UnconditionalPipeline, load_pipeline, make_sampler
from .diffusion_config import DiffusionConfig
from .diffusion_distillation_config import DiffusionDistillationConfig
from .diffusion_distillation_trainer import DiffusionDistillationTrainer
from .diffusion_models import diffusion_components
from .diffusion_trainer import DiffusionTrainer
from .progress import show_one_line


SHOWN = 10  # pictures in a row of the grid
BATCH = 250


def diffusion_teacher(
    args: FewStepArguments,
    data: ImageData,
    train: ArrayImageDataset,
    config: DiffusionDistillationConfig,
    image_size: int | None = None,
) -> DiffusionPipeline:
    """
    The pipeline that a student learns from: loaded, or trained on the spot to predict v along the cosine schedule.

    Args:
        args ([`~hf_genkit.arguments.few_step_arguments.FewStepArguments`]): Its name, or its network's config.
        data ([`~hf_genkit.data.ImageData`]): Decides size, channels and classes of a new one.
        train ([`~hf_genkit.data.ArrayImageDataset`]): What a new one is trained on.
        config ([`DiffusionDistillationConfig`]): The student's arguments; a new teacher is kept in `runs/teacher` of its
            output folder, and found there again.
        image_size (`int`, *optional*): Side of the images; defaults to the data's.

    Raises:
        `ValueError`: There is no such pipeline.
    """
    name = args.teacher_model_name_or_path
    if name is not None:
        try:
            return load_pipeline(name, revision=args.teacher_revision)
        except OSError as error:
            raise ValueError(f"'{name}' is no diffusion pipeline, neither here nor on the Hub.") from error
    folder = Path(config.output_dir, "runs", "teacher")
    if not (folder / "model_index.json").is_file():
        own = DiffusionConfig(
            str(folder),
            prediction_type="v",
            noise_schedule="cosine",
            weighting="min_snr",
            ema_decay=config.ema_decay,
            max_steps=args.teacher_max_steps,
            learning_rate=args.teacher_learning_rate,
            lr_scheduler_type="cosine",
            per_device_train_batch_size=config.per_device_train_batch_size,
            bf16=config.bf16,
            use_cpu=config.use_cpu,
            seed=config.seed,
            save_strategy="no",
            num_sample_pictures=0,
        )
        parts = diffusion_components(DiffusionModelArguments(model_config=args.teacher_config), data, own, image_size)
        trainer = DiffusionTrainer(args=own, train_dataset=train, processing_class=data.processor(image_size), **parts)
        show_one_line(trainer, "teacher").train()
        trainer.save_model(_internal_call=True)
        trainer.accelerator.wait_for_everyone()
    return load_pipeline(str(folder))


def few_step_students(trainer: DiffusionDistillationTrainer, steps: list[int]) -> dict[int, ImageDiffusionPipeline]:
    """The trained students that draw in these numbers of steps, as far as there are any."""
    last = trainer.pipeline()
    last = UnconditionalPipeline.from_pipe(last) if isinstance(last, DDPMPipeline) else last
    if trainer.args.method == "consistency":
        return {few: last for few in steps if few <= trainer.args.teacher_steps}
    stages = list(enumerate(few for _, few in trainer.args.stages))
    found = {few: load_pipeline(str(trainer.stage_folder(stage))) for stage, few in stages[:-1] if few in steps}
    return found | ({stages[-1][1]: last} if stages[-1][1] in steps else {})


def compare_few_steps(
    trainer: DiffusionDistillationTrainer,
    teacher: DiffusionPipeline,
    judge: PictureJudge | None,
    args: FewStepArguments,
) -> tuple[list[dict], dict[str, float], Path]:
    """
    Draws with students, and with their teacher in as few steps by DPM++ and in many by its own scheduler.

    Args:
        trainer ([`DiffusionDistillationTrainer`]): After training.
        teacher (`DiffusionPipeline`): What it was given.
        judge ([`~hf_genkit.evaluation.PictureJudge`], *optional*): Scores `num_judged_pictures` of each, which begin with
            the same noise.
        args ([`~hf_genkit.arguments.few_step_arguments.FewStepArguments`]): The numbers of steps.

    Returns:
        `tuple`: Rows of a table; metrics, such as `fd_<slug>_student_4_steps`; and the file of the pictures, a row for
        each.
    """
    guidance = trainer.args.teacher_guidance_scale
    if not isinstance(teacher, ImageDiffusionPipeline):
        teacher = UnconditionalPipeline.from_pipe(teacher)
    fast = type(teacher).from_pipe(teacher, scheduler=make_sampler(teacher.scheduler, "dpm++"))
    contenders = [("teacher", teacher, args.compared_teacher_steps, guidance)]
    contenders += [("teacher, DPM++", fast, steps, guidance) for steps in sorted(args.compared_steps, reverse=True)]
    students = few_step_students(trainer, args.compared_steps)
    contenders += [
        ("student", students[steps], steps, trainer.args.guidance_scale) for steps in sorted(students, reverse=True)
    ]
    rows, metrics, shown = [], {}, []
    for name, pipeline, steps, scale in contenders:
        pipeline = copy.copy(pipeline)
        pipeline.set_progress_bar_config(disable=True)
        count = SHOWN if judge is None else trainer.args.num_judged_pictures
        options = {"prompts": trainer.prompts, "batch_size": BATCH, "guidance_scale": scale}
        start = time.perf_counter()
        drawn = draw(pipeline.to(trainer.args.device), count, num_inference_steps=steps, **options)
        row = {"Model": name, "Steps": steps, "Seconds a picture": (time.perf_counter() - start) / count}
        for key, value in ({} if judge is None else judge(drawn)).items():
            metrics[f"{key}_{name.replace(', DPM++', '_dpmpp')}_{steps}_steps"] = value
            if key.startswith("fd_"):
                row[f"FD ({judge.extractor.name})"] = value
        rows.append(row)
        shown.append(drawn[:SHOWN])
    path = Path(trainer.args.output_dir, "few_steps.png")
    labels = [f"{row['Model']}, {row['Steps']}" for row in rows]
    save_grid(torch.cat(shown), path, columns=len(shown[0]), row_labels=labels)
    return rows, metrics, path
