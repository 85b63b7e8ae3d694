# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit"]
# ///
"""
Transfer learning with few labels: one pre-trained model, of which several parts are frozen in turn, against the same
architecture from scratch.

    accelerate launch recipes/transfer.py
    accelerate launch recipes/transfer.py --config recipes/transfer/elpv.yaml
    accelerate launch recipes/transfer.py --dataset_name beans --model_name_or_path facebook/dinov2-small \
        --labelled_samples 500 --variants first:5 all none scratch --output_dir beans --push_to_hub

Without --config or --dataset_name it runs recipes/transfer/digits.yaml, which pre-trains the model itself. The output
folder gets the variant that was best on the validation split, of the first seed, its model card (README.md), curves.png
and results.json; all runs stay in its folder runs/.
"""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import DataArguments, GenkitParser
from hf_genkit.arguments import TransferArguments, recipe_command, recipe_terminal
from hf_genkit.data import load_data
from hf_genkit.trainers import FineTuningConfig, FineTuningTrainer, last_whole_checkpoint
from hf_genkit.trainers.progress import show_one_line
from hf_genkit.tuning.transfer import Transfer
from hf_genkit.tuning.transfer_report import TransferReport, variant_name


def main(argv: list[str]) -> None:
    command = recipe_command(["recipes/transfer.py", *argv])
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((TransferArguments, DataArguments, FineTuningConfig), default)
    transfer_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    with PartialState().main_process_first():
        transfer = Transfer(transfer_args, data_args, load_data(**data_args.for_loading()))
    report = TransferReport(transfer_args, data_args, args, command)
    runs, data, processor = Path(args.output_dir) / "runs", transfer.data, transfer.processor

    @cache
    def inputs(of, split, augmentation=None):
        with PartialState().main_process_first():
            return of.inputs(split, processor, augmentation=augmentation, seed=args.seed, **data_args.for_inputs())

    def train(name, model, of, split, folder, **changes) -> FineTuningTrainer:
        trainer = FineTuningTrainer(
            model,
            replace(args, output_dir=str(runs / folder), push_to_hub=False, **changes),
            train_dataset=inputs(of, split, data_args.augmentation),
            eval_dataset=inputs(of, of.evaluation_split),
            data_collator=of.collator(processor),
            processing_class=processor,
        )
        resume_from = last_whole_checkpoint(trainer.args.output_dir) if args.resume_from_checkpoint else None
        show_one_line(trainer, name).train(resume_from)
        return trainer

    samples = {seed: data.training_splits(data_args.labelled_samples, seed)[0] for seed in transfer_args.seeds}
    if transfer_args.model_config is not None:
        set_seed(args.seed)
        source, options = transfer.pretraining_data, transfer_args.pretraining_options()
        backbone = train(
            "pre-training", transfer.new_backbone(), source, source.splits["train"], "pretraining", **options
        )
        transfer.use_backbone(backbone)
    for variant in transfer_args.variants:
        for seed in transfer_args.seeds:
            set_seed(seed)
            options = {"seed": seed, "learning_rate": transfer_args.learning_rate_of(variant, args.learning_rate)}
            name, folder = variant_name(variant), f"{variant.replace(':', '-')}-seed-{seed}"
            trainer = train(
                f"{name}, seed {seed}", transfer.new_model(variant), data, samples[seed], folder, **options
            )
            report.add(variant, trainer, inputs(data, data.test_split))
    exported = report.write(data, labels=len(samples[transfer_args.seeds[0]]))
    if args.push_to_hub:
        exported.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
