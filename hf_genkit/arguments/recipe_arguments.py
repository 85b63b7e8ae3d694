"""The argument dataclasses that recipes share."""

from dataclasses import dataclass, field
from pathlib import Path

from .checks import check_choice, check_range, parse_json


@dataclass
class DataArguments:
    """Which data a recipe reads, and how its rows become model inputs."""

    dataset_name: str = field(
        default="digits",
        metadata={
            "help": "Hub id, local folder (save_to_disk, imagefolder, parquet/csv/json files) or file, or 'digits' "
            "(scikit-learn's 1,797 real 8x8 images, nothing to download)."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration (subset) of the data set."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit, tag or branch to pin the data to."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str | None = field(
        default=None,
        metadata={"help": "Split to evaluate and tune on; default: 'validation', else cut from the training split."},
    )
    test_split: str | None = field(
        default=None, metadata={"help": "Split for the final table; default: 'test', else the evaluation split."}
    )
    eval_fraction: float = field(
        default=0.1, metadata={"help": "Share of the training split to evaluate on where no split is there for it."}
    )
    image_column: str | None = field(default=None, metadata={"help": "Image column; default: found by its type."})
    text_column: str | None = field(default=None, metadata={"help": "Text column; default: found by its type."})
    text_pair_column: str | None = field(default=None, metadata={"help": "Second text column for sentence pairs."})
    label_column: str | None = field(default=None, metadata={"help": "Label column; default: found by its name."})
    image_size: int | None = field(
        default=None, metadata={"help": "Height and width, in pixels, to decode images to; default: as they are."}
    )
    augmentation: str | None = field(
        default=None,
        metadata={"help": "Image augmentation such as 'flip,shift:2'; drawn from (seed, epoch, index)."},
    )
    max_length: int = field(default=128, metadata={"help": "Longest text, in tokens; longer ones are cut."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on this many samples at most."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on this many samples at most."})
    labelled_samples: int | None = field(
        default=None,
        metadata={"help": "Keep this many labels; the other samples teach through the teacher's soft labels alone."},
    )
    streaming: bool = field(
        default=False, metadata={"help": "Read the training data as a stream, in constant memory (set --max_steps)."}
    )

    def __post_init__(self):
        check_range(self, "eval_fraction", 0, 0.9, above=True)
        for name in ("image_size", "max_length", "max_train_samples", "max_eval_samples", "labelled_samples"):
            check_range(self, name, 1)

    def for_loading(self) -> dict:
        """The arguments of [`~hf_genkit.data.load_data`]."""
        names = ("train_split", "eval_split", "test_split", "eval_fraction", "label_column", "streaming")
        limits = ("max_train_samples", "max_eval_samples")
        return {
            "name": self.dataset_name,
            "config": self.dataset_config,
            "revision": self.dataset_revision,
            **{name: getattr(self, name) for name in (*names, *limits)},
        }

    def columns(self) -> dict:
        """The arguments of [`~hf_genkit.data.ClassificationData`]."""
        names = ("image_column", "text_column", "text_pair_column", "label_column")
        return {name: getattr(self, name) for name in names}

    def image_columns(self) -> dict:
        """The arguments of [`~hf_genkit.data.ImageData`]."""
        return {name: getattr(self, name) for name in ("image_column", "label_column")}

    def for_inputs(self) -> dict:
        """The arguments of [`~hf_genkit.data.ClassificationData.inputs`] that all splits share."""
        return {"image_size": self.image_size, "max_length": self.max_length}


@dataclass
class NewModelArguments:
    """Which model that makes images a recipe trains."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Go on training this model: Hub id or local folder."}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Config of a new model, as JSON with what differs from the defaults, such as '{\"latent_dim\": 32}'; "
            "size and channels come from the data, and with '\"conditional\": true' its classes."
        },
    )

    def __post_init__(self):
        if isinstance(self.model_config, str):
            self.model_config = None if self.model_config == "null" else parse_json("model_config", self.model_config)
        if self.model_config is not None and self.model_name_or_path is not None:
            raise ValueError(
                "Both `model_name_or_path` and `model_config` are given: a model is loaded or new. A YAML's model_config is "
                "taken back by --model_config null."
            )


@dataclass
class GenerativeModelArguments(NewModelArguments):
    """Which model that makes images a recipe trains, and which vision model judges its images."""

    feature_extractor: str = field(
        default="classifier",
        metadata={
            "help": "Vision model whose features judge the pictures: Hub id or local folder, 'classifier' to train a small "
            "one on the data's labels, or 'none'."
        },
    )
    feature_size: int | None = field(
        default=None, metadata={"help": "Side, in pixels, of the pictures it sees; default: its own."}
    )

    def __post_init__(self):
        super().__post_init__()
        check_range(self, "feature_size", 1)


@dataclass
class AnomalyArguments:
    """What counts as normal for a recipe that detects anomalies, and how it scores them."""

    normal_classes: list[str] = field(
        default_factory=list,
        metadata={"help": "Names of the classes to train on; images of all other classes are the anomalies."},
    )
    anomaly_dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Another data set as the anomalies: Hub id, local folder, or 'digits'; resized to the normal one."
        },
    )
    anomaly_revision: str | None = field(default=None, metadata={"help": "Commit, tag or branch to pin it to."})
    anomaly_split: str = field(default="test", metadata={"help": "Its split."})
    anomaly_kind: str = field(
        default="reconstruction",
        metadata={"help": "Score: reconstruction, scaled_reconstruction, elbo, likelihood or regret."},
    )
    target_fpr: float = field(
        default=0.01, metadata={"help": "Share of normal images that the saved threshold may flag."}
    )

    def __post_init__(self):
        if bool(self.normal_classes) == (self.anomaly_dataset_name is not None):
            given = "both" if self.normal_classes else "neither"
            raise ValueError(
                f"Anomalies come from exactly one of `normal_classes` and `anomaly_dataset_name`; given: {given}."
            )
        check_range(self, "target_fpr", 0, 0.5, above=True)


@dataclass
class DiffusionModelArguments(GenerativeModelArguments):
    """Which diffusion model a recipe trains, on what conditions, and which vision model judges its images."""

    model_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Config of a new network, as JSON with what differs from the defaults, such as "
            '\'{"block_out_channels": [32, 64, 64]}\' or \'{"_class_name": "DiTTransformer2DModel"}\'; size and channels '
            "come from the data, and with '\"conditional\": true' its classes."
        },
    )
    vae_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Learn the latents of this AutoencoderKL or genkit_vae: Hub id or local folder."},
    )
    text_encoder_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Read captions with this frozen text encoder (CLIP, T5): Hub id or local folder."},
    )
    text_encoder_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Read captions with a small CLIP text encoder that is trained along, as JSON with what differs, such as "
            "'{\"hidden_size\": 64}'; {} for the defaults."
        },
    )
    caption_column: str | None = field(default=None, metadata={"help": "Column of the captions."})
    caption_template: str = field(
        default="a picture of a {label}",
        metadata={"help": "Caption of an image where there is no such column: {label} is the name of its class."},
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Commit, tag or branch of model_name_or_path, which an adapter records."}
    )
    lora_rank: int = field(
        default=0,
        metadata={"help": "Above 0: train an adapter of this rank on model_name_or_path, and save it alone."},
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.text_encoder_config, str):
            given = self.text_encoder_config
            self.text_encoder_config = None if given == "null" else parse_json("text_encoder_config", given)
        if self.text_encoder_config is not None and self.text_encoder_name_or_path is not None:
            raise ValueError("Both `text_encoder_name_or_path` and `text_encoder_config` are given: choose one.")
        if self.caption_column is None and "{label}" not in self.caption_template:
            raise ValueError(f"`caption_template` is '{self.caption_template}', but it must contain {{label}}.")
        check_range(self, "lora_rank", 0)
        if self.model_name_or_path is not None and (self.has_captions or self.vae_name_or_path is not None):
            option = "vae_name_or_path" if self.vae_name_or_path is not None else "text_encoder_..."
            raise ValueError(f"`{option}` is given, but '{self.model_name_or_path}' comes with parts of its own.")
        if self.lora_rank > 0 and self.model_name_or_path is None:
            raise ValueError(f"`lora_rank` is {self.lora_rank}, but there is no `model_name_or_path` to adapt.")

    @property
    def has_captions(self) -> bool:
        """Whether a new text encoder is asked for."""
        return self.text_encoder_name_or_path is not None or self.text_encoder_config is not None


@dataclass
class SamplingArguments:
    """Which pictures a model draws, and how."""

    model_name_or_path: str = field(
        metadata={"help": "Diffusion pipeline, genkit_vae or genkit_gan(_generator): Hub id or local folder."}
    )
    output_dir: str = field(default="outputs/samples", metadata={"help": "Where the pictures go."})
    num_images: int = field(default=16, metadata={"help": "How many pictures to draw."})
    class_labels: list[str] = field(
        default_factory=list, metadata={"help": "Classes to draw, by name or index; they take turns."}
    )
    prompts: list[str] = field(default_factory=list, metadata={"help": "Captions to draw; they take turns."})
    sampler: str | None = field(
        default=None, metadata={"help": "ddpm, ddim, dpm++, unipc or euler; default: the pipeline's own."}
    )
    num_inference_steps: int = field(default=50, metadata={"help": "Steps of a diffusion pipeline."})
    guidance_scale: float = field(
        default=2.0, metadata={"help": "How far to follow classes and captions; 1 for plain."}
    )
    seed: int = field(default=0, metadata={"help": "Picture i is drawn with seed + i, whatever the batch."})
    batch_size: int = field(default=16, metadata={"help": "Pictures at a time."})
    init_image: str | None = field(
        default=None, metadata={"help": "Image file to start from: to change, to mend with a mask, or to enlarge."}
    )
    mask_image: str | None = field(default=None, metadata={"help": "Image file, white where to paint anew."})
    strength: float = field(default=0.5, metadata={"help": "How much init_image changes without a mask, up to 1."})
    dtype: str = field(default="float32", metadata={"help": "float32, or bfloat16 for the network alone."})
    channels_last: bool = field(default=False, metadata={"help": "Store pictures channels last: for wide networks."})
    compile: bool = field(default=False, metadata={"help": "Compile the network: pays for many pictures."})
    adapter: str | None = field(default=None, metadata={"help": "LoRA adapter to merge: Hub id or local folder."})

    def __post_init__(self):
        check_choice("dtype", self.dtype, ["float32", "bfloat16"])
        for name in ("num_images", "num_inference_steps", "batch_size"):
            check_range(self, name, 1)
        check_range(self, "guidance_scale", 0)
        check_range(self, "strength", 0, 1, above=True)
        if self.class_labels and self.prompts:
            raise ValueError("Both `class_labels` and `prompts` are given: a model draws by one of them.")
        if self.mask_image is not None and self.init_image is None:
            raise ValueError("`mask_image` is given, but there is no `init_image` that it masks.")
        for name in ("init_image", "mask_image"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"`{name}` is '{path}', but there is no such file.")

    @property
    def task(self) -> str | None:
        """What a pipeline shall do, where that is another thing than it was saved for."""
        if self.mask_image is not None:
            return "inpainting"
        return None if self.init_image is None else "image-to-image"
