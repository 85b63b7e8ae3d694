"""Smaller models."""

from .chain import CompressionChain
from .chain_report import finish_compression, judge_forms
from .executorch import export_executorch
from .export import export_onnx
from .gradual_pruning import GradualPruning
from .layer_dropping import student_from_teacher
from .masking import make_permanent, prunable_layers, prune_n_m, prune_weights, sparsity_of
from .onnx_model import OnnxModel, load_onnx
from .pairs import ModelPair
from .qat import prepare_qat
from .quantization import quantize
from .structured import prune_structure


__all__ = [
    "CompressionChain",
    "GradualPruning",
    "ModelPair",
    "OnnxModel",
    "export_executorch",
    "export_onnx",
    "finish_compression",
    "judge_forms",
    "load_onnx",
    "make_permanent",
    "prepare_qat",
    "prunable_layers",
    "prune_n_m",
    "prune_structure",
    "prune_weights",
    "quantize",
    "sparsity_of",
    "student_from_teacher",
]
