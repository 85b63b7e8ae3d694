"""Pre-training and fine-tuning of transformers' models: classes, tokens, language and speech; with an adapter or whole."""

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel
from xxhash import xxh64

from ..hub import CardFacts, Result, hub_id
from ..losses import label_smoothing_cross_entropy
from .adapter_saving import AdapterMixin
from .adapters import bare
from .base import GenkitTrainer
from .finetuning_config import FineTuningConfig
from .inputs import argument_names, student_inputs, with_float_pixels
from .layers import layer_learning_rates
from .metrics import add_perplexity, check_best_metric
from .tasks import AUTO_CLASSES, LANGUAGE, SPEECH, decoder_inputs, line_up, shifts_labels, task_of


class FineTuningTrainer(AdapterMixin, GenkitTrainer):
    """
    Trains a model on labels by cross-entropy, its mean taken over all labels of the optimizer step that are not -100.

    Gradients don't depend on gradient accumulation or on the number of processes, which stock `Trainer` gets wrong for
    many heads. Labels are not shifted in the data: for a causal language model the trainer does it.

    Evaluation gives `eval_loss` and `eval_accuracy` (of tokens, where there are tokens), and for language models
    `eval_perplexity`.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            A model for image, sequence or token classification, causal or masked language modeling, or speech recognition
            (sequence to sequence); with an adapter of peft it is the adapter that is trained and saved.
        args ([`FineTuningConfig`], *optional*): The arguments.
        processing_class (*optional*): The model's tokenizer or processor.
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: The model has no head for one of these tasks, or everything in it is frozen.

    Example:

    ```python
    >>> model = add_lora(AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M"), rank=8)
    >>> trainer = FineTuningTrainer(model, FineTuningConfig("adapter"), train_dataset=train, eval_dataset=validation)
    >>> trainer.train()
    ```
    """

    _tag_names = ("hf_genkit", "fine-tuning")

    def __init__(self, model: PreTrainedModel | None = None, args: FineTuningConfig | None = None, **kwargs):
        args = args or FineTuningConfig("finetuning_output")
        if not isinstance(args, FineTuningConfig):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a FineTuningConfig.")
        super().__init__(model, args, **kwargs)
        network = self.network
        self.task = task_of(network)
        self.auto_class = AUTO_CLASSES[self.task].__name__
        self.input_names = argument_names(network.forward)
        self.starts_from = network.config._name_or_path
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise ValueError("Every parameter of the model is frozen, so there is nothing to train.")

    @property
    def network(self) -> PreTrainedModel:
        """The model itself, taken out of wrappers and of an adapter."""
        return bare(self.accelerator.unwrap_model(self.model))

    def _set_signature_columns_if_needed(self):
        if self._signature_columns is None:
            self._signature_columns = [*sorted(self.input_names), "labels"]

    # ---- The loss ----

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        labels = inputs["labels"][:, 1:] if shifts_labels(self.task) else inputs["labels"]
        return {"loss": (labels != -100).sum()}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        own_inputs = with_float_pixels(student_inputs(inputs, self.input_names), self.image_processor)
        if self.task == SPEECH:
            own_inputs["decoder_input_ids"] = decoder_inputs(self.network.config, labels)
        outputs = model(**own_inputs)
        logits, labels = line_up(self.task, outputs.logits, labels)
        counted = labels != -100
        smoothing = self.args.label_smoothing_factor if model.training else 0.0
        values = label_smoothing_cross_entropy(logits[counted], labels[counted], smoothing)
        count = num_items_in_batch["loss"] if num_items_in_batch else counted.sum().clamp(1)
        loss = values.sum() / count
        if not model.training:
            self._record(logits, labels, counted, values)
        return (loss, outputs) if return_outputs else loss

    def _record(self, logits, labels, counted, values) -> None:
        losses = torch.zeros(labels.shape, device=values.device).masked_scatter(counted, values.float())
        right = (logits.argmax(dim=-1) == labels) & counted
        items = counted.reshape(len(labels), -1).sum(1)
        sums = {"ce_loss": losses, "accuracy": right}
        self.record_evaluation(
            {name: (value.reshape(len(labels), -1).float().sum(1), items) for name, value in sums.items()}
        )

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        return means.pop("ce_loss", None)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.task in LANGUAGE:
            add_perplexity(output.metrics, [f"{metric_key_prefix}_loss"])
        return output

    # ---- The optimizer ----

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is not None or self.args.layer_lr_decay == 1:
            return super().create_optimizer(model)
        model = self.model if model is None else model
        groups = layer_learning_rates(
            model, self.args.learning_rate, decay=self.args.layer_lr_decay, weight_decay=self.args.weight_decay
        )
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    # ---- Checkpoints and the card ----

    def run_identity(self) -> dict:
        identity = super().run_identity()
        model = self.accelerator.unwrap_model(self.model)
        frozen = sorted(name for name, parameter in model.named_parameters() if not parameter.requires_grad)
        identity["frozen"] = {"parameters": len(frozen), "names": xxh64("\n".join(frozen).encode()).hexdigest()}
        return identity

    def check_before_training(self) -> None:
        check_best_metric(self, ["loss", "accuracy", *(["perplexity"] if self.task in LANGUAGE else [])])

    def card_results(self) -> list[Result]:
        names = {"eval_accuracy": ("accuracy", "Accuracy")}
        if self.task in LANGUAGE:
            names = {"eval_perplexity": ("perplexity", "Perplexity"), "eval_accuracy": ("accuracy", "Token accuracy")}
        logged = self.last_evaluation(next(iter(names)))
        return [Result(metric, logged[key], name=name) for key, (metric, name) in names.items() if key in logged]

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        if self.task not in LANGUAGE:
            facts.labels = facts.labels or list(self.network.config.id2label.values())
        facts.base_model = facts.base_model or hub_id(self.starts_from or None)
        if facts.base_model is not None:
            facts.base_model_relation = facts.base_model_relation or "finetune"
        if self.is_adapter:
            model = self.accelerator.unwrap_model(self.model)
            trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
            facts.method = facts.method or _adapter_sentence(model.peft_config[model.active_adapter], trainable)
        return facts


def _adapter_sentence(config, trainable: int) -> str:
    kind = "DoRA" if config.use_dora else "LoRA"
    return (
        f"An adapter ({kind}, rank {config.r}, alpha {config.lora_alpha:g}) of {trainable:,} parameters was trained on "
        f"{', '.join(sorted(config.target_modules))}; the base stayed as it is."
    )
