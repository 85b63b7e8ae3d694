"""
How fast the VAE is beside pythae 0.1.2, with the same networks on both sides:

* training through `VAETrainer` against pythae's `BaseTrainer`: at least as many images a second, at pythae's default
  MLP of 829,000 parameters, and beside it a bare loop over `VAEModel`;
* `VAEModel.log_likelihood` against pythae's `get_nll` with the MLP: at least 1.5 times as fast;
* the same with convolutional networks, those of `VAEConfig()`: at least 2.5 times as fast.

    pip install --no-deps pythae==0.1.2 && pip install cloudpickle pydantic scikit-learn
    python benchmarks/vae_speed.py
    python benchmarks/vae_speed.py --full        # epochs of 60,000 images, five times as many for the likelihood

For the likelihood pythae gets `VAEModel`'s networks as a `BaseEncoder` and a `BaseDecoder`, with the same weights, and
the estimates must agree within their Monte Carlo error. The convolutional decoder is the same function in the layers
that one would write, `nn.ConvTranspose2d`, of which `VAEModel` has faster forms; with the very modules of `VAEModel` in
pythae, the details tell what is left of the gain. One thread, CPU time.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec

import torch
from common import alternate, cpu_seconds, ratios, write_result
from real_data import MissingPackage
from torch import nn
from transformers.trainer_utils import set_seed
from workload import PROCESSOR, images, trainer_epoch

from hf_genkit import VAEConfig, VAEModel, VAETrainer, VAETrainingConfig
from hf_genkit.data import ArrayImageDataset, prepare_pixels


BATCH, LEARNING_RATE = 200, 1e-3
SAMPLES, CHUNK = 500, 100
CONFIGS = {
    "mlp": VAEConfig(architecture="mlp", hidden_sizes=[512], latent_dim=16),
    "conv": VAEConfig(architecture="conv", latent_dim=16),
}


def new_model(architecture: str) -> VAEModel:
    set_seed(0)
    return VAEModel(CONFIGS[architecture])


def bare_epoch(model: VAEModel, pixels: torch.Tensor) -> float:
    """CPU seconds of an epoch over images `[N, 1, 28, 28]` in [-1, 1] without any trainer."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def epoch() -> None:
        for indices in torch.randperm(len(pixels)).split(BATCH):
            model(pixels[indices]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return cpu_seconds(epoch)


def genkit_epoch(dataset: ArrayImageDataset) -> float:
    """CPU seconds of an epoch of `VAETrainer`."""
    options = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "num_sample_pictures": 0,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return trainer_epoch(
        lambda folder: VAETrainer(
            new_model("mlp"),
            VAETrainingConfig(folder, **options),
            train_dataset=dataset,
            processing_class=PROCESSOR,
        )
    )


@torch.no_grad()
def plain_decoder(decoder: nn.Module) -> nn.Sequential:
    """A convolutional decoder of `VAEModel` in plain layers; its four biases of the last layer are made one first."""
    dense, relu, unflatten, *others = decoder.layers
    channels, size = unflatten.channels, unflatten.size
    first = nn.Linear(dense.in_features, dense.out_features)
    first.weight.copy_(dense.weight.unflatten(0, (-1, channels)).transpose(0, 1).flatten(0, 1))
    first.bias.copy_(dense.bias.view(-1, channels).T.flatten())
    head = decoder.head
    head.bias.copy_(head.bias.view(-1, 4).mean(1).repeat_interleave(4))
    last = nn.ConvTranspose2d(head.in_channels, head.out_channels // 4, 4, stride=2, padding=1)
    # Of the 4x4 kernel, the taps of one parity make a 2x2 kernel, which a convolution reads backwards.
    taps = head.weight.unflatten(0, (-1, 2, 2)).flip(-1, -2)
    last.weight.copy_(taps.permute(3, 0, 4, 1, 5, 2).reshape(last.weight.shape))
    last.bias.copy_(head.bias[::4])
    return nn.Sequential(first, relu, nn.Unflatten(1, (channels, size, size)), *others, last)


class Pythae:
    """pythae's side of each comparison; it is imported here, where its absence can be told."""

    def __init__(self):
        if find_spec("pythae") is None:
            raise MissingPackage(
                "There is no pythae here: pip install --no-deps pythae==0.1.2 && "
                "pip install cloudpickle pydantic scikit-learn."
            )
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE
        from pythae.models import VAEConfig as PythaeConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
        from pythae.trainers.training_callbacks import TrainingCallback

        class WrappedEncoder(BaseEncoder):
            def __init__(self, encoder):
                super().__init__()
                self.encoder = encoder

            def forward(self, x):
                mean, log_variance = self.encoder(x * 2 - 1)
                return ModelOutput(embedding=mean, log_covariance=log_variance)

        class WrappedDecoder(BaseDecoder):
            def __init__(self, decoder):
                super().__init__()
                self.decoder = decoder

            def forward(self, z):
                return ModelOutput(reconstruction=torch.sigmoid(self.decoder(z)))

        class EpochTimer(TrainingCallback):
            seconds = 0.0

            def on_epoch_begin(self, training_config, **kwargs):
                self.seconds -= time.process_time()

            def on_epoch_end(self, training_config, **kwargs):
                self.seconds += time.process_time()

        self.vae, self.encoder, self.decoder, self.timer = VAE, WrappedEncoder, WrappedDecoder, EpochTimer
        self.dataset, self.trainer, self.trainer_config = BaseDataset, BaseTrainer, BaseTrainerConfig
        self.config = PythaeConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce")

    def epoch(self, grey: torch.Tensor) -> float:
        """CPU seconds of an epoch of `BaseTrainer` over images `[N, 1, 28, 28]` in [0, 1]."""
        model, timer = self.vae(self.config), self.timer()
        if sum(p.numel() for p in model.parameters()) != new_model("mlp").num_parameters():
            raise ValueError("The two MLPs differ in size, so there is nothing to compare.")
        with tempfile.TemporaryDirectory() as folder:
            config = self.trainer_config(
                output_dir=folder,
                num_epochs=1,
                per_device_train_batch_size=BATCH,
                learning_rate=LEARNING_RATE,
                no_cuda=True,
            )
            self.trainer(
                model, self.dataset(grey, torch.zeros(len(grey))), training_config=config, callbacks=[timer]
            ).train()
        return timer.seconds

    def wrapped(self, encoder: nn.Module, decoder: nn.Module):
        """A pythae VAE of networks in the form that `VAEModel` has."""
        return self.vae(self.config, self.encoder(encoder), self.decoder(decoder)).eval()


def measure_training(pythae: Pythae, raw, pixels: torch.Tensor, rounds: int) -> tuple[dict, dict]:
    """CPU seconds of each contender in each round, and what else there is to say."""
    dataset, grey = ArrayImageDataset(raw, torch.zeros(len(raw)).long().numpy()), (pixels + 1) / 2
    seconds = alternate(
        {
            "pythae": lambda: pythae.epoch(grey),
            "hf_genkit": lambda: genkit_epoch(dataset),
            "bare loop": lambda: bare_epoch(new_model("mlp"), pixels),
        },
        rounds,
    )
    rates = {name: round(2 * len(raw) * rounds / sum(runs)) for name, runs in seconds.items()}
    return seconds, {"batch": BATCH, "images_per_second": rates, "parameters": new_model("mlp").num_parameters()}


def measure_likelihood(
    pythae: Pythae, architecture: str, pixels: torch.Tensor, count: int, rounds: int
) -> tuple[dict, dict]:
    """The same for the likelihood of `count` images under a model trained on `pixels`, whose estimates must agree."""
    model = new_model(architecture)
    bare_epoch(model, pixels)
    model.eval()
    peers = {"pythae": pythae.wrapped(model.encoder, model.decoder)}
    if architecture == "conv":
        peers = {
            "pythae": pythae.wrapped(model.encoder, plain_decoder(model.decoder)),
            "pythae with hf_genkit's layers": peers["pythae"],
        }
    black_or_white = (pixels[:count] > 0).float()
    estimates = {name: [] for name in (*peers, "hf_genkit")}

    def get_nll(name: str) -> None:
        with torch.no_grad():
            nll = peers[name].get_nll(black_or_white, n_samples=SAMPLES, batch_size=CHUNK)
        estimates[name].append(-float(nll))

    def log_likelihood() -> None:
        estimates["hf_genkit"].append(-model.log_likelihood(black_or_white * 2 - 1, SAMPLES).mean().item())

    contenders = {name: lambda name=name: cpu_seconds(lambda: get_nll(name)) for name in peers}
    seconds = alternate({**contenders, "hf_genkit": lambda: cpu_seconds(log_likelihood)}, rounds)
    means = {name: statistics.mean(values) for name, values in estimates.items()}
    errors = {name: (statistics.variance(values) / len(values)) ** 0.5 for name, values in estimates.items()}
    for name in peers:
        error = math.hypot(errors[name], errors["hf_genkit"])
        if abs(means[name] - means["hf_genkit"]) > 4 * error:
            raise ValueError(f"The estimates are {means}, further apart than 4 standard errors of {error:.3g} nats.")
    return seconds, {
        "images": count,
        "importance_samples": SAMPLES,
        "milliseconds_per_image": {
            name: round(500 * sum(runs) / (rounds * count), 2) for name, runs in seconds.items()
        },
        "nll": {name: round(value, 3) for name, value in means.items()},
        "parameters": model.num_parameters(),
        "ratios": {name: round(ratios(seconds[name], seconds["hf_genkit"])[0], 3) for name in peers},
        "standard_errors": {name: round(value, 3) for name, value in errors.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Longer runs.")
    parser.add_argument("--rounds", type=int, default=7, help="Rounds of two runs each.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        pythae = Pythae()
    except MissingPackage as error:
        sys.exit(str(error))
    raw, _, source = images(60000 if args.full else 10000)
    pixels = prepare_pixels(torch.tensor(raw), PROCESSOR)
    more = 5 if args.full else 1
    claims = {
        "training": (
            "VAE training through the trainer against pythae's",
            1.0,
            lambda: measure_training(pythae, raw, pixels, args.rounds),
        ),
        "nll_mlp": (
            "Importance-sampled NLL against pythae, MLP",
            1.5,
            lambda: measure_likelihood(pythae, "mlp", pixels, 50 * more, args.rounds),
        ),
        "nll_conv": (
            "Importance-sampled NLL against pythae, convolutional",
            2.5,
            lambda: measure_likelihood(pythae, "conv", pixels[:2000], 10 * more, args.rounds),
        ),
    }
    for name, (claim, bar, measure) in claims.items():
        start = time.time()
        seconds, details = measure()
        value, spread = ratios(seconds["pythae"], seconds["hf_genkit"])
        write_result(
            f"vae_speed-{name}",
            claim=claim,
            value=value,
            bar=bar,
            at_least=True,
            spread=spread,
            spread_kind=f"quartiles of {args.rounds} rounds",
            seconds=time.time() - start,
            details={
                **details,
                "data": source,
                "pythae": version("pythae"),
                "time": "CPU time, one thread, contenders in the order A B B A",
            },
        )


if __name__ == "__main__":
    main()
