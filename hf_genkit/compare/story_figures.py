"""The figures of a comparison's report: samples, quality against time, curves, control, cost."""

import statistics

from ..report.blocks import Chart, Picture, Pictures, Section, Series, Table
from .budget import CLOCK_NAMES
from .control import POINTS
from .findings import Found, flops, milliseconds, number, seconds_of, with_ends


FADE = "cross-fade of real pixels"
PEAK = "Peak memory"
LOSSES = {"loss": "loss", "generator_loss": "generator", "discriminator_loss": "discriminator"}


def samples_section(found: Found) -> Section:
    """Samples side by side, the first ones that were drawn."""
    shown = found.results["pictures"]
    pictures = [Picture(f"Samples of {name}", path) for name, path in shown["samples"].items()]
    caption = f"The first 36 pictures of seed {found.seeds[0]}; nothing was picked out."
    blocks = [Pictures("Side by side", pictures, caption, found.command)]
    for name, path in shown["denoising"].items():
        text = "From noise (left) to the picture (right), in eight moments; each is scaled to be seen."
        blocks.append(Picture(f"Denoising: {name}", path, text, found.command))
    return Section("Samples", blocks)


def speed_section(found: Found) -> Section:
    """Quality against the time that a picture takes."""
    series, rows = [], []
    for name in found.judged:
        points = found.whole[name][0]["points"]
        line = Series(name, [])
        for index, point in enumerate(points):
            seconds = found.median(name, lambda run, index=index: run["points"][index]["seconds"])
            alone = found.median(name, lambda run, index=index: run["points"][index]["seconds_for_one"])
            fd = found.interval(name, "fd", index)
            line.points.append((1000 * seconds, fd.mean))
            line.labels.append(f"{point['steps']} steps" if len(points) > 1 else name)
            if fd.low is not None:
                line.low.append(max(0.0, fd.low))
                line.high.append(fd.high)
            rows.append(
                {
                    "Model": name,
                    "Steps": point["steps"],
                    "FD": with_ends(fd, 0.0),
                    "A picture, in a batch of 100": milliseconds(seconds),
                    "A step of it": milliseconds(seconds / point["steps"]),
                    "A picture alone": milliseconds(alone),
                    "FLOPs of a picture": flops(point["flops"]),
                }
            )
        series.append(line)
    caption = (
        "Further left is faster, lower is nearer to real pictures. Bands are 95 % intervals over the seeds; those of "
        "single points are in the table. "
        f"Measured is {CLOCK_NAMES[found.results['settings']['clock']]}."
    )
    chart = Chart(
        "Frechet distance and time for a picture",
        "milliseconds for a picture",
        "FD",
        series,
        "line",
        True,
        False,
        caption,
        found.command,
    )
    table = Table(
        "The same in numbers",
        rows,
        "Medians over the runs. A picture alone is what one waits for; in a batch the processor is used better. A "
        "diffusion model draws by DDIM without guidance, or by the sampler of a flow.",
        found.command,
    )
    blocks = [chart, table]
    for name, path in found.results["pictures"]["steps"].items():
        text = "Each column begins with the same noise."
        blocks.append(Picture(f"Few steps and many: {name}", path, text, found.command))
    return Section("Quality against sampling time", blocks)


def curves_section(found: Found) -> Section:
    """The losses of the first seed, each on axes of its own: they can't be compared."""
    charts = []
    for name in found.names:
        log = found.runs[name][0]["log"]
        series = [
            Series(title, [(entry["seconds"], entry[key]) for entry in log if key in entry])
            for key, title in LOSSES.items()
            if any(key in entry for entry in log)
        ]
        if series:
            caption = f"Seed {found.runs[name][0]['seed']}. Losses of different families measure different things."
            charts.append(
                Chart(
                    f"Training: {name}", "seconds of training", "loss", series, caption=caption, command=found.command
                )
            )
    return Section("Training curves", charts)


def control_section(found: Found) -> Section:
    """Interpolations and how smooth they are."""
    pictures = [
        Picture(f"Interpolation: {name}", path) for name, path in found.results["pictures"]["interpolation"].items()
    ]
    text = (
        "Each row goes from one picture that the model draws to another: straight through a VAE's latents, on the "
        "sphere through a GAN's latents and through the first noise of a diffusion model, which is drawn without "
        "further noise (DDIM)."
    )
    titles = {"largest_step": "Largest step", "detour": "Detour", "near_real": "Near real pictures"}
    rows = []
    for name in found.judged:
        row = {"Model": name}
        for key, title in titles.items():
            interval = found.over_seeds(name, lambda run, key=key: run["control"][key])
            row[title] = with_ends(interval, *((0.0, 1.0) if key == "near_real" else (1.0, None)))
        rows.append(row)
    fade = found.results["cross_fade"]
    rows.append({"Model": FADE, **{title: number(fade[key]) for key, title in titles.items()}})
    caption = (
        f"Of {POINTS} pictures on each way, in the features of the judge. Largest step: the largest distance between "
        f"neighbours over the mean one, the median over the ways; 1 is even, {POINTS - 1} is one jump. Detour: the "
        "way's length over the distance of its ends; 1 is straight. Near real pictures: the share of the pictures in "
        "between that lie in the neighbourhood of a real one. Distances follow the perceptual path length of Karras "
        "et al. (2019), with these features in place of LPIPS. A cross-fade of real pictures is what no control at "
        "all gives."
    )
    best = {"Largest step": "low", "Detour": "low", "Near real pictures": "high"}
    table = Table("How smooth the ways are", rows, caption, found.command, best, [FADE])
    return Section("Latent control", [Pictures("Interpolations", pictures, text, found.command), table])


def cost_section(found: Found) -> Section:
    """Parameters, memory, FLOPs and seconds."""
    blocks = []
    if found.is_trained:
        columns = {name: training_cost(found, name) for name in found.names}
        first = next(iter(columns.values()))
        rows = [{"Of a run": line, **{name: column[line] for name, column in columns.items()}} for line in first]
        rows = [row for row in rows if any(row[name] for name in columns)]
        peak = "; the peak is what torch had allocated on the GPU" if rows[-1]["Of a run"] == PEAK else ""
        caption = (
            "Means over the seeds, in all three currencies. Steps are optimizer steps; of a GAN each is one phase, "
            "the discriminator's or the generator's. Seconds are those between the beginning and the end of optimizer "
            "steps. FLOPs are those of matrix products and convolutions, forward and backward, counted in one step of "
            "each phase. Memory is that of weights with their moving averages, gradients and the optimizer's state, "
            f"counted, without activations{peak}."
        )
        blocks.append(Table("Training", rows, caption, found.command))
    rows = [
        {
            "Model": name,
            "Parameters for sampling": f"{found.whole[name][0]['sampling_parameters']:,}",
            "Their size": f"{found.whole[name][0]['sampling_bytes'] / 1e6:.2f} MB",
            "FLOPs of a picture": flops(found.whole[name][0]["points"][-1]["flops"]),
            "Time of a picture": milliseconds(found.median(name, seconds_of)),
        }
        for name in found.judged
    ]
    text = "What drawing needs: a VAE's decoder, a GAN's generator, a diffusion model's network, called once for each step."
    return Section("Cost", [*blocks, Table("Sampling", rows, text, found.command)])


def training_cost(found: Found, name: str) -> dict[str, str]:
    """What the training of a model took, line by line."""
    runs = found.runs[name]
    plan, first = found.results["plans"][runs[0]["family"]], runs[0]
    kept = first["weight_bytes"] + first["gradient_bytes"] + first["optimizer_bytes"]
    seconds, steps = _mean(runs, "seconds"), _mean(runs, "steps")
    after = statistics.mean(run.get("after_seconds", 0.0) for run in runs)
    return {
        "Trained parameters": f"{first['parameters']:,}",
        "Optimizer steps": number(steps),
        "Seconds in steps": number(seconds),
        "FLOPs": flops(_mean(runs, "flops")),
        "Images seen": number(_mean(runs, "images")),
        "A step": f"{milliseconds(seconds / max(1, steps))}, {flops(plan['step_flops'])}",
        "Whole run, with data and logs": f"{number(_mean(runs, 'whole_seconds'))} s",
        "Fitting a prior after it": f"{number(after)} s" if after > 1e-3 else "",
        "Memory between steps": f"{kept / 1e6:.1f} MB",
        PEAK: "" if first["peak_bytes"] is None else f"{first['peak_bytes'] / 1e6:.0f} MB",
    }


def _mean(runs: list[dict], key: str) -> float:
    return statistics.mean(run[key] for run in runs)
