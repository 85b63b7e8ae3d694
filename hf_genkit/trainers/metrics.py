"""What evaluations of a model give, and which of it a run may choose its best checkpoint by."""

import math
from collections.abc import Iterable, MutableMapping

from transformers import Trainer

from ..arguments import check_choice


def add_perplexity(metrics: MutableMapping[str, float], losses: Iterable[str]) -> None:
    """
    Adds the perplexity that belongs to each mean loss in nats a token.

    Args:
        metrics (`MutableMapping[str, float]`): An evaluation's metrics, which are changed.
        losses (`Iterable[str]`): Names that end in `loss`, such as "eval_ce_loss"; those that aren't there are passed over.
    """
    for name in losses:
        if name in metrics:
            metrics[f"{name.removesuffix('ce_loss').removesuffix('loss')}perplexity"] = math.exp(
                min(metrics[name], 700)
            )


def check_best_metric(trainer: Trainer, known: Iterable[str]) -> None:
    """
    Refuses a `metric_for_best_model` that no evaluation will give, before anything is trained.

    Args:
        trainer (`Trainer`): The trainer; with `compute_metrics`, or several evaluation sets, anything may be.
        known (`Iterable[str]`): The metrics that its evaluations give, without `eval_`.

    Raises:
        `ValueError`: The metric is none of these.
    """
    metric = trainer.args.metric_for_best_model
    if metric is not None and trainer.compute_metrics is None and not isinstance(trainer.eval_dataset, dict):
        check_choice("metric_for_best_model", metric.removeprefix("eval_"), list(known))
