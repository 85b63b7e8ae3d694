"""What the trainers of generative models share: grids of pictures, metrics of pictures, and the card that shows both."""

import math
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType

import torch
from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import TrainOutput

from ..arguments import check_choice
from ..evaluation import METRIC_NAMES, PictureJudge, plot_curves, save_grid
from ..hub import CardFacts, Result
from .checkpointing import preserved_rng
from .inputs import with_float_pixels


PICTURES = -2  # the step whose noise pictures draw: the same at each evaluation
JUDGED = -3
GENERATION_BATCH = 250

CAPTIONS = {
    "samples": "Samples",
    "noising": "Noising: images of the evaluation set at eight noise levels",
    "denoising": "Denoising: eight moments of drawing a picture",
    "few_steps": "Each row from the same noise: the teacher, the teacher in a few steps of DPM++, the students",
    "super_resolution": "From above: the small image, enlarged bicubically, enlarged by the model, the original",
    "reconstructions": "Images of the evaluation set (above) and their reconstructions (below)",
    "interpolation": "From the left image to the right one through latent space",
    "curves": "The losses in training and on the evaluation set",
    "stability": "Training: losses and what tells whether they are in balance",
    "scores": "Scores of normal images and of anomalies, and the threshold",
    "false_alarms": "The normal images with the highest scores, and their reconstructions",
    "missed": "The anomalies with the lowest scores, and their reconstructions",
}


class PicturesMixin:
    """
    The pictures of a generative trainer; expects to stand before [`GenkitTrainer`] among the bases.

    A method defines [`~PicturesMixin.generate_pictures`] and [`~PicturesMixin.picture_rows`]. At each evaluation the grids go to `pictures/step-N-<name>.png` of the output
    folder, the curves beside them, and the judge's metrics into the log, where `metric_for_best_model` finds them. The
    card shows the last of each.
    """

    task = "unconditional-image-generation"
    judge: PictureJudge | None = None
    card_pictures: Mapping[str, Path] = MappingProxyType({})

    def generate_pictures(self, step: int, positions: torch.Tensor) -> torch.Tensor:
        """
        Pictures of the model as it is now.

        Args:
            step (`int`): The step to draw noise for, see [`~hf_genkit.trainers.noise.normal_noise`].
            positions (`torch.Tensor`): Which pictures: `int64` of shape `[batch]`. A number gives the same noise
                whatever else is in the batch.

        Returns:
            `torch.Tensor`: Pictures in [-1, 1] of shape `[batch, channels, height, width]`.
        """
        raise NotImplementedError

    def picture_rows(self, count: int) -> dict[str, torch.Tensor]:
        """
        The grids to draw.

        Args:
            count (`int`): About how many pictures a grid shall have.

        Returns:
            `dict[str, torch.Tensor]`: Name to pictures of shape `[rows, columns, channels, height, width]`.
        """
        raise NotImplementedError

    def draw_progress(self, folder: Path) -> dict[str, Path]:
        """
        Draws what was logged so far: the losses, where a method has nothing better.

        Args:
            folder (`Path`): Where to; it is there.

        Returns:
            `dict[str, Path]`: A key of `CAPTIONS` to the file; empty if there is too little to draw.
        """
        path = folder / "curves.png"
        plot_curves({"loss": [self.state.log_history]}, path, metric="eval_loss", x="step")
        return {"curves": path}

    def pixel_values(self, inputs) -> torch.Tensor:
        """A batch's images in [-1, 1], on the trainer's device: `float32` of shape `[batch, channels, height, width]`."""
        return with_float_pixels({"pixel_values": inputs["pixel_values"]}, self.image_processor)["pixel_values"]

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        finite = self.has_finite_weights()
        if self.judge is not None:
            scores = self.judge_pictures() if finite else {f"fd_{self.judge.extractor.slug}": float("nan")}
            output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in scores.items()})
        if self.is_in_train and finite:
            folder = Path(self.args.output_dir, "pictures")
            pictures = self.draw_pictures(folder, f"step-{self.state.global_step:06d}-")
            if pictures:
                self.draw_progress(folder)
                self.track(pictures)
        return output

    def train(self, *args, **kwargs) -> TrainOutput:
        """
        As [`GenkitTrainer.train`].

        Raises:
            `ValueError`: `metric_for_best_model` is none that the judge gives, or training has left weights that are no
                numbers; nothing is saved then.
        """
        metric = (self.args.metric_for_best_model or "").removeprefix("eval_")
        if self.judge is not None and metric.startswith(tuple(f"{short}_" for short in METRIC_NAMES)):
            check_choice("metric_for_best_model", metric, self.judge.keys)
        output = super().train(*args, **kwargs)
        if not self.has_finite_weights():
            raise ValueError(
                "Training has left weights that are not finite: lower the learning rate, or clip gradients."
            )
        return output

    def has_finite_weights(self) -> bool:
        """Whether no weight of the model is NaN or infinite: else there is nothing to see. Equal on every process."""
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())

    @torch.no_grad()
    def judge_pictures(self) -> dict[str, float]:
        """
        Generates `num_judged_pictures` pictures, shared among the processes, and judges them.

        Returns:
            `dict[str, float]`: The metrics of [`~hf_genkit.evaluation.PictureJudge.score`], on every process.
        """
        count, world = self.args.num_judged_pictures, self.args.world_size
        own = torch.arange(self.args.process_index, -(-count // world) * world, world, device=self.args.device)
        pictures = (self.generate_pictures(JUDGED, part) for part in own.split(GENERATION_BATCH))
        features = self.judge.extract(pictures).float().to(self.args.device)
        gathered = self.accelerator.gather(features).view(world, len(own), -1)
        in_order = gathered.transpose(0, 1).flatten(0, 1)[:count].cpu()
        scores = [self.judge.score(in_order) if self.is_world_process_zero() else None]
        return broadcast_object_list(scores)[0]

    @torch.no_grad()
    def draw_pictures(self, folder: str | Path, prefix: str = "") -> dict[str, Path]:
        """
        Writes the grids of [`~PicturesMixin.picture_rows`] as PNG, on the first process.

        Args:
            folder (`str` or `Path`): Where to; it is made if need be.
            prefix (`str`, *optional*): What the files' names begin with.

        Returns:
            `dict[str, Path]`: Name of the grid to its file.
        """
        files = {}
        if self.args.num_sample_pictures == 0 or not self.is_world_process_zero():
            return files
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.accelerator.unwrap_model(self.model).eval()
        for name, rows in self.picture_rows(self.args.num_sample_pictures).items():
            files[name] = Path(folder, f"{prefix}{name}.png")
            save_grid(rows.flatten(0, 1), files[name], columns=rows.shape[1])
        return files

    def create_model_card(self, **facts) -> None:
        """
        Writes `README.md` into the output folder, with the model's pictures beside it, unless a hand-written one is there.

        Args:
            facts: Fields of [`~hf_genkit.hub.CardFacts`] that override what the trainer knows.
        """
        with preserved_rng():
            self.card_pictures = self.draw_pictures(self.args.output_dir) if self.has_finite_weights() else {}
            if self.card_pictures:
                self.card_pictures |= self.draw_progress(Path(self.args.output_dir))
        super().create_model_card(**facts)

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        facts.pictures = [*facts.pictures, *((path.name, CAPTIONS[name]) for name, path in self.card_pictures.items())]
        return facts

    def some_images(self, count: int) -> torch.Tensor:
        """The first images of the evaluation set, and if it has too few of the training set, as the model reads them."""
        evaluation = self.eval_dataset or []
        evaluation = next(iter(evaluation.values())) if isinstance(evaluation, dict) else evaluation
        samples = list(islice(chain(evaluation, self.train_dataset), count))
        batch = torch.stack([torch.as_tensor(sample["pixel_values"]) for sample in samples])
        return self.pixel_values(self._prepare_inputs({"pixel_values": batch}))

    def card_results(self) -> list[Result]:
        if self.judge is None:
            return []
        scores = self.last_evaluation(f"eval_fd_{self.judge.extractor.slug}")
        return self.results_of(scores, "eval_")

    def results_of(self, metrics: dict[str, float], prefix: str) -> list[Result]:
        """The judge's scores among the metrics of an evaluation, as results for a card, beside what real data score."""
        if self.judge is None:
            return []
        extractor, floor = self.judge.extractor, self.judge.floor
        keys = {f"{short}_{extractor.slug}": f"{name} ({extractor.name})" for short, name in METRIC_NAMES.items()}
        return [
            Result(key, metrics[f"{prefix}{key}"], name=name, floor=floor.get(key))
            for key, name in keys.items()
            if math.isfinite(metrics.get(f"{prefix}{key}", math.nan))
        ]
