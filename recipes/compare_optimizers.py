# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[bnb]"]
# ///
"""
Trains the same model with several optimizers, draws their curves and prints what each reached and what it keeps in memory.

    accelerate launch recipes/compare_optimizers.py
    accelerate launch recipes/compare_optimizers.py --optimizers sgd:0.1 momentum:0.05 adamw:1e-3 --seeds 0 1 2 \
        --dataset_name beans --model_name_or_path facebook/dinov2-small --output_dir optimizers

Without --config or --dataset_name it runs recipes/compare_optimizers/digits.yaml. The output folder gets curves.png and
results.json; the runs stay in its folder runs/. Compare rates, too: an optimizer is as good as its learning rate.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import (
    AdaptationArguments,
    FineTuningConfig,
    FineTuningDataArguments,
    FineTuningModelArguments,
    FineTuningTrainer,
    GenkitParser,
)
from hf_genkit.arguments import OptimizerArguments, recipe_terminal
from hf_genkit.evaluation import mean_interval, plot_curves, text_table
from hf_genkit.trainers.finetuning_report import optimizer_bytes
from hf_genkit.trainers.progress import show_one_line
from hf_genkit.trainers.tasks import LANGUAGE
from hf_genkit.tuning import FineTuning


def main(argv: list[str]) -> None:
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser(
        (OptimizerArguments, FineTuningModelArguments, FineTuningDataArguments, FineTuningConfig), default
    )
    choice, model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    configs = {  # an unknown optimizer is refused before the first run
        (name, rate): replace(args, optim=name, optim_args=None, learning_rate=rate) for name, rate in choice.pairs
    }
    with PartialState().main_process_first():
        setup = FineTuning(model_args, AdaptationArguments(), data_args)
        train, test = setup.inputs(setup.data.splits["train"]), setup.inputs(setup.data.test_split)
        validation = setup.inputs(setup.data.evaluation_split)
    metric = "perplexity" if setup.task in LANGUAGE else "accuracy"
    out, histories, found, rows = Path(args.output_dir), {}, {}, []
    for (name, rate), config in configs.items():
        values, seconds, label = [], [], f"{name} {rate:g}"
        for seed in choice.seeds:
            set_seed(seed)
            folder = out / "runs" / f"{name}-{rate:g}-seed-{seed}"
            trainer = FineTuningTrainer(
                setup.new_model(),
                replace(config, output_dir=str(folder), seed=seed, push_to_hub=False),
                train_dataset=train,
                eval_dataset=validation,
                data_collator=setup.collator(),
                processing_class=setup.processor,
            )
            start = time.process_time()
            show_one_line(trainer, f"{label}, seed {seed}").train()
            seconds.append(time.process_time() - start)
            values.append(trainer.evaluate(test, metric_key_prefix="test")[f"test_{metric}"])
            histories.setdefault(label, []).append(list(trainer.state.log_history))
        interval, kept = mean_interval(values), optimizer_bytes(trainer.optimizer)
        found[label] = {f"test_{metric}": values, "optimizer_bytes": kept, "cpu_seconds": seconds}
        row = {"Optimizer": name, "Rate": f"{rate:g}", metric.capitalize(): f"{interval.mean:.4g}"}
        row["95 % interval"] = "" if interval.low is None else f"{interval.low:.4g} to {interval.high:.4g}"
        rows.append(row | {"State": f"{kept / 1e6:.2f} MB", "CPU": f"{sum(seconds) / len(seconds):.1f} s"})
    if trainer.is_world_process_zero():
        print(f"\n{text_table(rows)}\n")
        (out / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        plot_curves(histories, out / "curves.png", metric=f"eval_{metric}", x="step")
        print(f"curves.png and results.json are in {out}.")


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
