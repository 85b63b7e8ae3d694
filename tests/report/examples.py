"""A report that has everything, with names that could break a page, and its pictures."""

import math
from pathlib import Path

from PIL import Image

from hf_genkit.report import Chart, Picture, Pictures, Report, Section, Series, Table, Text


HOSTILE = """<script>alert("1")</script> & 'b' | c"""


def save_picture(path: Path, size: tuple[int, int] = (24, 16)) -> None:
    image = Image.new("L", size)
    image.putdata([(7 * i) % 256 for i in range(size[0] * size[1])])
    image.save(path)


def save_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_picture(folder / "samples.png")
    save_picture(folder / "strip.png", (90, 12))
    save_picture(folder / "grid.png", (800, 60))
    save_picture(folder / "curves.png", (1200, 400))


def rich_report() -> Report:
    rows = [
        {"Model": "VAE", "FD": 5.87, "KID": 0.2831, "Recall": "0.65 (0.61 to 0.69)", "Parameters": 412_345},
        {
            "Model": HOSTILE,
            "FD": 0.8538,
            "KID": float("nan"),
            "Recall": "0.94 (0.90 to 0.96)",
            "Parameters": 1_287_345,
        },
        {"Model": "Real data", "FD": 0.33, "KID": 0.0032, "Nothing": None},
    ]
    best = {"FD": "low", "Recall": "high"}
    command = "accelerate launch recipes/compare.py --dataset_name '<b> & c' --budget 10m --output_dir compare"
    losses = [(step, math.exp(-step / 9) + 0.1) for step in range(40)]
    lines = Chart(
        "Loss", "step", "loss", [
            Series("VAE", losses, [y * 0.9 for _, y in losses], [y * 1.1 for _, y in losses]),
            Series(HOSTILE * 4, [(5, 0.5), (9, float("nan")), (30, 0.2)]),
        ],
    )  # fmt: skip
    labels = [f"a long label of the point {number}" for number in range(6)]
    points = Chart(
        "Quality against time", "seconds a picture", "FD", [
            Series("VAE", [(0.001, 5.87)], [5.1], [6.2], ["VAE"]),
            Series("Diffusion", [(0.01 * 2**n, 4 / (n + 1)) for n in range(6)], labels=labels),
        ], kind="scatter", log_x=True, log_y=True, caption="Down and to the left is better.", command=command,
    )  # fmt: skip
    pictures = [Picture("VAE", "samples.png", "One."), Picture("GAN", "samples.png"), Picture("Steps", "strip.png")]
    quality = [
        Text(["What was measured:", "- FD, lower is better;", "- recall of `PRDC`.", HOSTILE]),
        Table("Scores", rows, "The last row is the floor.", command, best, ["Real data"]),
        points,
    ]
    shown = [
        Pictures("Samples side by side", pictures, "Not selected.", "accelerate launch recipes/sample.py"),
        Picture(HOSTILE, "strip.png", HOSTILE),
        Picture("Large grid", "grid.png"),
        Picture("Curves", "curves.png", pixelated=False),
    ]
    return Report(
        HOSTILE,
        ["Diffusion is best.", "It is also the slowest; see `curves.png`."],
        {"Data": "fashion_mnist", "Budget": HOSTILE, "hf_genkit": "0.1.0"},
        [Section("Quality", quality), Section(HOSTILE, shown), Section("Training", [lines])],
        command,
    )
