"""Arguments that the trainers of generative models share."""

from dataclasses import dataclass, field

from ..arguments import check_range
from .base_config import GenkitConfig


LOWER_IS_BETTER = ("fd_", "kid_")


@dataclass
class GenerativeConfig(GenkitConfig):
    """
    [`GenkitConfig`] for models that make pictures.

    `metric_for_best_model` may be a metric of the pictures, such as "fd_dinov2_s"; for distances (fd_..., kid_...)
    `greater_is_better` is then `False` unless it is set.

    Args:
        num_sample_pictures (`int`, *optional*, defaults to 36): Pictures in each sample grid; 0 draws none.
        num_judged_pictures (`int`, *optional*, defaults to 1000):
            Pictures that are generated for the metrics of each evaluation, where the trainer has a judge.

    Raises:
        `ValueError`: A value lies outside its range; the message names both.
    """

    num_sample_pictures: int = field(
        default=36, metadata={"help": "Pictures in each grid that is drawn at evaluations and in the end; 0 for none."}
    )
    num_judged_pictures: int = field(
        default=1000, metadata={"help": "Pictures to generate for the metrics of each evaluation."}
    )

    def __post_init__(self):
        check_range(self, "num_sample_pictures", 0)
        check_range(self, "num_judged_pictures", 8)
        metric = (self.metric_for_best_model or "").removeprefix("eval_")
        if self.greater_is_better is None and metric.startswith(LOWER_IS_BETTER):
            self.greater_is_better = False
        super().__post_init__()
