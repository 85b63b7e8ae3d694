"""Online distillation: peers that teach each other while they train, and of which the best is exported."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..hub import CardFacts, Result, hub_id, write_model_card
from ..losses import cross_entropy, ctc_loss, label_smoothing_cross_entropy
from . import checkpointing
from .base import GenkitTrainer
from .ensemble import ensemble_logits, teacher_shares
from .inputs import argument_names, student_inputs, with_float_pixels
from .items import Items, items_of, lined_up
from .metrics import add_perplexity, check_best_metric
from .mutual_config import MutualDistillationConfig
from .peers import Peers, common_task, label_orders
from .tasks import CLASSIFICATION, CTC, DISTILLED, LANGUAGE, SEQ2SEQ, TEXT_TO_TEXT, decoder_inputs


PAPER = "https://arxiv.org/abs/1706.00384"
WEIGHTS = "training_weights"
CHECKPOINT_IN_THE_MAKING = "tmp-checkpoint-"
METRICS = {"perplexity": "Perplexity", "accuracy": "Accuracy", "ce_loss": "Loss per label"}


class MutualDistillationTrainer(GenkitTrainer):
    r"""
    Trains two or more peers that teach each other: deep mutual learning,
    [Zhang et al. (2018)](https://arxiv.org/abs/1706.00384).

    The loss is the sum over the peers of `alpha * soft + (1 - alpha) * hard`. The hard term is the cross-entropy with the
    labels, the soft one the mean over the other peers of the loss against what they predict at the same step, which gets
    no gradient. All peers are updated at once, and `max_grad_norm` holds for each. Each term is a mean over its items
    (samples, tokens or frames; which ones is told in [`DistillationTrainer`]) of the whole optimizer step, so gradients
    don't depend on gradient accumulation or the number of processes.

    Peers may be of any architectures with one task, one processor or tokenizer, and one label set or vocabulary. Each
    reads those of a batch's inputs that its `forward` has arguments for. Classes are matched by name: the data's labels
    are those of the first peer.

    The log has `peer_0_kd_loss`, `peer_0_ce_loss`, `peer_1_kd_loss`, ...; evaluation has the same with `eval_` in front,
    `eval_peer_0_accuracy`, ..., `eval_accuracy` of the best peer, and `eval_ensemble_accuracy` of the mean of all
    peers' probabilities; for language all of these as `perplexity`, too. Of frames (CTC) it has the losses alone.
    `predict` and `compute_metrics` see one array of logits for each peer.

    What is saved in `output_dir` is the best peer (by accuracy, for language and frames by its cross-entropy with the
    labels, of the last evaluation; the first peer without any evaluation; on the first evaluation set if there are
    several), and every peer as a model of its own in `peer_0/`, `peer_1/`, ... Each of them has a card after
    [`~HubMixin.create_model_card`]. A push takes the best one; another goes to the Hub with
    `hf_genkit.hub.push_folder(f"{output_dir}/peer_1", "me/my-model")`. A checkpoint holds the best peer, and all peers in
    one file from which training goes on.

    Args:
        models (`Sequence[PreTrainedModel]`, *optional*):
            The peers, two at least. A hyperparameter search takes `model_init` instead, which returns a
            [`~hf_genkit.trainers.peers.Peers`].
        args ([`MutualDistillationConfig`], *optional*): The arguments.
        processing_class (*optional*): The peers' image processor, tokenizer or processor.
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: There are fewer than two peers, two are the same object, their tasks, label sets or vocabularies
            differ, or they are to be sharded.

    Example:

    ```python
    >>> trainer = MutualDistillationTrainer(
    ...     models=[vit, convnext],
    ...     args=MutualDistillationConfig("peers", alpha=0.5),
    ...     train_dataset=train,
    ...     eval_dataset=validation,
    ...     processing_class=processor,
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names = ("hf_genkit", "distillation", "mutual-learning")

    def __init__(
        self,
        models: Sequence[PreTrainedModel] | None = None,
        args: MutualDistillationConfig | None = None,
        **kwargs,
    ):
        args = args or MutualDistillationConfig("mutual_output")
        if not isinstance(args, MutualDistillationConfig):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a MutualDistillationConfig.")
        super().__init__(None if models is None else Peers(models), args, **kwargs)
        if self._has_sharded_state:
            raise ValueError(
                "Peers can't be sharded by FSDP or DeepSpeed: start one process for each GPU without them."
            )
        self.task = common_task(self.peers)
        self.auto_class = DISTILLED[self.task].__name__
        self.orders = label_orders(self.task, self.peers)
        self.argument_names = [argument_names(peer.forward) for peer in self.peers]
        self.starts_from = [peer.config._name_or_path for peer in self.peers]

    @property
    def peers(self) -> list[PreTrainedModel]:
        """The models, in the order in which they were given."""
        return list(self.accelerator.unwrap_model(self.model).peers)

    @property
    def best_peer(self) -> int:
        """The number of the peer that the evaluation of the weights found best; 0 if there was none."""
        return self._best_of(*self._last_evaluation()) or 0

    @property
    def _metrics(self) -> tuple[str, ...]:
        """What is reported of each peer; by the first of these the best one is found."""
        if self.task in CLASSIFICATION:
            return ("accuracy",)
        return ("ce_loss",) if self.task == CTC else ("perplexity", "accuracy")

    def _last_evaluation(self) -> tuple[dict[str, float], str]:
        """The logged evaluation that belongs to the weights, empty without one, and the prefix of its metrics."""
        prefix = f"eval_{next(iter(self.eval_dataset))}" if isinstance(self.eval_dataset, dict) else "eval"
        return self.last_evaluation(f"{prefix}_peer_0_{self._metrics[0]}"), prefix

    def _best_of(self, metrics: Mapping[str, float], prefix: str) -> int | None:
        """The number of the best peer in an evaluation, `None` if that had no labels."""
        name = self._metrics[0]
        scores = [metrics.get(f"{prefix}_peer_{number}_{name}") for number in range(len(self.peers))]
        if None in scores:
            return None
        return scores.index(max(scores) if name == "accuracy" else min(scores))

    def _set_signature_columns_if_needed(self):
        if self._signature_columns is None:
            self._signature_columns = [*sorted(set().union(*self.argument_names)), "labels"]

    # ---- The loss ----

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return items_of(self.task, inputs, self.peers[0]).counts

    def take_apart(self, inputs: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """A micro-batch as each of the peers reads it."""
        own = []
        for peer, names in zip(self.peers, self.argument_names, strict=True):
            read = with_float_pixels(student_inputs(inputs, names), self.image_processor)
            if self.task in SEQ2SEQ:
                read["decoder_input_ids"] = decoder_inputs(peer.config, inputs["labels"])
            own.append(read)
        return own

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        items = items_of(self.task, inputs, self.peers[0])
        counts = num_items_in_batch or {name: count.clamp(1) for name, count in items.counts.items()}
        outputs = model(self.take_apart(inputs))
        logits = [
            output.logits if order is None else output.logits[..., order.to(output.logits.device)]
            for output, order in zip(outputs, self.orders, strict=True)
        ]
        rows = [lined_up(self.task, each)[items.soft] for each in logits]
        weights = {"kd_loss": self.args.alpha, "ce_loss": 1 - self.args.alpha}
        if model.training:
            weights = {name: weight for name, weight in weights.items() if weight > 0}
        values = {}
        for number, own in enumerate(rows):
            if "kd_loss" in weights:
                others = [other.detach() for other in rows if other is not own]
                values[number, "kd_loss"] = self._soft_values(own, others, items.item_labels)
            if "ce_loss" in weights and items.hard is not None:
                values[number, "ce_loss"] = self._hard_values(logits[number], own, items, model.training)
        if not values:
            raise ValueError("`alpha` is 0 and the training data have no labels, so there is nothing to learn from.")
        terms = {(number, name): value.sum() / counts[name] for (number, name), value in values.items()}
        if model.training:
            self.record({f"peer_{number}_{name}": term for (number, name), term in terms.items()})
        else:
            self._record_predictions(items, rows, values)
        loss = sum(weights[name] * term for (_, name), term in terms.items())
        return (loss, {f"peer_{number}": each for number, each in enumerate(logits)}) if return_outputs else loss

    def _soft_values(self, own: torch.Tensor, others: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        return sum(self.args.soft_loss(own, other, labels=labels) for other in others) / len(others)

    def _hard_values(self, logits: torch.Tensor, rows: torch.Tensor, items: Items, training: bool) -> torch.Tensor:
        """The hard term: `[items]`, or `[batch]` for frames."""
        if self.task == CTC:
            return ctc_loss(logits, items.labels, items.soft.sum(-1), self.peers[0].config.pad_token_id)
        smoothing = self.args.label_smoothing_factor if training else 0.0
        return label_smoothing_cross_entropy(rows, items.item_labels, smoothing)

    def _clip_grad_norm(self, model):
        norm = self.accelerator.clip_grad_norm_(model.parameters(), float("inf"))
        for peer in self.peers:
            torch.nn.utils.clip_grad_norm_(peer.parameters(), self.args.max_grad_norm)
        return norm

    def check_before_training(self) -> None:
        super().check_before_training()
        each = ("kd_loss", "ce_loss", *self._metrics)
        known = [f"peer_{number}_{name}" for number in range(len(self.peers)) for name in each]
        check_best_metric(self, ["loss", *self._metrics, *(f"ensemble_{name}" for name in self._metrics), *known])

    # ---- Evaluation ----

    def _record_predictions(self, items: Items, rows: list[torch.Tensor], values: dict) -> None:
        labels, of_frames = items.item_labels, self.task == CTC
        soft = items.soft.reshape(len(items.soft), -1).sum(1)
        hard = items.hard if of_frames else items.per_sample((labels != -100).float())
        sums = {}
        for (number, name), value in values.items():
            of_samples = of_frames and name == "ce_loss"
            sums[f"peer_{number}_{name}"] = (
                value if of_samples else items.per_sample(value),
                soft if name == "kd_loss" else hard,
            )
        if items.hard is not None and not of_frames:
            together = ensemble_logits(teacher_shares(None, rows, labels), rows)
            sums["ensemble_ce_loss"] = items.per_sample(cross_entropy(together, labels)), hard
            for name, answers in [
                *((f"peer_{number}", own) for number, own in enumerate(rows)),
                ("ensemble", together),
            ]:
                right = answers.argmax(dim=-1) == labels
                sums[f"{name}_accuracy"] = items.per_sample(right.float()), hard
        self.record_evaluation(sums)

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        weights = {"kd_loss": self.args.alpha, "ce_loss": 1 - self.args.alpha}
        names = [
            (f"peer_{number}_{name}", weight) for number in range(len(self.peers)) for name, weight in weights.items()
        ]
        return sum(weight * means[name] for name, weight in names if name in means)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        metrics, prefix = output.metrics, metric_key_prefix
        if self.task in (*LANGUAGE, TEXT_TO_TEXT):
            whose = (*(f"peer_{number}" for number in range(len(self.peers))), "ensemble")
            add_perplexity(metrics, [f"{prefix}_{who}_ce_loss" for who in whose])
        best = self._best_of(metrics, prefix)
        if best is not None:
            metrics |= {f"{prefix}_{name}": metrics[f"{prefix}_peer_{best}_{name}"] for name in self._metrics}
        return output

    # ---- Checkpoints ----

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        self._save_peer(self.best_peer, folder)
        if folder.name.startswith(CHECKPOINT_IN_THE_MAKING):
            checkpointing.save_state(folder, WEIGHTS, self.model.state_dict())
            return
        for number in range(len(self.peers)):
            self._save_peer(number, folder / f"peer_{number}")

    def _save_peer(self, number: int, folder: Path) -> None:
        self.peers[number].save_pretrained(folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def load_weights(self, checkpoint: str) -> None:
        self.model.load_state_dict(checkpointing.load_state(checkpoint, WEIGHTS))

    # ---- The cards ----

    def create_model_card(self, **facts) -> None:
        """
        Writes `README.md` of the best peer, and of each peer in its folder, unless a hand-written one is there.

        Args:
            facts: Fields of [`~hf_genkit.hub.CardFacts`] that override what the trainer knows, of the best peer.
        """
        super().create_model_card(**facts)
        for number in range(len(self.peers)):
            folder = Path(self.args.output_dir, f"peer_{number}")
            if self.is_world_process_zero() and folder.is_dir():
                write_model_card(folder, self._facts_of_peer(number))

    def card_facts(self) -> CardFacts:
        return replace(super().card_facts(), **{**self._own_facts(self.best_peer), **self._described})

    def _facts_of_peer(self, number: int) -> CardFacts:
        facts = super().card_facts()
        name = f"{facts.model_name}, peer {number}"
        return replace(facts, **self._own_facts(number), model_name=name, repo_id=None, revision=None)

    def _own_facts(self, number: int) -> dict:
        """What sets the cards of the peers apart."""
        peers, peer = self.peers, self.peers[number]
        titles = [
            f"peer {i} ({type(one).__name__}, {one.num_parameters():,} parameters)" for i, one in enumerate(peers)
        ]
        measured = {i: self._results(f"peer_{i}") for i in range(len(peers))}
        rows = {titles[i]: results for i, results in measured.items()} | {
            "all peers together": self._results("ensemble")
        }
        return {
            "parameters": peer.num_parameters(),
            "base_model": hub_id(self.starts_from[number] or None),
            "labels": list(peer.config.id2label.values()) if self.task in CLASSIFICATION else [],
            "custom_code": bool(getattr(peer.config, "auto_map", None)),
            "results": measured[number],
            "comparison": [
                {"Model": title, **{result.name: result.value for result in results}}
                for title, results in rows.items()
                if results
            ],
            "method": f"{self.method_sentence} The peers are {', '.join(titles)}; this is peer {number}.",
        }

    def _results(self, who: str) -> list[Result]:
        logged, prefix = self._last_evaluation()
        found = {name: logged.get(f"{prefix}_{who}_{name}") for name in self._metrics}
        return [Result(name, value, name=METRICS[name]) for name, value in found.items() if value is not None]

    @property
    def method_sentence(self) -> str:
        """How the peers are trained, in one sentence."""
        args, count = self.args, len(self.peers)
        if args.alpha == 0:
            return f"{count} peers were trained side by side, each on the labels alone."
        hard = f", plus {1 - args.alpha:g} times the cross-entropy with the labels" if args.alpha < 1 else ""
        return (
            f"{count} peers taught each other while they were trained ([deep mutual learning]({PAPER})): the loss of each "
            f"was {args.alpha:g} times the '{args.loss_type}' distillation loss at temperature {args.temperature:g} against "
            f"what each of the others predicted{hard}."
        )
