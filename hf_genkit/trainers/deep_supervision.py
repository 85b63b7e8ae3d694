"""A student whose last layer teaches its own early exits."""

import torch

from ..losses import label_smoothing_cross_entropy
from ..losses.features import feature_cosine
from ..models.early_exit import EarlyExitConfig


class DeepSupervisionMixin:
    """
    The loss of [`SelfDistillationTrainer`] for `self_teacher="deep_supervision"`
    ([Zhang et al., 2019](https://huggingface.co/papers/1905.08094)); expects to stand before [`DistillationTrainer`] among
    the bases.

    With the cross-entropy of the last layer are added up, for each exit i, `(1 - alpha)` times `exit_i_ce_loss`, its own
    cross-entropy; `alpha` times `exit_i_kd_loss`, its distance from the last layer's logits, which get no gradient from it;
    and `feature_hint` times `exit_i_hint_loss`, the cosine distance of its features from those of the last layer.
    """

    def check_exits(self) -> None:
        """Refuses a student without exits, and a hint between features of other widths."""
        student = self.student
        if student.config.model_type != EarlyExitConfig.model_type:
            raise ValueError(
                f"`self_teacher` is 'deep_supervision', but {type(student).__name__} has no early exits: make the model with "
                "EarlyExitForImageClassification.from_base(model, exits=[...]), or the same of SequenceClassification."
            )
        if self.args.feature_hint > 0 and len(set(student.widths)) > 1:
            raise ValueError(
                f"`feature_hint` is {self.args.feature_hint}, but the layers of the exits and the last one have "
                f"{', '.join(map(str, student.widths))} channels, and it takes equal widths: set it to 0."
            )

    def exit_weights(self, evaluating: bool) -> dict[str, float]:
        """The weight of each term: in training of those that count, in evaluation of all."""
        weights = {"ce_loss": 1.0}
        for i in range(len(self.student.config.exits)):
            weights[f"exit_{i}_kd_loss"] = self.args.alpha
            weights[f"exit_{i}_ce_loss"] = 1 - self.args.alpha
            weights[f"exit_{i}_hint_loss"] = self.args.feature_hint
        return {
            name: weight
            for name, weight in weights.items()
            if weight > 0 or (evaluating and not name.endswith("hint_loss"))
        }

    def exit_loss(self, model, inputs, return_outputs, num_items_in_batch):
        """What `compute_loss` returns."""
        batch = self.take_apart(inputs)
        labels = batch.items.labels
        outputs = model(**batch.own)
        weights = self.exit_weights(evaluating=not model.training)
        values = self.exit_values(outputs, labels, weights)
        counts = num_items_in_batch or {name: count.clamp(1) for name, count in self.count_items(inputs).items()}
        terms = {name: value.sum() / counts[_samples_of(name)] for name, value in values.items()}
        if not terms:
            raise ValueError("`alpha` is 0 and the data have no labels, so there is nothing to learn from.")
        if model.training:
            self.record(terms)
        else:
            self._record_exits(outputs, labels, values)
        loss = sum(weights[name] * term for name, term in terms.items())
        return (loss, outputs) if return_outputs else loss

    def exit_values(self, outputs, labels: torch.Tensor | None, weights: dict[str, float]) -> dict[str, torch.Tensor]:
        """The value of each term for each sample, `[batch]`."""
        smoothing = self.args.label_smoothing_factor if self.model.training else 0.0
        *features, last = outputs.exit_features
        taught = outputs.logits.detach()
        unlabelled = torch.full(taught.shape[:1], -100, device=taught.device)

        def hard(logits):
            return label_smoothing_cross_entropy(logits, labels, smoothing)

        values = {}
        if labels is not None:
            values["ce_loss"] = hard(outputs.logits)
        for i, (logits, feature) in enumerate(zip(outputs.exit_logits, features, strict=True)):
            if f"exit_{i}_kd_loss" in weights:
                given = unlabelled if labels is None else labels
                values[f"exit_{i}_kd_loss"] = self.args.soft_loss(logits, taught, labels=given)
            if f"exit_{i}_ce_loss" in weights and labels is not None:
                values[f"exit_{i}_ce_loss"] = hard(logits)
            if f"exit_{i}_hint_loss" in weights:
                values[f"exit_{i}_hint_loss"] = feature_cosine(feature[:, None], last.detach()[:, None])
        return values

    def _record_exits(self, outputs, labels: torch.Tensor | None, values: dict[str, torch.Tensor]) -> None:
        samples = torch.ones(len(outputs.logits), device=outputs.logits.device)
        counts = {"samples": samples, "ce_loss": samples if labels is None else (labels != -100).float()}
        sums = {name: (value, counts[_samples_of(name)]) for name, value in values.items()}
        logits = {"": outputs.logits} | {f"exit_{i}_": each for i, each in enumerate(outputs.exit_logits)}
        for name, each in logits.items() if labels is not None else ():
            sums[f"{name}accuracy"] = (each.argmax(-1) == labels).float(), counts["ce_loss"]
        self.record_evaluation(sums)


def _samples_of(term: str) -> str:
    """What a term is a mean over: the samples with a label, or all."""
    return "ce_loss" if term.endswith("ce_loss") else "samples"
