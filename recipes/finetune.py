# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[audio,bnb,peft]"]
# ///
"""
Fine-tunes a model, whole, in part or through an adapter, or trains it from scratch: classes, language, speech.

    accelerate launch recipes/finetune.py
    accelerate launch recipes/finetune.py --config recipes/finetune/shakespeare.yaml
    accelerate launch recipes/finetune.py --dataset_name cornell-movie-review-data/rotten_tomatoes \
        --model_name_or_path microsoft/MiniLM-L12-H384-uncased --peft lora --output_dir reviews --push_to_hub
    accelerate launch recipes/finetune.py --dataset_name trl-lib/Capybara \
        --model_name_or_path HuggingFaceTB/SmolLM2-135M-Instruct --peft qlora --max_length 512 --output_dir chat

Without --config or --dataset_name it runs recipes/finetune/digits.yaml. The task follows from the data and the model;
--task names it. The output folder gets the model, or the adapter alone, its card (README.md), curves.png and results.json.
"""

import sys
import time
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
from hf_genkit.arguments import recipe_terminal
from hf_genkit.trainers import finish_fine_tuning, judge_fine_tuning
from hf_genkit.trainers.progress import show_one_line
from hf_genkit.trainers.report import claim_comparison
from hf_genkit.trainers.tasks import LANGUAGE
from hf_genkit.tuning import FineTuning


def main(argv: list[str]) -> None:
    start, command = time.time(), ["recipes/finetune.py", *argv]
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser(
        (FineTuningModelArguments, AdaptationArguments, FineTuningDataArguments, FineTuningConfig), default
    )
    model_args, adaptation, data_args, args = parser.parse_args_into_dataclasses(argv)
    set_seed(args.seed)
    with PartialState().main_process_first():
        setup = FineTuning(model_args, adaptation, data_args)
        train = setup.inputs(setup.data.splits["train"], augmentation=data_args.augmentation, seed=args.seed)
        validation, test = setup.inputs(setup.data.evaluation_split), setup.inputs(setup.data.test_split)
    trainer = FineTuningTrainer(
        setup.new_model(),
        args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=setup.collator(),
        processing_class=setup.processor,
        callbacks=setup.callbacks(),
    )
    trainer.check_run(args.resume_from_checkpoint)
    claim_comparison(args, model_args, adaptation, data_args)
    knows_the_task = setup.task in LANGUAGE and model_args.model_name_or_path and not model_args.from_scratch
    before = judge_fine_tuning(trainer, test) if knows_the_task else None
    show_one_line(trainer, setup.task).train(args.resume_from_checkpoint)
    metrics = judge_fine_tuning(trainer, test)
    finish_fine_tuning(
        trainer,
        setup.data,
        data_args,
        test,
        metrics=metrics,
        before=before,
        command=command,
        seconds=time.time() - start,
    )
    if args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
