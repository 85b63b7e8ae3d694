"""Distillation against a discriminator that learns to tell the student from its teacher."""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..losses import mean_over_positions
from ..losses.classification import IGNORE_INDEX, log_probs, upcast
from ..losses.gan import GAN_LOSSES
from .adapters import bare
from .adversarial_distillation_config import AdversarialDistillationConfig
from .checkpointing import preserved_rng
from .distillation_trainer import DistillationTrainer, StudentBatch
from .ensemble import ensemble_logits, teacher_shares
from .items import PER_TOKEN, Items, lined_up
from .tasks import CTC


class Discriminator(nn.Module):
    """
    Scores items, high for "the teacher's", with two hidden layers.

    Args:
        width (`int`): How many numbers an item is; what is beyond, such as padding of a vocabulary, is left out.
        hidden_size (`int`): The width of the hidden layers.
        num_labels (`int`, *optional*, defaults to 0): How many labels there are, if it sees them.
        temperature (`float`, *optional*):
            Of logits, which it reads as log-probabilities; features, which it standardises, have none.
    """

    def __init__(self, width: int, hidden_size: int, num_labels: int = 0, temperature: float | None = None):
        super().__init__()
        self.width, self.num_labels, self.temperature = width, num_labels, temperature
        self.first = nn.Linear(width, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.last = nn.Linear(hidden_size, 1)
        self.label = nn.Embedding(num_labels + 1, hidden_size) if num_labels else None

    def forward(self, items: Tensor, labels: Tensor) -> Tensor:
        """Scores `[items]` of items `[items, width]` with labels `[items]`, -100 where there is none."""
        items = upcast(items)[..., : self.width]
        if self.temperature is None:
            items = F.layer_norm(items, (self.width,))
        else:
            items = log_probs(items, self.temperature)
        hidden = self.first(items)
        if self.label is not None:
            hidden = hidden + self.label(labels.where(labels != IGNORE_INDEX, self.num_labels))
        hidden = self.second(F.leaky_relu(hidden, 0.2))
        return self.last(F.leaky_relu(hidden, 0.2)).squeeze(-1)


class AdversarialDistillationTrainer(DistillationTrainer):
    r"""
    Trains a student on `alpha * soft + (1 - alpha) * hard + adversarial_weight * adversarial`: the last term is small
    where a discriminator, which is trained to tell the student's items from the teacher's, takes the one for the other.
    After [Xu et al. (2018)](https://arxiv.org/abs/1709.00513); the discriminator sees logits or hidden states, and the
    item's label if asked to. Items are samples, tokens or frames, as in [`DistillationTrainer`].

    Each optimizer step is one phase, each on a fresh batch: of `n_critic + 1` steps the first `n_critic` train the
    discriminator, and the last one trains the student; `max_steps` and epochs count both. The other network gets no
    gradient, so that checkpoints, schedulers, resuming, accumulation and clipping are those of any other run. The
    discriminator is resumed with the student and never exported.

    The log has `loss` (the student's), `kd_loss`, `ce_loss`, `adversarial_loss`, `discriminator_loss` (the mean of its two
    terms: ln 2 where the standard loss is in balance) and `discriminator_accuracy` (0.5 where it can't tell the two apart).

    Args:
        model (`PreTrainedModel`): The student.
        teacher_model (`str`, `PreTrainedModel`, `Callable` or a list of these):
            As for [`DistillationTrainer`]. Of several teachers the discriminator sees the mixture of their
            probabilities, or the hidden states of the first.
        args ([`AdversarialDistillationConfig`], *optional*): The arguments.
        kwargs: Passed to [`DistillationTrainer`].

    Raises:
        `ValueError`: There is no teacher, it has no hidden states for a discriminator on features, or one process drives
            several GPUs.

    Example:

    ```python
    >>> trainer = AdversarialDistillationTrainer(
    ...     model=student,
    ...     teacher_model="me/my-teacher",
    ...     args=AdversarialDistillationConfig("student", adversarial_weight=0.1, max_steps=2000),
    ...     train_dataset=train,
    ...     processing_class=processor,
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names = ("hf_genkit", "distillation", "adversarial-distillation")
    config_class = AdversarialDistillationConfig

    def check_teachers(
        self, model: PreTrainedModel | None, teachers: list, args: AdversarialDistillationConfig
    ) -> None:
        super().check_teachers(model, teachers, args)
        if not teachers:
            raise ValueError("There is no `teacher_model`, but a discriminator learns to tell the student from one.")
        if args.discriminator_on == "features":
            for teacher in teachers[:1]:
                if not isinstance(teacher, str) and not isinstance(bare(teacher), PreTrainedModel):
                    raise ValueError(
                        f"`discriminator_on` is 'features', but the teacher, a {type(teacher).__name__}, has no hidden states."
                    )
        if args.n_gpu > 1:
            raise ValueError(f"One process drives {args.n_gpu} GPUs: start one for each with `accelerate launch`.")

    def _can_fuse(self) -> bool:
        return False  # the discriminator needs the logits

    def _prepare_terms(self) -> None:
        super()._prepare_terms()
        self.adversarial = GAN_LOSSES[self.args.adversarial_loss_type]
        if self.task == CTC and self.args.discriminator_sees_labels:
            raise ValueError("`discriminator_sees_labels` is true, but the frames of a CTC model have no labels.")
        self.widths = self._seen_widths()

    def _seen_widths(self) -> tuple[int, int, int]:
        """How wide what the discriminator sees of student and teacher is, and how many labels it sees."""
        on_features = self.args.discriminator_on == "features"
        with preserved_rng(), torch.no_grad():
            batch = replace(self.take_apart(self._prepare_inputs(self.probe())), keys=None)
            was_training = self.student.training
            outputs = self.student.eval()(**batch.own, output_hidden_states=on_features)
            self.student.train(was_training)
            ours = self._view(outputs, batch.items, batch.own).shape[-1]
            theirs = self._view_of_teachers(batch).shape[-1]
        return ours, theirs, outputs.logits.shape[-1] if self.args.discriminator_sees_labels else 0

    def new_companions(self) -> nn.ModuleDict:
        """Projectors, the discriminator, and a bridge to it from features of another width."""
        networks, hidden = super().new_companions(), self.args.discriminator_hidden_size
        ours, theirs, classes = self.widths
        with preserved_rng():
            torch.manual_seed(self.args.seed)
            if self.args.discriminator_on == "logits":
                discriminator = Discriminator(min(ours, theirs), hidden, classes, self.args.temperature)
            else:
                discriminator = Discriminator(theirs, hidden, classes)
                if ours != theirs:
                    networks["bridge"] = nn.Linear(ours, theirs)
        networks["discriminator"] = discriminator
        return networks

    # ---- What the discriminator sees ----

    def _view(self, outputs: ModelOutput, items: Items, inputs: Mapping[str, Tensor]) -> Tensor:
        """The items `[items, width]` of a model that read `inputs`: logits or features."""
        if self.args.discriminator_on == "logits":
            return lined_up(self.task, outputs.logits)[items.soft]
        states = outputs.get(self.states_name)
        if states is None:
            raise ValueError(
                f"`discriminator_on` is 'features', but there are no hidden states in {type(outputs).__name__}."
            )
        if self.task in PER_TOKEN:
            return lined_up(self.task, states[-1])[items.soft]
        if states[-1].ndim == 4:
            return states[-1].flatten(2).mean(-1)
        return mean_over_positions(states[-1], inputs.get("attention_mask"))

    @torch.no_grad()
    def _view_of_teachers(self, batch: StudentBatch) -> Tensor:
        if self.args.discriminator_on == "features":
            outputs = self.teacher.outputs(batch.inputs, output_hidden_states=True)
            return self._view(outputs, batch.items, self.teacher.prepare(batch.inputs))
        keys = batch.keys or [None] * len(self.teachers)
        targets = [
            teacher.targets(batch.inputs, batch.items, key) for teacher, key in zip(self.teachers, keys, strict=True)
        ]
        if len(targets) == 1:
            return targets[0]
        return ensemble_logits(teacher_shares(self.args.teacher_weights, targets, batch.items.item_labels), targets)

    def run_beside(self, networks: nn.ModuleDict, outputs: ModelOutput, beside: Mapping) -> dict[str, Tensor]:
        has_projectors = self.matcher is not None and self.matcher.widths
        found = super().run_beside(networks, outputs, beside) if has_projectors else {}
        if not beside:
            return found
        batch, labels = beside["batch"], beside["batch"].items.item_labels
        seen = self._view(outputs, batch.items, batch.own)
        if "bridge" in networks:
            seen = networks["bridge"](seen.to(networks["bridge"].weight.dtype))
        found["student_scores"] = networks["discriminator"](seen, labels)
        if "teachers" in beside:
            found["teacher_scores"] = networks["discriminator"](beside["teachers"], labels)
        return found

    # ---- Phases ----

    @property
    def phase(self) -> str:
        """Whose optimizer step it is: "discriminator" or "student"."""
        period = self.args.n_critic + 1
        return "student" if self.state.global_step % period == self.args.n_critic else "discriminator"

    def check_before_training(self) -> None:
        super().check_before_training()
        cycle = self.args.n_critic + 1
        if 0 < self.args.max_steps < cycle:
            raise ValueError(
                f"The run takes {self.args.max_steps} steps, but one cycle of {self.args.n_critic} discriminator steps and "
                f"a student's step takes {cycle}."
            )
        if self.optimizer is not None and "phase" not in self.optimizer.param_groups[0]:
            raise ValueError(
                "`optimizers` holds an optimizer, but adversarial distillation makes its own, with a group for the discriminator."
            )

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            discriminator = self.accelerator.unwrap_model(self.model).companions["discriminator"]
            discriminator.requires_grad_(False)
            super().create_optimizer(model)
            for group in self.optimizer.param_groups:
                group["phase"] = "student"
            discriminator.requires_grad_(True)
            rate = self.args.discriminator_learning_rate
            own = {"lr": self.args.learning_rate if rate is None else rate, "weight_decay": self.args.weight_decay}
            self.optimizer.add_param_group(
                {"params": list(discriminator.parameters()), "phase": "discriminator", **own}
            )
        return self.optimizer

    def _let_train(self, *phases: str) -> None:
        """Gives the parameters of these phases gradients, and all others none."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(group["phase"] in phases)

    def training_step(self, *args, **kwargs) -> Tensor:
        self._let_train(self.phase)
        return super().training_step(*args, **kwargs)

    def _inner_training_loop(self, *args, **kwargs):
        output = super()._inner_training_loop(*args, **kwargs)
        self._let_train("student", "discriminator")
        return output

    # ---- The loss ----

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not model.training or self.phase == "student":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        batch = self.take_apart(inputs)
        count = num_items_in_batch["kd_loss"] if num_items_in_batch else batch.items.counts["kd_loss"].clamp(1)
        outputs = self.run_student(model, batch, teachers=self._view_of_teachers(batch))
        teacher, student = outputs.teacher_scores, outputs.student_scores
        values = self.adversarial.discriminator(teacher, student)
        right = (teacher > self.adversarial.boundary).float() + (student < self.adversarial.boundary).float()
        parts = {"discriminator_loss": values / self.adversarial.num_terms, "discriminator_accuracy": right / 2}
        self.record({name: part.sum() / count for name, part in parts.items()})
        loss = values.sum() / count
        return (loss, outputs) if return_outputs else loss

    def run_student(self, model, batch: StudentBatch, **beside: Tensor) -> ModelOutput:
        if not model.training:
            return super().run_student(model, batch)
        wants_states = self.matcher is not None or self.args.discriminator_on == "features"
        options = {"output_hidden_states": True} if wants_states else {}
        return model(**batch.own, **options, beside={"batch": batch, **beside})

    def plain_terms(self, model, batch: StudentBatch, weights: dict[str, float], counts: dict[str, Tensor]):
        outputs, loss, values, seen = super().plain_terms(model, batch, weights, counts)
        if model.training:
            adversarial = self.adversarial.generator(outputs.student_scores).sum() / counts["kd_loss"]
            loss = loss + self.args.adversarial_weight * adversarial
            self.record({"loss": loss, "adversarial_loss": adversarial})
        return outputs, loss, values, seen

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            del logs["loss"]  # of both phases; the one that is recorded is the student's
            logs.update(self.recorded_means())
        super().log(logs, start_time)

    @property
    def method_sentence(self) -> str:
        return (
            f"{super().method_sentence} To it were added {self.args.adversarial_weight:g} times the "
            f"'{self.args.adversarial_loss_type}' loss against a discriminator on {self.args.discriminator_on}, which took "
            f"{self.args.n_critic} of each {self.args.n_critic + 1} steps."
        )
