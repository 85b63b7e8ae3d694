"""The report of a comparison: what it must say of results that are known."""

import pytest

from hf_genkit.compare.findings import budget_words, flops, number, short_names, with_ends
from hf_genkit.compare.story import tell
from hf_genkit.evaluation import Interval
from hf_genkit.report.blocks import Chart, Table
from hf_genkit.report.public import public


def run(name: str, family: str, seed: int, fds: list[float], **changes) -> dict:
    names = ("fd", "kid", "precision", "recall", "density", "coverage")
    points = [
        {
            "steps": steps,
            "scores": {f"{metric}_x": fd if metric == "fd" else 0.5 for metric in names} | {"kid_error_x": 0.1},
            "seconds": 0.001 * steps * (10 if family == "diffusion" else 1),
            "seconds_for_one": 0.01,
            "flops": 1000 * steps,
        }
        for steps, fd in enumerate(fds, 1)
    ]
    control = {"largest_step": 1.5, "detour": 2.0, "near_real": 0.9}
    found = {"name": name, "family": family, "seed": seed, "finite": True, "points": points, "control": control}
    found |= {"steps": 10, "seconds": 5.0, "flops": 1e9, "images": 640, "whole_seconds": 6.0}
    found |= {
        "parameters": 1000,
        "weight_bytes": 4000,
        "gradient_bytes": 4000,
        "optimizer_bytes": 8000,
        "peak_bytes": None,
    }
    found |= {"log": [{"step": 5, "loss": 3.0, "seconds": 2.5}], "sampling_parameters": 500, "sampling_bytes": 2000}
    if family == "gan":
        found |= {"verdict": "healthy", "evidence": ["All is well."], "collapsed": False}
    return found | changes


def results(runs: list[dict], **changes) -> dict:
    names = ("fd", "kid", "precision", "recall", "density", "coverage")
    plan = {"steps": 10, "step_seconds": 0.5, "step_flops": 1e8, "cycle": 1, "model_config": {}, "parameters": 1000}
    return {
        "runs": runs,
        "plans": dict.fromkeys(("vae", "gan", "diffusion"), plan),
        "floor": {f"{metric}_x": 0.1 for metric in names},
        "cross_fade": {"largest_step": 1.2, "detour": 1.1, "near_real": 0.5},
        "facts": {"Data": "digits"},
        "command": "accelerate launch recipes/compare.py",
        "slug": "x",
        "settings": {
            "budget": "10s",
            "clock": "cpu",
            "seeds": sorted({r["seed"] for r in runs}),
            "num_judged_pictures": 100,
        },
        "pictures": {"samples": {}, "interpolation": {}, "denoising": {}, "steps": {}},
    } | changes


def usual(gap: float = 0.0) -> list[dict]:
    runs = []
    for seed in (0, 1, 2):
        runs.append(run("VAE", "vae", seed, [9.0 + 0.1 * seed]))
        runs.append(run("GAN", "gan", seed, [5.0 + 0.1 * seed]))
        runs.append(run("diffusion model", "diffusion", seed, [8.0, 5.0 - gap + 0.3 * (seed - 1)]))
    return runs


def blocks(report, kind):
    return [block for section in report.sections for block in section.blocks if isinstance(block, kind)]


def table(report, title: str) -> Table:
    return next(block for block in blocks(report, Table) if block.title == title)


def test_the_answer_comes_first_and_says_whether_it_is_sure():
    sure, unsure = tell(results(usual(gap=3.0))).summary, tell(results(usual())).summary
    assert sure[0].startswith("Nearest to real pictures is the diffusion model: FD 2 (")
    assert any("which shows a difference" in sentence for sentence in sure)
    assert any("includes zero, so no difference is shown" in sentence for sentence in unsure)
    assert any("the diffusion model takes 20 times as long" in sentence for sentence in sure)


def test_the_table_shows_a_diffusion_model_with_its_most_steps():
    quality = table(tell(results(usual(gap=3.0))), "Against the test pictures")
    rows = {row["Model"]: row for row in quality.rows}
    assert rows["diffusion model"]["FD"].startswith("2 (")
    assert rows["VAE"]["Runs"] == 3
    assert [list(rows)[-1]] == quality.unranked == ["real training images"]


def test_every_number_of_steps_is_a_point_of_the_chart():
    (chart,) = [block for block in blocks(tell(results(usual())), Chart) if block.log_x]
    assert {series.name: len(series.points) for series in chart.series} == {"VAE": 1, "GAN": 1, "diffusion model": 2}
    assert chart.series[2].points[0][0] == pytest.approx(10)
    assert all(len(series.low) == len(series.points) for series in chart.series)


def test_a_single_seed_has_no_interval_and_says_so():
    runs = [one for one in usual() if one["seed"] == 0]
    report = tell(results(runs))
    assert "With a single seed there is no interval: the order may be chance." in report.summary
    assert "(" not in table(report, "Against the test pictures").rows[0]["FD"]
    (chart,) = [block for block in blocks(report, Chart) if block.log_x]
    assert not any(series.low for series in chart.series)


def test_runs_that_did_not_come_to_an_end_are_counted_and_left_out_of_means():
    runs = usual()
    runs[0] = {name: value for name, value in runs[0].items() if name not in ("points", "control")} | {"finite": False}
    report = tell(results(runs))
    assert "Runs that ended without finite weights: VAE." in report.summary
    rows = {row["Model"]: row for row in table(report, "What the seeds change").rows}
    assert (rows["VAE"]["Not finite"], rows["GAN"]["Not finite"]) == (1, 0)
    assert {row["Model"]: row.get("Runs") for row in table(report, "Against the test pictures").rows}["VAE"] == 2


def test_nothing_finite_is_told_without_figures():
    runs = [{**one, "finite": False} for one in usual()]
    assert tell(results(runs)).summary[0].startswith("No model came to an end")


def test_models_given_by_name_have_no_training_to_tell():
    runs = [
        {key: value for key, value in one.items() if key not in ("steps", "log", "verdict", "evidence", "collapsed")}
        for one in usual()
    ]
    report = tell(results(runs, plans={}))
    assert [section.title for section in report.sections] == [
        "Quality", "Samples", "Quality against sampling time", "Latent control", "Cost", "What to keep in mind",
    ]  # fmt: skip


def test_costs_without_a_value_have_no_row_and_no_senseless_number():
    runs = usual()
    for one in runs:
        one["after_seconds"] = 0.07 if one["name"] == "VAE" else 6.88e-7
    cost = table(tell(results(runs)), "Training")
    rows = {row["Of a run"]: row for row in cost.rows}
    assert "Peak memory" not in rows
    assert "peak" not in cost.caption
    prior = rows["Fitting a prior after it"]
    assert (prior["VAE"], prior["GAN"], prior["diffusion model"]) == ("0.07 s", "", "")
    assert all(any(value for name, value in row.items() if name != "Of a run") for row in cost.rows)
    on_gpu = table(tell(results([{**one, "peak_bytes": 5e6} for one in runs])), "Training")
    assert on_gpu.rows[-1] == {"Of a run": "Peak memory", **dict.fromkeys(("VAE", "GAN", "diffusion model"), "5 MB")}
    assert "the peak is what torch had allocated on the GPU" in on_gpu.caption


def test_no_distance_is_shown_below_zero():
    runs = [run("VAE", "vae", seed, [fd]) for seed, fd in enumerate((1.0, 9.0))]
    report = tell(results(runs))
    assert report.summary[0].startswith("Nearest to real pictures is the VAE: FD 5 (0 to ")
    assert table(report, "The same in numbers").rows[0]["FD"].startswith("5 (0 to ")
    (chart,) = [block for block in blocks(report, Chart) if block.log_x]
    assert chart.series[0].low == [0.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8steps", "8 steps"), ("1steps", "1 step"), ("30s", "30 seconds"), ("1m", "1 minute"), ("1.5h", "1.5 hours"),
        ("1e15flops", "1e15 FLOPs"),
    ],
)  # fmt: skip
def test_a_budget_is_told_in_words(text, words):
    assert budget_words(text) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 FLOPs"), (999, "999 FLOPs"), (999_700, "1 MFLOPs"), (3.9e7, "39 MFLOPs"), (1e9, "1 GFLOPs"), (2.5e18, "2.5 EFLOPs"), (5e22, "50,000 EFLOPs")],
)  # fmt: skip
def test_flops_have_a_unit(value, text):
    assert flops(value) == text


def test_shares_are_not_shown_outside_what_they_can_be():
    assert with_ends(Interval(0.9, 0.7, 1.4, 2), 0.0, 1.0) == "0.9 (0.7 to 1)"
    assert with_ends(Interval(3.0, -2.0, 8.0, 2), 0.0) == "3 (0 to 8)"
    assert with_ends(Interval(3.0, None, None, 1)) == "3"


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (0.012345, "0.0123"), (float("nan"), ""), (None, "")]
)
def test_numbers_have_the_digits_that_people_read(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("names", "short"), [
    (["me/vae", "/data/gan"], ["vae", "gan"]),
    (["/data/r1/student", "/data/r2/student", "me/teacher"], ["r1/student", "r2/student", "me/teacher"]),
    (["me/vae", "you/vae"], ["me/vae", "you/vae"]),
    (["me/vae", "me/vae"], ["me/vae", "me/vae"]),
])  # fmt: skip
def test_models_are_told_apart_by_as_little_of_their_names_as_it_takes(names, short):
    assert short_names(names) == short
    assert len(set(public(short))) == len(set(names)), "what is cut from local paths told them apart"
