"""
Draws the pictures of the guide into docs/pictures, from the models of digits that three recipes leave and from the
results of the benchmarks.

    accelerate launch recipes/train_vae.py
    accelerate launch recipes/train_gan.py
    accelerate launch recipes/train_ddpm.py
    python docs/draw_pictures.py

The script itself takes half a minute on one CPU core; it also trains a small GAN badly, on purpose.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModel

from hf_genkit import GANConfig, GANModel, GANTrainer, GANTrainingConfig, add_lora
from hf_genkit.data import ImageData, image_processor_for, load_data
from hf_genkit.evaluation import save_grid, save_reconstructions, save_strips
from hf_genkit.evaluation.frechet import frechet_distance
from hf_genkit.losses import kl_divergence
from hf_genkit.pipelines import ClassConditionalPipeline, InpaintingPipeline, make_sampler
from hf_genkit.report import Chart, Series, draw_chart


ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
SCALE = 6


def digits() -> tuple[ImageData, torch.Tensor, torch.Tensor]:
    """The data, its test images in [-1, 1] of shape `[N, 1, 8, 8]`, and their classes."""
    data = ImageData(load_data("digits"))
    pictures = data.pictures(data.test_split)
    return data, torch.from_numpy(pictures.pixels).float() / 127.5 - 1, torch.from_numpy(pictures.labels)


def save_chart(name: str, chart: Chart) -> None:
    (PICTURES / f"{name}.svg").write_text(str(draw_chart(chart, standalone=True)), encoding="utf-8")


def draw_vae(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Reconstructions, ways through the latent space, and samples of two priors."""
    vae = AutoModel.from_pretrained(folder).eval()
    shown = images[:12]
    save_reconstructions(shown, vae.reconstruct(shown), PICTURES / "vae_reconstructions.png", scale=SCALE)
    ends = [[images[labels == digit][i] for digit in pair] for i, pair in enumerate([(0, 6), (1, 7), (3, 8), (4, 9)])]
    first, last = (torch.stack([pair[end] for pair in ends]) for end in (0, 1))
    save_strips(vae.interpolate(first, last, steps=10), PICTURES / "vae_walk.png", scale=SCALE)
    priors = [vae.sample(10, torch.Generator().manual_seed(0), prior=prior) for prior in ("normal", "mixture")]
    save_strips(torch.stack(priors), PICTURES / "vae_priors.png", scale=SCALE, row_labels=["normal", "mixture"])


def collapse(data: ImageData) -> tuple[GANModel, GANTrainer]:
    """A GAN that loses its variety: its generator learns a hundred times as fast as its discriminator."""
    model = GANModel(GANConfig(image_size=8, num_channels=1, latent_dim=8, architecture="mlp", generator_channels=64))
    with tempfile.TemporaryDirectory() as folder:
        args = GANTrainingConfig(
            folder,
            learning_rate=2e-2,
            discriminator_learning_rate=2e-4,
            max_steps=600,
            per_device_train_batch_size=64,
            ema_decay=0.9,
            logging_steps=20,
            save_strategy="no",
            stop_on_failure=False,
            num_sample_pictures=0,
            disable_tqdm=True,
        )
        train = data.pictures(data.splits["train"])
        trainer = GANTrainer(model, args, train_dataset=train, processing_class=image_processor_for(1, 8))
        trainer.train()
    return model.eval(), trainer


def draw_gans(folder: Path, data: ImageData) -> None:
    """Samples of a healthy GAN and of a collapsed one, and what their logs say."""
    healthy = AutoModel.from_pretrained(folder).eval()
    torch.manual_seed(0)
    broken, trainer = collapse(data)
    for name, model in (("healthy", healthy), ("collapsed", broken)):
        drawn = model.generate(40, generator=torch.Generator().manual_seed(0))
        save_grid(drawn, PICTURES / f"gan_{name}.png", columns=10, scale=SCALE)
    verdict = trainer.analyze_stability()
    print(verdict)
    path = PICTURES / "gan_stability.png"
    verdict.plot(path)
    plot = Image.open(path).convert("RGB")
    plot.reduce(2).quantize(32).save(path, optimize=True)


def draw_diffusion(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Noising, denoising, guidance, numbers of steps, and inpainting."""
    pipeline = ClassConditionalPipeline.from_pretrained(str(folder))
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    alphas = pipeline.scheduler.alphas_cumprod
    levels = [0, 100, 200, 300, 400, 500, 650, 800, 999]
    steps = [alphas[t].sqrt() * images[:3] + (1 - alphas[t]).sqrt() * noise for t in levels]
    titles = [f"t={t}" for t in levels]
    save_strips(torch.stack(steps, dim=1).clamp(-1, 1), PICTURES / "noising.png", scale=SCALE, titles=titles)

    pipeline.scheduler = make_sampler(pipeline.scheduler, "ddim")

    def drawn(classes, **settings):
        return pipeline(class_labels=classes, output_type="pt", seed=3, **settings).images.float() * 2 - 1

    every = list(range(10))
    rows = [drawn(every, guidance_scale=scale, num_inference_steps=25) for scale in (0, 1, 3, 8)]
    names = ["none (0)", "plain (1)", "3", "8"]
    save_strips(torch.stack(rows), PICTURES / "guidance.png", scale=SCALE, titles=list("0123456789"), row_labels=names)
    numbers = (1, 2, 4, 8, 25, 50)
    rows = [drawn(every, guidance_scale=1, num_inference_steps=number) for number in numbers]
    names = [f"{number} steps" for number in numbers]
    save_strips(torch.stack(rows), PICTURES / "steps.png", scale=SCALE, row_labels=names)

    painter = InpaintingPipeline.from_pipe(pipeline)
    painter.set_progress_bar_config(disable=True)
    mask = torch.zeros(1, 8, 8)
    mask[:, 4:] = 1
    rows = []
    for digit in (0, 3, 7):
        image = images[labels == digit][0]
        settings = {"num_images_per_image": 4, "num_inference_steps": 25, "seed": 0, "output_type": "pt"}
        mended = painter(image[None], mask[None], class_labels=digit, guidance_scale=1, **settings).images * 2 - 1
        rows.append(torch.cat([image[None], torch.where(mask.bool(), 0.0, image)[None], mended.float()]))
    titles = ["whole", "given", "1", "2", "3", "4"]
    save_strips(torch.stack(rows), PICTURES / "inpainting.png", scale=SCALE, titles=titles)


def draw_denoising(folder: Path) -> None:
    """The strip that the recipe leaves, in fewer colours."""
    strip = Image.open(folder / "denoising.png").convert("L")
    strip.save(PICTURES / "denoising.png", optimize=True)


def draw_temperatures() -> None:
    """What a temperature does to probabilities, and to the gradient."""
    teacher = torch.tensor([1.0, -2, 0, 9, -1, 4, -3, 1, 6, 3])  # a 3 that looks a little like an 8
    student = torch.zeros(10)
    lines = [Series(f"T = {t}", list(enumerate((teacher / t).softmax(0).tolist()))) for t in (1, 2, 4, 8)]
    save_chart("temperatures", Chart("A teacher's answer to a 3", "class", "probability", lines))
    norms: dict[str, list] = {"KL times T²": [], "KL alone": []}
    for t in (1, 1.5, 2, 3, 4, 6, 8, 12, 16):
        logits = student.clone().requires_grad_()
        kl_divergence(logits, teacher, temperature=t).backward()
        norm = logits.grad.norm().item()
        norms["KL times T²"].append((t, norm))
        norms["KL alone"].append((t, norm / t**2))
    lines = [Series(name, points) for name, points in norms.items()]
    save_chart("temperature_gradient", Chart("Size of the gradient", "temperature", "norm", lines, log_y=True))


def draw_lora() -> None:
    """Weights that train by the rank of an adapter, in a BERT of MiniLM-L6's shape; nothing is trained."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    with torch.device("meta"):
        whole = BertForSequenceClassification(config)
    total = whole.num_parameters()
    points = []
    for rank in (1, 2, 4, 8, 16, 32, 64):
        with torch.device("meta"):
            adapted = add_lora(BertForSequenceClassification(config), rank=rank)
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        points.append((rank, 100 * trained / total))
    line = Series("LoRA on every linear layer, with the head", points)
    save_chart(
        "lora_rank", Chart("Trained share of 22.7 million weights", "rank", "% of all weights", [line], log_x=True)
    )


def draw_bias(data: ImageData) -> None:
    """The Frechet distance of real digits to other real digits, by how many there are; features are the 64 pixels."""
    parts = [data.pictures(data.splits[name]).pixels for name in ("train", "test")]
    pixels = torch.cat([torch.from_numpy(part) for part in parts]).flatten(1).double() / 127.5 - 1
    points = []
    for n in (70, 100, 150, 200, 300, 400, 600):
        found = []
        for seed in range(10):
            order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
            halves = pixels[order[:n]], pixels[order[n : 2 * n]]
            found.append(frechet_distance(*(part for half in halves for part in (half.mean(0), half.T.cov()))))
        points.append((n, sum(found) / len(found)))
    chart = Chart(
        "Real digits against other real digits",
        "pictures on each side",
        "Frechet distance",
        [Series("64 pixels as features", points)],
    )
    save_chart("fd_bias", chart)


def result(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))["details"]


def draw_results() -> None:
    """Charts of benchmarks/results."""
    scores = result("few_step-teacher_gpu")["scores"]
    lines = []
    for kind in ("consistency", "progressive", "dpm++", "ddim"):
        points = [(int(k.split(", ")[1]), sum(v) / len(v)) for k, v in scores.items() if k.startswith(f"{kind},")]
        lines.append(Series(kind, sorted(points)))
    save_chart(
        "few_steps", Chart("Quality by steps", "steps", "FD (DINOv2-S)", lines, kind="scatter", log_x=True, log_y=True)
    )

    distances = result("gan_losses-chosen_loss")["distances"]
    order = sorted(distances, key=lambda name: sum(distances[name]))
    clouds = [Series(name, [(i + 1, value) for value in distances[name]]) for i, name in enumerate(order)]
    save_chart(
        "gan_losses",
        Chart(
            "Frechet distance by loss, six seeds", "loss, best mean first", "FD", clouds, kind="scatter", log_y=True
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", type=Path, default=ROOT / "outputs", help="Folder of the three models.")
    parser.add_argument("--only", nargs="+", default=[], help="Draw these alone: vae gans diffusion temperatures ...")
    args = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    data, images, labels = digits()
    jobs = {
        "vae": lambda: draw_vae(args.models / "vae-digits", images, labels),
        "gans": lambda: draw_gans(args.models / "gan-digits", data),
        "diffusion": lambda: draw_diffusion(args.models / "ddpm-digits", images, labels),
        "denoising": lambda: draw_denoising(args.models / "ddpm-digits"),
        "temperatures": draw_temperatures,
        "lora": draw_lora,
        "bias": lambda: draw_bias(data),
        "results": draw_results,
    }
    for name, job in jobs.items():
        if not args.only or name in args.only:
            job()


if __name__ == "__main__":
    main()
