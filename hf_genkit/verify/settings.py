"""How figures are measured again."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..arguments import check_choice
from ..evaluation.features import default_device


@dataclass(frozen=True)
class Settings:
    """
    What a user decides, and the claims leave open.

    Args:
        folder (`Path`): For files that are needed while measuring.
        dataset_names (`list[str]`, *optional*): Data to take instead of those that the card names.
        base_model (`str`, *optional*): The base of an adapter, where it is not the recorded one.
        feature_extractor (`str`, *optional*): What judges pictures, where the card names no extractor of the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the repository.
        use_cpu (`bool`, *optional*, defaults to `False`): Whether to leave an accelerator alone.
        batch_size (`int`, *optional*, defaults to 32): Samples at a time.
    """

    folder: Path
    dataset_names: list[str] = field(default_factory=list)
    base_model: str | None = None
    feature_extractor: str | None = None
    trust_remote_code: bool = False
    use_cpu: bool = False
    batch_size: int = 32

    @property
    def device(self) -> torch.device:
        """Where is measured."""
        return torch.device("cpu") if self.use_cpu else default_device()

    def trainer_options(self, args: dict) -> dict:
        """
        The options that every trainer gets here.

        Args:
            args (`dict`): The arguments of the figure, whose `dtype` the trainer computes in.
        """
        dtype = args.get("dtype", "float32")
        check_choice("dtype", dtype, ["float32", "bfloat16", "float16"])
        return {
            "output_dir": str(self.folder),
            "per_device_eval_batch_size": self.batch_size,
            "use_cpu": self.device.type == "cpu",
            "disable_tqdm": True,
            "report_to": "none",
            "bf16": dtype == "bfloat16",
            "fp16": dtype == "float16" and self.device.type == "cuda",
        }
