"""What a person can set of a diffusion model, and drawing with it."""

from dataclasses import dataclass, field
from typing import Any

from diffusers import DiffusionPipeline

from ..pipelines import (
    SAMPLERS,
    ClassConditionalPipeline,
    InpaintingPipeline,
    SuperResolutionPipeline,
    TextToImagePipeline,
    UnconditionalPipeline,
    make_sampler,
    scheduler_kind,
)
from ..pipelines.pipeline_image_diffusion import REPEATABLE
from .gan import class_box, labels_for
from .page import check_seed, import_gradio, offer_examples, seed_box


OWN = "its own"
TIMES_STEPS, LEAST_STEPS = 5, 10
"""Up to how many times its usual steps a model can be given, and how many at least can be chosen."""


@dataclass
class Settings:
    """
    The settings that all tabs of a diffusion model share: which boxes they have, and what their values mean.

    Args:
        pipeline ([`~hf_genkit.pipelines.ImageDiffusionPipeline`]): The model.
        prompts (`list[str]`, *optional*): Prompts to choose from, where the model reads any; the first is there at once.
        captions (`str`, *optional*): What the captions in training were like, such as `"the digit {label}"`.
        boxes (`list`, *optional*): Gradio's components, in the order of the values.
    """

    pipeline: DiffusionPipeline
    prompts: list[str] = field(default_factory=list)
    captions: str | None = None
    boxes: list = field(default_factory=list)

    def __post_init__(self):
        pipeline = self.pipeline
        enlarges = isinstance(pipeline, SuperResolutionPipeline)
        self.reads_text = pipeline.text_encoder is not None and not enlarges
        self.names: dict[int, str] = {}
        if pipeline.num_classes and not self.reads_text and not enlarges:
            known = pipeline.config.id2label or {}
            self.names = {index: known.get(index, str(index)) for index in range(pipeline.num_classes)}

    @property
    def drawing_pipeline(self) -> type:
        """The pipeline that draws with all that the model can be told."""
        if self.reads_text:
            return TextToImagePipeline
        return ClassConditionalPipeline if self.names else UnconditionalPipeline

    def add(self) -> None:
        """Adds the boxes to the page."""
        gradio, usual = import_gradio(), self.pipeline.usual
        if self.reads_text:
            info = f"Its captions in training: {self.captions}" if self.captions else None
            prompt = gradio.Textbox((self.prompts or [""])[0], label="Prompt", lines=2, info=info)
            offer_examples(self.prompts, prompt)
            self.boxes.append(prompt)
        with gradio.Row():
            if self.names:
                self.boxes.append(class_box(self.names))
            self.boxes.append(seed_box())
        steps = usual["num_inference_steps"]
        most = min(max(TIMES_STEPS * steps, LEAST_STEPS), self.pipeline.scheduler.config.num_train_timesteps)
        self.boxes.append(gradio.Slider(1, most, min(steps, most), step=1, label="Steps"))
        own = f"{OWN} ({type(self.pipeline.scheduler).__name__.removesuffix('Scheduler')})"
        choices = [(own, OWN), *((name, name) for name in SAMPLERS[scheduler_kind(self.pipeline.scheduler)])]
        self.boxes.append(gradio.Dropdown(choices, value=OWN, label="Scheduler"))
        if self.reads_text or self.names:
            scale = usual["guidance_scale"]
            what = "prompt" if self.reads_text else "class"
            info = f"How closely to follow the {what}; 1 takes half the time."
            self.boxes.append(gradio.Slider(0, max(10, scale), scale, step=0.1, label="Guidance", info=info))

    def read(self, values: tuple) -> dict[str, Any]:
        """The values of the boxes by what they are."""
        keys = ["prompt"] * self.reads_text + ["chosen"] * bool(self.names) + ["seed", "steps", "scheduler"]
        keys += ["guidance"] * bool(self.reads_text or self.names)
        read = dict(zip(keys, values, strict=True))
        check_seed(read["seed"])
        if self.reads_text and not read["prompt"].strip():
            raise ValueError("The prompt is empty: say what is to be drawn.")
        return read

    def run(self, pipeline_class: type, read: dict, count: int, *images, progress, on_state=None, **more):
        """
        Draws pictures.

        Args:
            pipeline_class (`type`): Which pipeline does it.
            read (`dict`): From [`~Settings.read`]; a class of `None` is any.
            count (`int`): How many.
            images: What the pipeline starts from, if anything.
            progress (`gradio.Progress`): Told at each step.
            on_state (`Callable`, *optional*): Called with the state of the first picture after each step.
            more: More arguments of the call.

        Returns:
            `torch.Tensor` of shape `[count, C, H, W]`: In [-1, 1].
        """
        scheduler = self.pipeline.scheduler
        if read["scheduler"] != OWN:
            scheduler = make_sampler(scheduler, read["scheduler"])
        if pipeline_class is InpaintingPipeline and not isinstance(scheduler, REPEATABLE):
            raise ValueError(
                f"Repainting takes steps twice, which {type(scheduler).__name__} can't: choose the scheduler ddim or euler."
            )
        pipeline = pipeline_class.from_pipe(self.pipeline, scheduler=scheduler)
        pipeline.set_progress_bar_config(disable=True)
        furthest = 0

        def tell(running, index, time, values):
            nonlocal furthest
            furthest = max(furthest, index + 1)  # repainting goes back now and then
            progress((furthest, len(running.scheduler.timesteps)), unit="steps")
            if on_state is not None:
                on_state(values["latents"][:1].float().cpu())

        options = {"seed": read["seed"], "num_inference_steps": read["steps"], "callback_on_step_end": tell}
        if "guidance" in read:
            options["guidance_scale"] = read["guidance"]
        if self.reads_text:
            options["prompt"] = [read["prompt"]] * count
        elif self.names and read["chosen"] is not None:
            options["class_labels"] = labels_for(read["chosen"], count, len(self.names))
        elif pipeline_class is UnconditionalPipeline:
            options["num_images"] = count
        return pipeline(*images, **options, **more, output_type="pt").images.float().cpu() * 2 - 1
