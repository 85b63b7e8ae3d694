"""
Whether a gradient depends on how a batch is cut: 8 samples in one, two or four micro-batches, on one process or two.

    python benchmarks/exactness.py
    python benchmarks/exactness.py --peers FOLDER    # other packages' trainers, too

Each head is trained by each method (tiny models with random weights, samples of other lengths, labels unevenly
spread); the gradient of an optimizer step is held against that of the whole batch on one process: the ratio of their
norms may differ from 1 by 100 millionths, and their cosine, too. Terms that relate the samples of a batch to each other
are computed for each micro-batch; they are shown and not judged.

Beside it, measured the same way: stock `Trainer` with the models' own losses, and, from the folder of `--peers`
(`pip install --no-deps --target FOLDER trl==1.16.0 nvidia-modelopt==0.47.0 omegaconf antlr4-python3-runtime==4.9.3
pulp nvidia-ml-py`), TRL's `GKDTrainer` and
`DistillationTrainer` (with given completions in place of drawn ones) and ModelOpt's `KDTrainer`.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from common import ROOT, write_result
from safetensors.torch import load_file, save_file
from transformers.utils import logging


sys.path.insert(0, str(ROOT))  # the tests' tiny models

from exactness_cases import CUTS, GLOBAL_BATCH, Case, cases
from exactness_peers import peer_cases


WHOLE = "8x1, 1 process"
MILLION = 1_000_000


def cell(cut: str, world: int) -> str:
    return f"{cut}, {world} process{'es' if world > 1 else ''}"


def measure(found: list[Case], world: int, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The gradients of all cases and cuts, and for those that can't be trained the first line of the error."""
    gradients, errors, runs = {}, {}, {}
    for case in found:
        for cut, parts in CUTS.items():
            options = {
                "per_device_train_batch_size": GLOBAL_BATCH // parts // world,
                "gradient_accumulation_steps": parts,
            }
            key = (id(case.train), cut)
            try:
                if key not in runs:
                    runs[key] = case.train(folder / f"{world}-{len(runs)}", **options)
                gradients[f"{case.name} | {cell(cut, world)}"] = runs[key][case.step].clone()
            except Exception as error:  # what another package raises
                if case.judged:
                    raise
                first = (str(error).splitlines() or [""])[0]
                errors[f"{case.name} | {cell(cut, world)}"] = f"{type(error).__name__}: {first}"
    return gradients, errors


def compare(case: Case, gradients: dict[str, torch.Tensor], errors: dict[str, str]) -> dict[str, dict | str]:
    """For each cut and number of processes, the norm over that of the whole batch and the cosine with it, or an error."""
    whole = gradients.get(f"{case.name} | {WHOLE}")
    row = {}
    for name in (cell(cut, world) for world in (1, 2) for cut in CUTS):
        key = f"{case.name} | {name}"
        if key in errors or whole is None:
            row[name] = errors.get(key, "nothing to compare with")
        elif gradients[key].shape != whole.shape:
            row[name] = f"a gradient of {len(gradients[key])} numbers instead of {len(whole)}"
        elif not gradients[key].isfinite().all():
            row[name] = "a gradient that is not finite"
        else:
            one, other = whole.double(), gradients[key].double()
            cosine = torch.dot(one, other) / (one.norm() * other.norm())
            row[name] = {"ratio": (other.norm() / one.norm()).item(), "cosine": min(cosine.item(), 1.0)}
    return row


def on_two_processes(folder: Path, peers: str | None, only: str | None) -> tuple[dict, dict]:
    """What [`measure`] returns for two gloo processes, which run this script again."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    options = {"--worker": str(folder), "--peers": peers, "--only": only}
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    command = [sys.executable, *launcher, __file__, *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return load_file(folder / "gradients.safetensors"), json.loads((folder / "errors.json").read_text())


def work(found: list[Case], folder: Path) -> None:
    """One of the two processes."""
    gradients, errors = measure(found, 2, folder)
    assert torch.distributed.get_world_size() == 2
    if torch.distributed.get_rank() == 0:
        save_file(gradients, folder / "gradients.safetensors")
        (folder / "errors.json").write_text(json.dumps(errors))
    torch.distributed.barrier()


def farthest(rows: list[dict]) -> tuple[float, float, float]:
    """Lowest and highest ratio and lowest cosine of all cells."""
    cells = [value for row in rows for value in row.values()]
    return min(c["ratio"] for c in cells), max(c["ratio"] for c in cells), min(c["cosine"] for c in cells)


def table(found: list[Case], rows: dict[str, dict]) -> str:
    """One line for each method, over its heads."""
    lines = ["| Method | Heads | Norm off by (millionths) | Cosine below 1 by (millionths) |", "|---|---|---|---|"]
    for method in dict.fromkeys(case.method for case in found):
        cases_of = [case for case in found if case.method == method]
        low, high, cosine = farthest([rows[case.name] for case in cases_of])
        off, below = MILLION * max(high - 1, 1 - low), MILLION * (1 - cosine)
        title = method if cases_of[0].judged else f"{method} (relates samples; not judged)"
        lines.append(f"| {title} | {len(cases_of)} | {off:,.2g} | {below:,.2g} |".replace("e+0", "e"))
    return "\n".join(lines)


def peer_table(found: list[Case], rows: dict[str, dict]) -> str:
    """One line for each other trainer: ratio of the norms and, below 0.9999, cosine of each cut."""
    cells = [cell(cut, world) for world in (1, 2) for cut in CUTS][1:]
    lines = [f"| Trainer | Head | {' | '.join(cells)} |", f"|---|---|{'---|' * len(cells)}"]
    for case in found:
        texts = []
        for name in cells:
            value = rows[case.name][name]
            if isinstance(value, str):
                texts.append(value.split(":")[0])
            else:
                texts.append(
                    f"{value['ratio']:.3f}" + (f" (cos {value['cosine']:.3f})" if value["cosine"] < 0.9999 else "")
                )
        lines.append(f"| {case.method} | {case.head} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="Folder with trl and modelopt, installed without their dependencies.")
    parser.add_argument("--only", help="Cases whose name holds this text; nothing is written.")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.argv = ["FOLDER" if word == args.peers else word for word in sys.argv]  # no local path in the results
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    ours, others = (
        [case for case in found if (args.only or "") in case.name] for found in (cases(), peer_cases(args.peers))
    )
    gc.collect()
    gc.freeze()  # each training begins by collecting garbage, for which all imported modules are walked through
    if args.worker is not None:
        return work([*ours, *others], args.worker)

    start, cpu = time.time(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        gradients, errors = measure([*ours, *others], 1, Path(folder))
        own_cpu = time.process_time() - cpu
        more, more_errors = on_two_processes(Path(folder), args.peers, args.only)
    errors |= more_errors
    rows = {case.name: compare(case, gradients | more, errors) for case in [*ours, *others]}
    markdown, peers = table(ours, rows), peer_table(others, rows)
    print(f"\n{markdown}\n\n{peers}\n")
    if args.only:
        return None
    judged = [rows[case.name] for case in ours if case.judged]
    low, high, cosine = farthest(judged)
    children = os.times()
    details = {
        "batch": GLOBAL_BATCH,
        "cells": rows,
        "cpu_seconds": {
            "one process": round(own_cpu),
            "two processes": round(children.children_user + children.children_system),
        },
        "markdown": {"methods": markdown, "peers": peers},
        "notes": dict(sorted(errors.items())),
        "peers": {name: version(name) for name in ("trl", "nvidia-modelopt")} if args.peers else {},
    }
    count = f"{len(judged)} pairs of a head and a method, each cut in 5 other ways"
    seconds = time.time() - start
    write_result(
        "exactness-norm",
        claim=f"Norm of the gradient against that of the whole batch, off by at most ({len(judged)} heads x methods, any cut)",
        value=MILLION * max(high - 1, 1 - low),
        bar=100,
        at_least=False,
        spread=(MILLION * (low - 1), MILLION * (high - 1)),
        spread_kind=f"lowest and highest of {count}",
        seconds=seconds,
        details=details,
        unit="ppm",
    )
    write_result(
        "exactness-direction",
        claim=f"Cosine of the gradient with that of the whole batch, below 1 by at most ({len(judged)} heads x methods, any cut)",
        value=MILLION * (1 - cosine),
        bar=100,
        at_least=False,
        spread=(0.0, MILLION * (1 - cosine)),
        spread_kind=f"lowest and highest of {count}",
        seconds=seconds,
        details={"see": "exactness-norm"},
        unit="ppm",
    )


if __name__ == "__main__":
    main()
