"""The argument dataclasses of fine-tuning: which model, adapted how, on which kind of data."""

from dataclasses import dataclass, field
from pathlib import Path

from .checks import check_choice, check_range, parse_json
from .recipe_arguments import DataArguments


TASKS = (
    "image-classification",
    "text-classification",
    "token-classification",
    "text-generation",
    "fill-mask",
    "automatic-speech-recognition",
)


@dataclass
class FineTuningModelArguments:
    """Which model a recipe trains on, and for which task."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model to start from: Hub id or local folder."}
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Commit, tag or branch of the model, which an adapter records."}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "Config of a new model, as JSON with 'model_type' and what differs from its defaults."},
    )
    from_scratch: bool = field(
        default=False,
        metadata={
            "help": "Take the config and the tokenizer of model_name_or_path, but random weights: pre-training."
        },
    )
    task: str = field(default="auto", metadata={"help": f"auto (from the data and the model), {', '.join(TASKS)}."})
    vocab_size: int = field(
        default=4096,
        metadata={"help": "Size of the byte-level BPE vocabulary that a new language model learns from its data."},
    )
    chat_template: str | None = field(
        default=None, metadata={"help": "Jinja file with the chat template of a tokenizer that has none."}
    )
    language: str | None = field(
        default=None, metadata={"help": "Language of a multilingual model of speech, such as 'english'."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run modeling code that comes with the model's repo."}
    )

    def __post_init__(self):
        if isinstance(self.model_config, str):
            given = self.model_config
            self.model_config = None if given == "null" else parse_json("model_config", given)
        check_choice("task", self.task, ["auto", *TASKS])
        check_range(self, "vocab_size", 300)
        if (self.model_name_or_path is None) == (self.model_config is None):
            given = "neither" if self.model_config is None else "both"
            raise ValueError(f"A model is given by one of `model_name_or_path` and `model_config`; given: {given}.")
        if self.from_scratch and self.model_name_or_path is None:
            raise ValueError(
                "`from_scratch` takes the config of `model_name_or_path`; a `model_config` is new anyway."
            )
        if self.chat_template is not None and not Path(self.chat_template).is_file():
            raise ValueError(f"`chat_template` is '{self.chat_template}', but there is no such file.")


@dataclass
class AdaptationArguments:
    """Which of a model's weights are trained."""

    peft: str = field(
        default="none",
        metadata={"help": "none trains the model's own weights, lora an adapter, qlora one on a 4-bit base."},
    )
    lora_rank: int = field(default=8, metadata={"help": "Rank of each adapted layer's change."})
    lora_alpha: float | None = field(
        default=None, metadata={"help": "The change is scaled by lora_alpha / lora_rank; default: the rank."}
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "Share of the adapter's inputs dropped in training."})
    dora: bool = field(default=False, metadata={"help": "Learn magnitude and direction apart (DoRA)."})
    target_modules: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Ends of the names of the layers to adapt, such as q_proj v_proj; default: all in the blocks."
        },
    )
    freeze_first: str | None = field(
        default=None, metadata={"help": "Freeze so many layers from the input on, embeddings included; or 'all'."}
    )
    freeze_patterns: list[str] = field(
        default_factory=list,
        metadata={"help": "Freeze what these shell patterns match, such as '*.layer.0.*', and everything below."},
    )
    unfreeze_every: float | None = field(
        default=None,
        metadata={"help": "Gradual unfreezing: train the head first, and one more layer every so many epochs."},
    )

    @property
    def frozen_layers(self) -> int | str | None:
        """`freeze_first` as [`~hf_genkit.freeze_layers`] takes it."""
        return int(self.freeze_first) if self.freeze_first not in (None, "all") else self.freeze_first

    def __post_init__(self):
        check_choice("peft", self.peft, ["none", "lora", "qlora"])
        check_range(self, "lora_rank", 1)
        check_range(self, "lora_alpha", 0, above=True)
        check_range(self, "lora_dropout", 0, 0.99)
        if self.freeze_first is not None and self.freeze_first != "all" and not self.freeze_first.isdecimal():
            raise ValueError(f"`freeze_first` is '{self.freeze_first}', but it must be a number of layers or 'all'.")
        check_range(self, "unfreeze_every", 0, above=True)
        freezes = self.freeze_first is not None or self.freeze_patterns or self.unfreeze_every is not None
        if self.peft != "none" and freezes:
            raise ValueError(
                f"`peft` is '{self.peft}', which freezes every layer itself: leave out the freeze options."
            )
        if self.peft == "none" and (self.dora or self.target_modules):
            option = "dora" if self.dora else "target_modules"
            raise ValueError(f"`{option}` is given, but `peft` is 'none': set it to lora or qlora.")
        if self.freeze_first is not None and self.freeze_patterns:
            raise ValueError("Both `freeze_first` and `freeze_patterns` are given: choose one.")


@dataclass
class FineTuningDataArguments(DataArguments):
    """Which data a recipe reads, language and speech included."""

    prompt_column: str | None = field(
        default=None, metadata={"help": "Column of prompts; default: found by its name."}
    )
    completion_column: str | None = field(
        default=None, metadata={"help": "Column of completions; default: found by its name."}
    )
    messages_column: str | None = field(
        default=None, metadata={"help": "Column of chats; default: found by its name."}
    )
    audio_column: str | None = field(default=None, metadata={"help": "Column of audio; default: found by its type."})
    completion_only: bool = field(
        default=True, metadata={"help": "Learn completions and the assistant's turns alone, not prompts."}
    )
    mask_probability: float = field(
        default=0.15, metadata={"help": "Share of the tokens that a masked language model is asked for."}
    )

    def __post_init__(self):
        super().__post_init__()
        check_range(self, "mask_probability", 0, 0.9, above=True)


@dataclass
class OptimizerArguments:
    """Which optimizers a recipe compares."""

    optimizers: list[str] = field(
        default_factory=lambda: ["sgd:0.1", "momentum:0.05", "adagrad:0.02", "rmsprop:1e-3", "adam:2e-3", "adamw:2e-3",
                                 "adafactor:1e-2", "adamw_8bit:2e-3"],
        metadata={"help": "Optimizers, each with its learning rate, such as sgd:0.1 adamw:1e-3."},
    )  # fmt: skip
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run of each for each seed."})

    def __post_init__(self):
        for entry in self.optimizers:
            name, _, rate = entry.partition(":")
            try:
                is_right = bool(name) and float(rate) > 0
            except ValueError:
                is_right = False
            if not is_right:
                raise ValueError(
                    f"`optimizers` has '{entry}', but it must be a name and a rate above 0, as adamw:1e-3."
                )
        if not self.seeds or not self.optimizers:
            raise ValueError("`optimizers` and `seeds` must each hold one or more.")

    @property
    def pairs(self) -> list[tuple[str, float]]:
        """Name and learning rate of each."""
        return [(entry.partition(":")[0], float(entry.partition(":")[2])) for entry in self.optimizers]


@dataclass
class MergingArguments:
    """Which adapters become one plain model, and how."""

    adapters: list[str] = field(metadata={"help": "Adapters, Hub ids or local folders: one, or several of one base."})
    output_dir: str = field(default="outputs/merged", metadata={"help": "Where the plain model goes."})
    weights: list[float] = field(
        default_factory=list, metadata={"help": "How much each counts; default: all the same."}
    )
    method: str = field(
        default="linear",
        metadata={
            "help": "How several become one: linear, cat, svd, ties, dare_linear, dare_ties or magnitude_prune."
        },
    )
    density: float = field(default=0.5, metadata={"help": "Share of values that ties, dare and magnitude_prune keep."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run modeling code that comes with the base's repo."}
    )
