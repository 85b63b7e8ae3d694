"""
What the head of a language model costs in distillation: forward KL and cross-entropy at temperature 2 from hidden
states, loss and gradients, half of the positions labelled, with the student's head trained and frozen.

    python benchmarks/lm_head.py --peers FOLDER          # 14 minutes; FOLDER has trl 1.16.0 and liger_kernel 0.8.5
    python benchmarks/lm_head.py --gpu --peers FOLDER    # 90 seconds on an H100: a larger problem in bfloat16

    pip install --no-deps --target FOLDER trl==1.16.0 liger_kernel==0.8.5

Contenders take turns: plain autograd over all positions ("naive"), the functions that TRL's and Liger's trainers call,
and hf_genkit's. TRL's computes no cross-entropy, so it does less than the others; on a CPU it projects all positions.
Liger's on a CPU is not compiled. Times are CPU time on one thread. Memory is counted: the bytes of all tensors alive at the worst
moment, beyond hidden states and weights. Accuracy is held against float64.

On a GPU: 8,192 labelled positions, 4,096 wide, 128,256 tokens, Jensen-Shannon divergence and cross-entropy, which Liger
publishes a time and a peak of memory for; the arithmetic of Liger and of hf_genkit is compiled there.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from common import alternate, cpu_seconds, ratios, write_result
from head_contenders import Problem, contenders, fused, liger, live_mib, naive, ours, soft_term


SIZES = {"32k": (32_000, 512, 1024), "152k": (151_936, 896, 512)}
PARTS = ["accuracy", *SIZES]
GPU_SIZE = (128_256, 4096, 8192)
TINY = (300, 16, 24)
TITLES = {"naive": "plain autograd", "trl": "TRL 1.16", "liger": "Liger 0.8.5"}
PUBLISHED = {"milliseconds": 60.7, "gigabytes": 11.1}
SOURCE = "Liger's benchmark data, distill_jsd_loss on one H100, full pass"


# ---- The claims ----


def measure(size, rounds: int) -> dict[str, dict]:
    """Seconds of each round, MiB and loss of each contender, with the head trained and frozen."""
    found = {}
    for head in ("trained", "frozen"):
        problem, runners = Problem.draw(size, trained=head == "trained"), contenders(gpu=False)
        seconds = alternate({name: cpu_timer(problem, run) for name, run in runners.items()}, rounds)
        found[head] = {
            "seconds": seconds,
            "mib": {name: round(live_mib(problem, run), 1) for name, run in runners.items()},
            "loss": {name: round(run(problem).item(), 7) for name, run in runners.items()},
        }
    return found


def cpu_timer(problem: Problem, run: Callable) -> Callable[[], float]:
    def step() -> None:
        problem.clear()
        run(problem).backward()

    return lambda: cpu_seconds(step)


def report_costs(name: str, size: tuple, rounds: int, write: Callable) -> None:
    """Time against each peer and memory against plain autograd, the worse of the two cases being the value."""
    start = time.time()
    found = measure(size, rounds)
    problem = dict(zip(("tokens", "width", "positions"), size, strict=True)) | {"labelled": 0.5, "temperature": 2.0}
    spent = {"milliseconds": {}, "mib": {}, "loss": {}}
    for head, values in found.items():
        each = values["seconds"].items()
        spent["milliseconds"][head] = {who: round(500 * statistics.median(seconds)) for who, seconds in each}
        spent["mib"][head], spent["loss"][head] = values["mib"], values["loss"]
    shared = {"seconds": time.time() - start, "at_least": False}
    for peer, bar in (("naive", 0.45), ("trl", 0.25), ("liger", 0.5)):
        if peer not in found["trained"]["seconds"]:
            continue
        pairs = {head: ratios(v["seconds"]["hf_genkit"], v["seconds"][peer]) for head, v in found.items()}
        worse = max(pairs, key=lambda head: pairs[head][0])
        write(
            f"lm_head-time_{peer}_{name}",
            claim=f"Time of head and loss, {name} tokens, against {TITLES[peer]}, the worse of head trained and frozen",
            value=pairs[worse][0],
            bar=bar,
            spread=pairs[worse][1],
            spread_kind=f"quartiles of {rounds} rounds",
            details={**problem, **spent, "ratios": {head: round(pair[0], 4) for head, pair in pairs.items()}},
            **shared,
        )
    pairs = {head: v["mib"]["hf_genkit"] / v["mib"]["naive"] for head, v in found.items()}
    value = max(pairs.values())
    write(
        f"lm_head-memory_{name}",
        claim=f"Memory of head and loss, {name} tokens, against plain autograd, the worse of head trained and frozen",
        value=value,
        bar={"32k": 0.4, "152k": 0.5}[name],
        spread=(value, value),
        spread_kind="counted, no spread",
        details={**problem, **spent, "ratios": {head: round(ratio, 4) for head, ratio in pairs.items()}},
        **shared,
    )


def report_parity(sizes: dict, write: Callable) -> None:
    """Largest relative error of loss and gradients in float32, each gradient by its norm."""
    start, errors = time.time(), {}
    for name, size in sizes.items():
        problem = Problem.draw(size, trained=True)
        valid = problem.labels != -100
        exact = problem.in_double(valid)
        expected = naive(exact)
        expected.backward()
        errors[name] = {}
        for who, run in contenders(gpu=False).items():
            if who == "trl":  # which has another loss
                continue
            problem.clear()
            loss = run(problem)
            loss.backward()
            pairs = [
                (loss, expected),
                (problem.hidden.grad[valid], exact.hidden.grad),
                (problem.weight.grad, exact.weight.grad),
            ]
            parts = [((a.double() - b).norm() / b.norm()).item() for a, b in pairs]
            errors[name][who] = dict(zip(("loss", "hidden", "weight"), parts, strict=True))
    value = 1e6 * max(max(found["hf_genkit"].values()) for found in errors.values())
    write(
        "lm_head-parity",
        claim="Largest relative error of the fused head's loss and gradients in float32",
        value=value,
        bar=1.0,
        at_least=False,
        spread=(value, value),
        spread_kind="one draw at 32k and one at 152k tokens",
        seconds=time.time() - start,
        details={"relative_errors": errors, "reference": "plain autograd in float64"},
        unit="ppm",
    )


def report_bfloat16(size: tuple, write: Callable) -> None:
    """Error of the mean divergence of a student that is nearly its teacher, in bfloat16."""
    start = time.time()
    problem = Problem.draw(size, trained=False, dtype=torch.bfloat16, noise=0.1)
    exact = problem.in_double(problem.labels != -100)
    valid = problem.labels != -100
    with torch.no_grad():
        expected = soft_term(exact, F.linear(exact.hidden, exact.weight)).mean().item()
        logits = F.linear(problem.hidden, problem.weight)
        found = {
            "naive": soft_term(problem, logits)[valid],
            "naive, softmax in bfloat16": soft_term(problem, logits, upcast=False)[valid],
            "hf_genkit": fused(problem).kd,
        }
        means = {name: values.float().mean().item() for name, values in found.items()}
        lowest = {name: values.min().item() for name, values in found.items()}
    if "liger" in contenders(gpu=False):
        means["liger"] = liger(problem, soft_alone=True).item()
    if lowest["hf_genkit"] < 0:
        raise SystemExit(f"A divergence in bfloat16 is negative: {lowest['hf_genkit']}.")
    value = 100 * abs(means["hf_genkit"] / expected - 1)
    write(
        "lm_head-bfloat16",
        claim="Error of the mean KL near convergence in bfloat16, where no item's is negative",
        value=value,
        bar=2.0,
        at_least=False,
        spread=(value, value),
        spread_kind="one draw",
        seconds=time.time() - start,
        details={"mean_kl": {"float64": expected, **means}, "lowest_item": lowest, "positions": size[2]},
        unit="%",
    )


# ---- On a GPU ----


def gpu_milliseconds(device: str, problem: Problem, run: Callable, rounds: int) -> list[float]:
    """Of each round, after three that don't count."""
    times = []
    for _ in range(3 + rounds):
        if device == "cpu":
            times.append(1000 * cpu_timer(problem, run)())
            continue
        problem.clear()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run(problem).backward()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last))
    return times[3:]


def peak_gigabytes(device: str, problem: Problem, run: Callable) -> float:
    problem.clear()
    if device == "cpu":
        return live_mib(problem, run) * 2**20 / 1e9
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(problem).backward()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def report_gpu(size: tuple, rounds: int, write: Callable) -> None:
    start, device = time.time(), "cuda" if torch.cuda.is_available() else "cpu"
    runners = {"hf_genkit": lambda p: ours(p, compiled=True), "hf_genkit, not compiled": ours}
    if "liger" in contenders(gpu=True):
        runners["liger"] = lambda p: liger(p, compiled=True)
    found = {}
    for head in ("trained", "frozen"):
        options = {"dtype": torch.bfloat16, "device": device, "labelled": 1.0, "temperature": 1.0, "beta": 0.5}
        problem = Problem.draw(size, trained=head == "trained", **options)
        found[head] = {}
        for name, run in runners.items():
            times = gpu_milliseconds(device, problem, run, rounds)
            found[head][name] = {
                "milliseconds": round(statistics.median(times), 2),
                "quartiles": [round(q, 2) for q in statistics.quantiles(times, n=4)[::2]],
                "gigabytes": round(peak_gigabytes(device, problem, run), 3),
                "loss": run(problem).item(),
            }
            print(head, name, found[head][name], f"{time.time() - start:.0f} s", flush=True)
        del problem  # before the next one is drawn
    details = {
        **dict(zip(("tokens", "width", "positions"), size, strict=True)),
        "found": found,
        "published": PUBLISHED,
    }
    shared = {"at_least": False, "seconds": time.time() - start, "details": details | {"published_in": SOURCE}}
    own = found["trained"]["hf_genkit"]
    write(
        "lm_head-gpu_time",
        claim="Head and loss of 8,192 positions and 128k tokens in bfloat16 on one GPU, against what Liger publishes",
        value=own["milliseconds"],
        bar=PUBLISHED["milliseconds"],
        spread=tuple(own["quartiles"]),
        spread_kind=f"quartiles of {rounds} rounds",
        unit="ms",
        **shared,
    )
    write(
        "lm_head-gpu_memory",
        claim="Peak of memory of the same, beyond hidden states and weights, against what Liger publishes",
        value=own["gigabytes"],
        bar=PUBLISHED["gigabytes"],
        spread=(own["gigabytes"],) * 2,
        spread_kind="one run",
        unit="GB",
        **shared,
    )
    for head in ("trained", "frozen") if "liger" in runners else ():
        theirs, own = found[head]["liger"], found[head]["hf_genkit"]
        write(
            f"lm_head-gpu_liger_{head}",
            claim=f"Time of the same against Liger in the same run, head {head}",
            value=own["milliseconds"] / theirs["milliseconds"],
            bar=1.0,
            spread=tuple(q / theirs["milliseconds"] for q in own["quartiles"]),
            spread_kind=f"quartiles of {rounds} rounds of hf_genkit over Liger's median",
            **shared,
        )


def show(name: str, value: float, bar: float, spread: tuple, **ignored) -> None:
    """What stands for [`write_result`] in a trial of the paths."""
    print(
        f"{name}: {value:.4g} ({spread[0]:.4g} to {spread[1]:.4g}), bar {bar}; a trial, nothing is written", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="Folder with trl and liger_kernel, installed without their dependencies.")
    parser.add_argument("--gpu", action="store_true", help="The large problem in bfloat16, and nothing else.")
    parser.add_argument("--tiny", action="store_true", help="Small sizes, to try all paths; nothing is written.")
    parser.add_argument("--rounds", type=int, help="Rounds that count: 3 of two runs on a CPU, 20 of one on a GPU.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="What to measure on a CPU.")
    args = parser.parse_args()
    if args.peers is not None:
        sys.path.insert(0, args.peers)
        sys.argv = [word.replace(args.peers, "FOLDER") for word in sys.argv]
    torch.set_num_threads(1)
    write = show if args.tiny else write_result
    if args.gpu:
        report_gpu(TINY if args.tiny else GPU_SIZE, args.rounds or 20, write)
        return
    sizes = dict.fromkeys(SIZES, TINY) if args.tiny else SIZES
    if "accuracy" in args.parts:
        report_bfloat16(sizes["32k"], write)
        report_parity(sizes, write)
    for name in [name for name in sizes if name in args.parts]:
        report_costs(name, sizes[name], args.rounds or 3, write)


if __name__ == "__main__":
    main()
