"""
The metrics of pictures against torch-fidelity 0.4.0 (and prdc 0.2 for density and coverage), on the same features: 10,000
generated and 10,000 real pictures, 384 numbers each.

    pip install --no-deps --target FOLDER torch-fidelity==0.4.0 prdc==0.2
    python benchmarks/metrics_speed.py --peers FOLDER

Features are DINOv2-small's of Fashion-MNIST: test images that were reduced to half their size and enlarged again, as a
blurring generator's, against training images. Each contender gets them as it takes them: torch-fidelity in float32, as
its extractors give them, hf_genkit, which turns them into float64. Values are held against each other in float64, times
in float32, CPU time, one thread. KID takes 100 subsets of 1,000 for the time; for the value all 10,000 at once, as the two draw their
subsets differently. torch-fidelity's torchvision is never called, so an empty one is put in its place while it is imported.
"""

import argparse
import sys
import time
from unittest.mock import MagicMock

import numpy as np
import torch
import torch.nn.functional as F
from common import alternate, cpu_seconds, ratios, write_result
from real_data import fashion_mnist_arrays

from hf_genkit.evaluation import FeatureExtractor
from hf_genkit.evaluation.frechet import FeatureStatistics
from hf_genkit.evaluation.kernel_distance import kernel_distance
from hf_genkit.evaluation.manifold import manifold_metrics


SAMPLES, NEIGHBOURS = 10_000, 3
KID = {"kid_subsets": 100, "kid_subset_size": 1000}


def features(model: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of generated and of real pictures, each `[10000, 384]` in float32."""
    train, test = (torch.from_numpy(fashion_mnist_arrays(split)[0].copy())[:, None] for split in ("train", "test"))
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:SAMPLES])
    small = F.interpolate(test.float(), scale_factor=0.5, mode="area")
    blurred = F.interpolate(small, scale_factor=2, mode="bicubic").round().clamp(0, 255).byte()
    extractor = FeatureExtractor(model, size=56)
    return extractor(blurred, desc="generated").float(), extractor(train[chosen], desc="real").float()


def peers(folder: str):
    """The three modules of torch-fidelity, and prdc's function."""
    sys.path.append(folder)
    sys.modules["torchvision"] = MagicMock()
    sys.modules |= {f"torchvision.{part}": MagicMock() for part in ("datasets", "transforms", "transforms.functional")}
    from prdc import compute_prdc
    from torch_fidelity import metric_fid, metric_kid, metric_prc

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return metric_fid, metric_kid, metric_prc, compute_prdc


def frechet(x: torch.Tensor, y: torch.Tensor) -> float:
    return FeatureStatistics.from_features(x).frechet_distance(FeatureStatistics.from_features(y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="Folder that torch-fidelity and prdc are installed in.")
    parser.add_argument("--dinov2", default="data/dinov2-small", help="DINOv2-small: folder or name on the Hub.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds of two runs each.")
    args = parser.parse_args()
    start = time.time()
    torch.set_num_threads(1)
    fid, kid, prc, compute_prdc = peers(args.peers)
    generated, real = features(args.dinov2)
    wide, wide_real = generated.double(), real.double()

    def their_frechet(x: torch.Tensor, y: torch.Tensor) -> float:
        statistics = [fid.fid_features_to_statistics(z) for z in (x, y)]
        return fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]

    def their_kernel(x: torch.Tensor, y: torch.Tensor, **subsets) -> float:
        return kid.kid_features_to_metric(x, y, verbose=False, **subsets)["kernel_inception_distance_mean"]

    def their_precision(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        return prc.prc_features_to_metric(x, y, prc_neighborhood=NEIGHBOURS, verbose=False)

    values = {
        "hf_genkit": {
            "fd": frechet(generated, real),
            "kid": kernel_distance(generated, real, subset_size=None)[0],
            **manifold_metrics(generated, real, neighbours=NEIGHBOURS),
        },
        "peers, float64": {
            "fd": their_frechet(wide, wide_real),
            "kid": their_kernel(wide, wide_real, kid_subsets=1, kid_subset_size=SAMPLES),
            **their_precision(wide, wide_real),
        },
        "peers, float32": {
            "fd": their_frechet(generated, real),
            "kid": their_kernel(generated, real, kid_subsets=1, kid_subset_size=SAMPLES),
            **their_precision(generated, real),
        },
    }
    fuller = compute_prdc(wide_real.numpy(), wide.numpy(), nearest_k=NEIGHBOURS)
    values["peers, float64"] |= {name: float(fuller[name]) for name in ("density", "coverage")}
    ours, theirs = values["hf_genkit"], values["peers, float64"]
    differences = {name: abs(ours[name] - theirs[name]) / max(abs(theirs[name]), 1e-12) for name in ours}
    worst = max(differences.values())
    seconds = {
        "fd": alternate(
            {
                "hf_genkit": lambda: cpu_seconds(lambda: frechet(generated, real)),
                "torch-fidelity": lambda: cpu_seconds(lambda: their_frechet(generated, real)),
            },
            args.rounds,
        ),
        "kid": alternate(
            {
                "hf_genkit": lambda: cpu_seconds(lambda: kernel_distance(generated, real)),
                "torch-fidelity": lambda: cpu_seconds(lambda: their_kernel(generated, real, **KID)),
            },
            args.rounds,
        ),
        "prdc": alternate(
            {
                "hf_genkit": lambda: cpu_seconds(lambda: manifold_metrics(generated, real, neighbours=NEIGHBOURS)),
                "torch-fidelity": lambda: cpu_seconds(lambda: their_precision(generated, real)),
            },
            args.rounds,
        ),
    }
    details = {"samples": SAMPLES, "width": generated.shape[1], "values": values, "seconds": seconds}
    write_result(
        "metrics_speed-values",
        claim="Largest relative difference of FD, KID, precision, recall, density and coverage from torch-fidelity's and prdc's",
        value=1e6 * worst,
        bar=100,
        at_least=False,
        spread=(1e6 * worst, 1e6 * worst),
        spread_kind="the same features, in float64",
        seconds=time.time() - start,
        details={**details, "differences": differences},
        unit="ppm",
    )
    names = {
        "fd": "FD",
        "kid": "KID of 100 subsets",
        "prdc": "precision, recall, density and coverage (the peer: the first two)",
    }
    for key, name in names.items():
        value, spread = ratios(seconds[key]["torch-fidelity"], seconds[key]["hf_genkit"])
        write_result(
            f"metrics_speed-{key}",
            claim=f"Speed against torch-fidelity on 10,000 features of 384 numbers: {name}",
            value=value,
            bar=1,
            at_least=True,
            spread=spread,
            spread_kind=f"quartiles of {args.rounds} rounds",
            seconds=time.time() - start,
            details=details,
        )


if __name__ == "__main__":
    main()
