"""What a comparison of models that make pictures found, as a report."""

import statistics

from ..evaluation import METRIC_NAMES, paired_difference
from ..report.blocks import Report, Section, Table, Text
from .findings import Found, article, budget_words, capital, flops, milliseconds, number, seconds_of, with_ends
from .story_figures import control_section, cost_section, curves_section, samples_section, speed_section


LOWER = ("fd", "kid")
LARGEST = {"precision": 1.0, "recall": 1.0, "coverage": 1.0}
FLOOR = "real training images"
AXES = {
    "Architecture": "the networks that are trained",
    "Quality": "Frechet distance and precision, means over the seeds",
    "Variety": "recall, mean over the seeds",
    "Stability": "the spread over seeds, and a GAN's verdicts",
    "Sampling speed": "in batches of 100, on the hardware above",
    "Control": "evenness of interpolations, see below; 1 is even",
    "Compute": "means of a run, in three currencies",
}


def tell(results: dict) -> Report:
    """
    Results as a report, the answer first.

    Args:
        results (`dict`): As in results.json.
    """
    found = Found(results)
    sections = [quality_section(found), *([axes_section(found)] if found.is_trained else [])]
    sections += [samples_section(found), speed_section(found)]
    if found.is_trained:
        sections += [curves_section(found), stability_section(found)]
    sections += [control_section(found), cost_section(found), caveats_section(found)]
    names = ", ".join(found.names[:-1]) + f" and {found.names[-1]}" if len(found.names) > 1 else found.names[0]
    title = f"{names}: {'one data set, one budget' if found.is_trained else 'judged alike'}"
    return Report(title, summary(found), results["facts"], sections, results["command"])


# ---- The answer ----


def summary(found: Found) -> list[str]:
    """What came out, in a few sentences."""
    if not found.judged:
        return ["No model came to an end: all weights had become infinite or no numbers."]
    order, said = found.by_fd(), []
    best, floor = order[0], found.results["floor"][f"fd_{found.slug}"]
    said.append(
        f"Nearest to real pictures is {article(best)}: FD {with_ends(found.interval(best, 'fd'), 0.0)}, where as many real "
        f"pictures score {number(floor)}."
    )
    if len(order) > 1:
        others = ", ".join(f"{article(name)} {with_ends(found.interval(name, 'fd'), 0.0)}" for name in order[1:])
        said.append(f"The others: {others}.")
        said.append(difference(found, order[1], best))
    slow, fast = (
        pick(order, key=lambda name: found.median(name, lambda run: run["points"][-1]["seconds"]))
        for pick in (max, min)
    )
    if slow != fast:
        ratio = found.median(slow, seconds_of) / found.median(fast, seconds_of)
        said.append(
            f"{capital(article(fast))} draws fastest, {milliseconds(found.median(fast, seconds_of))} for a picture; "
            f"{article(slow)} takes {number(ratio)} times as long."
        )
    failed = [name for name in found.names if len(found.whole[name]) < len(found.runs[name])]
    if failed:
        said.append(f"Runs that ended without finite weights: {', '.join(failed)}.")
    return said


def difference(found: Found, worse: str, better: str) -> str:
    """One sentence on the paired difference of two models' Frechet distances."""
    pairs = [
        tuple(run["points"][-1]["scores"][f"fd_{found.slug}"] for run in (a, b))
        for a in found.whole[worse]
        for b in found.whole[better]
        if a["seed"] == b["seed"]
    ]
    if len(pairs) < 2:
        return "With a single seed there is no interval: the order may be chance."
    gap = paired_difference(*zip(*pairs, strict=True))
    shown = "shows a difference" if gap.low > 0 or gap.high < 0 else "includes zero, so no difference is shown"
    return (
        f"{capital(article(worse))} minus {article(better)}: {number(gap.mean)} FD, 95 % interval {number(gap.low)} "
        f"to {number(gap.high)} over {gap.n} paired seeds, which {shown}."
    )


# ---- Sections of text and tables ----


def quality_section(found: Found) -> Section:
    """The scores beside the floor."""
    rows = []
    for name in found.by_fd():
        row = {"Model": name}
        for metric, title in METRIC_NAMES.items():
            row[title] = with_ends(found.interval(name, metric), 0.0 if metric != "kid" else None, LARGEST.get(metric))
        rows.append({**row, "Runs": len(found.whole[name])})
    floor = {title: number(found.results["floor"][f"{metric}_{found.slug}"]) for metric, title in METRIC_NAMES.items()}
    rows.append({"Model": FLOOR, **floor})
    over = "trained" if found.is_trained else "drawn"
    caption = (
        f"Means over {len(found.seeds)} {over} seeds, with 95 % intervals of Student's t where there are two or more. "
        "FD and KID: lower is nearer to real pictures. Precision and density: how real single pictures look. Recall "
        "and coverage: how much of the real variety is there. The last row is the floor: what as many real training "
        "images score."
    )
    best = {title: "low" if metric in LOWER else "high" for metric, title in METRIC_NAMES.items()}
    return Section("Quality", [Table("Against the test pictures", rows, caption, found.command, best, [FLOOR])])


def axes_section(found: Found) -> Section:
    """The textbook's axes, each with what was measured."""
    columns = {name: axes(found, name) for name in found.names}
    rows = [
        {"Axis": axis, **{name: column.get(axis, "") for name, column in columns.items()}, "Measured as": meaning}
        for axis, meaning in AXES.items()
    ]
    caption = "What textbooks say in words, measured on one data set with one budget."
    return Section("The textbook's axes", [Table("VAE, GAN and diffusion model", rows, caption, found.command)])


def axes(found: Found, name: str) -> dict[str, str]:
    """A model on each of `AXES`; where no run came to an end, on those alone that need none."""
    runs = found.runs[name]
    column = {
        "Architecture": architecture(found, name),
        "Compute": f"{number(statistics.mean(run['steps'] for run in runs))} steps in "
        f"{number(statistics.mean(run['seconds'] for run in runs))} s, "
        f"{flops(statistics.mean(run['flops'] for run in runs))}",
    }
    if name not in found.judged:
        return {**column, "Stability": stability(found, name)}
    calls = found.whole[name][0]["points"][-1]["steps"]
    return column | {
        "Quality": f"FD {number(found.interval(name, 'fd').mean)}, precision {number(found.interval(name, 'precision').mean)}",
        "Variety": f"recall {number(found.interval(name, 'recall').mean)}",
        "Stability": stability(found, name),
        "Sampling speed": f"{milliseconds(found.median(name, seconds_of))} for a picture, {calls} pass{'es' * (calls > 1)}",
        "Control": f"largest step {number(found.median(name, lambda run: run['control']['largest_step']))} times the mean",
    }


def architecture(found: Found, name: str) -> str:
    """The network in a few words."""
    key = found.runs[name][0]["family"]
    texts = {
        "vae": "encoder and decoder, Gaussian latents",
        "gan": "generator against discriminator",
        "diffusion": "one UNet, called step by step",
    }
    return f"{texts[key]}; {found.runs[name][0]['parameters']:,} trained parameters"


def stability(found: Found, name: str) -> str:
    """The spread over seeds, and a GAN's verdicts."""
    runs, whole = found.runs[name], found.scores(name, "fd")
    parts = [] if len(whole) < 2 else [f"FD {number(min(whole))} to {number(max(whole))} over seeds"]
    verdicts = sorted({run["verdict"] for run in runs if "verdict" in run})
    failed = len(runs) - len(found.whole[name])
    return "; ".join(parts + verdicts + ([f"{failed} of {len(runs)} runs not finite"] if failed else [])) or "one seed"


def stability_section(found: Found) -> Section:
    """How much the seeds differ, and what went wrong."""
    rows, notes = [], []
    for name in found.names:
        runs, row = found.runs[name], {"Model": name, "Runs": len(found.runs[name])}
        if found.whole[name]:
            fds = found.scores(name, "fd")
            spread = statistics.stdev(fds) / statistics.mean(fds) if len(fds) > 1 else None
            row |= {"FD, lowest": number(min(fds)), "FD, highest": number(max(fds))}
            row["Spread (deviation / mean)"] = "" if spread is None else f"{100 * spread:.1f} %"
        row["Not finite"] = sum(not run["finite"] for run in runs)
        row["Collapsed"] = sum(run.get("collapsed", False) for run in runs) if "verdict" in runs[0] else ""
        row["Verdicts"] = ", ".join(run["verdict"] for run in runs if "verdict" in run)
        rows.append(row)
        notes += [
            f"- Seed {run['seed']}: {run['verdict']}. {run['evidence'][0]}" for run in runs if run.get("evidence")
        ]
    caption = (
        "The same data and budget, only the seed differs. Verdicts are those of analyze_gan_stability, which reads "
        "the losses and the diversity of samples of a GAN; the losses of the others can't run away from each other."
    )
    blocks = [Table("What the seeds change", rows, caption, found.command)]
    return Section("Stability", blocks + ([Text(["What was seen of the GAN:", *notes])] if notes else []))


def caveats_section(found: Found) -> Section:
    """What the figures do not say."""
    count = found.results["settings"]["num_judged_pictures"]
    notes = [
        f"- FD and KID are measured with {count:,} pictures; FD is biased upwards by small numbers of pictures, so "
        "read it beside the floor, and compare it with values of the same features and number only.",
        "- The scores see what the vision model sees. Another extractor may order the models differently.",
    ]
    if found.is_trained:
        notes += [
            f"- A budget of {budget_words(found.results['settings']['budget'])} favours what learns in few steps. A diffusion model "
            "takes more of them and gains longer from more training: a larger budget may change the order.",
            "- The three networks are of like size, not equally good designs. Each family was given one set of "
            "options and none was searched for on these data.",
            "- A VAE's prior is fitted to its latents after the training, outside the budget; the seconds are in the "
            "table of costs.",
        ]
        if found.results["settings"]["budget"].endswith("steps"):
            notes.append(
                "- A step of one family costs another time and other FLOPs than a step of another, and a step of a "
                "GAN trains one of its two networks: see the table of costs."
            )
    else:
        notes.append(
            "- Nothing was trained here: intervals cover the pictures that were drawn, not the training of the models."
        )
    if len(found.seeds) < 3:
        notes.append("- One or two seeds are too few to tell small differences from chance.")
    return Section("What to keep in mind", [Text(notes)])
