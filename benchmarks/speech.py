"""
Whisper tiny.en and a student of two of its four decoder layers: word error rates, parameters, and seconds for each clip.

    python benchmarks/speech.py              # one epoch: 14 minutes of CPU time on one thread
    python benchmarks/speech.py --full       # two epochs: 23 minutes; the results here

Runs recipes/distill/speech.yaml, whose student shares the teacher's frozen encoder and is trained on 384 telephone prompts
of one speaker (Asterisk's): once on the teacher's answers and the transcripts, once, from the same weights, on the
transcripts alone. It is tested on 75 other prompts and on 10 read sentences of other speakers (LibriVox, from
pocketsphinx). Intervals are over clips; one seed. Needs what the recipe needs, in data/, and soundfile.
"""

import argparse
import os
import runpy
import tempfile
import time
from pathlib import Path

import torch
from common import ROOT, alternate, cpu_seconds, ratios, write_result
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, PreTrainedModel

from hf_genkit import FineTuningConfig, FineTuningDataArguments, FineTuningTrainer
from hf_genkit.evaluation import ratio_interval
from hf_genkit.trainers.task_data import TaskData
from hf_genkit.trainers.transcribing import Transcription, transcribe


# Epochs, clips that are timed, and how often.
SHORT, FULL = (1, 4, 3), (2, 6, 4)
TEACHER = ROOT / "data" / "whisper-tiny.en"


def train(folder: Path, epochs: int) -> dict[str, PreTrainedModel]:
    """The recipe's run: the teacher, the student alone and the distilled one."""
    os.chdir(ROOT)  # its data are named from there
    words = f"""
        --config recipes/distill/speech.yaml --output_dir {folder} --num_train_epochs {epochs} --bf16 true --use_cpu true
        --save_strategy epoch --save_only_model true --save_total_limit 1
    """
    runpy.run_path("recipes/distill.py")["main"](words.split())
    (alone,) = Path(folder, "runs", "alone-seed-0").glob("checkpoint-*")
    sources = {"teacher (tiny.en)": TEACHER, "student, alone": alone, "student, distilled": folder}
    return {
        name: AutoModelForSpeechSeq2Seq.from_pretrained(path, dtype="float32").eval() for name, path in sources.items()
    }


def seconds_per_clip(networks: dict, clips, timed: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each model for a clip, in turns, one clip at a time."""
    samples = [clips[number]["input_features"][None] for number in range(timed)]

    def write_down(network):
        with torch.inference_mode():
            for sample in samples:
                network.generate(input_features=sample, num_beams=1, do_sample=False)

    found = alternate({name: lambda n=n: cpu_seconds(lambda: write_down(n)) for name, n in networks.items()}, rounds)
    return {name: [spent / (2 * timed) for spent in turns] for name, turns in found.items()}


def table(written: dict[str, dict[str, Transcription]], networks: dict, seconds: dict[str, float]) -> str:
    """All figures side by side."""
    sets = list(next(iter(written.values())))
    lines = [
        f"| Model | {' | '.join(f'Word errors, {name}' for name in sets)} | Parameters | CPU time a clip |",
        f"|{'---|' * (len(sets) + 3)}",
    ]
    for name, found in written.items():
        rates = [(each.wer, each.interval) for each in found.values()]
        cells = [f"{rate:.3f} ({interval.low:.3f} to {interval.high:.3f})" for rate, interval in rates]
        size = f"{networks[name].num_parameters():,}"
        lines.append(
            f"| {name} | {' | '.join(cells)} | {size} | {seconds.get(name, seconds['student, distilled']):.2f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="two epochs")
    epochs, clips_timed, rounds = FULL if parser.parse_args().full else SHORT
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        networks = train(Path(folder), epochs)
        processor = AutoProcessor.from_pretrained(TEACHER)
        data = TaskData(
            FineTuningDataArguments(str(ROOT / "data" / "asterisk")), networks["student, distilled"].config
        )
        other = data.elsewhere(str(ROOT / "data" / "pocketsphinx"))
        tests = {
            "telephone prompts": data.inputs(data.data.test_split, processor),
            "read sentences": other.inputs(other.data.test_split, processor),
        }
        args = FineTuningConfig(folder, per_device_eval_batch_size=16, use_cpu=True, disable_tqdm=True)
        trainer = FineTuningTrainer(networks["student, distilled"], args, processing_class=processor)
        written = {
            name: {which: transcribe(trainer, clips, network) for which, clips in tests.items()}
            for name, network in networks.items()
        }
    timed = {name: network for name, network in networks.items() if name != "student, alone"}
    spent = seconds_per_clip(timed, tests["telephone prompts"], clips_timed, rounds)
    medians = {name: sorted(values)[len(values) // 2] for name, values in spent.items()}
    speedup, quartiles = ratios(spent["teacher (tiny.en)"], spent["student, distilled"])
    shown = table(written, networks, medians)
    print(shown, flush=True)
    shared = {
        "epochs": epochs,
        "parameters": {name: network.num_parameters() for name, network in networks.items()},
        "wer": {name: {which: round(each.wer, 4) for which, each in found.items()} for name, found in written.items()},
        "seconds_per_clip": {name: round(value, 3) for name, value in medians.items()},
        "markdown": shown,
    }
    seconds = time.perf_counter() - start
    for which, clips in tests.items():
        ours, theirs = (written[f"student, {kind}"][which] for kind in ("distilled", "alone"))
        saved = ratio_interval([b - a for a, b in zip(ours.errors, theirs.errors, strict=True)], ours.words)
        write_result(
            f"speech-{which.replace(' ', '_')}",
            claim=f"Word error rate that distillation saves a Whisper of two decoder layers, {which}",
            value=saved.mean,
            bar=0.0,
            at_least=True,
            spread=(saved.low, saved.high),
            spread_kind=f"95 % interval over {len(clips)} clips",
            seconds=seconds,
            details=shared,
            unit="WER",
        )
    write_result(
        "speech-speed",
        claim="Whisper tiny.en, two decoder layers of four: faster on one core",
        value=speedup,
        bar=1.0,
        at_least=True,
        spread=quartiles,
        spread_kind=f"quartiles of {rounds} paired rounds",
        seconds=seconds,
        details=shared,
    )


if __name__ == "__main__":
    main()
