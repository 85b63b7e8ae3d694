"""
Distils a classifier: trains a teacher if asked to, a student alone and the same student distilled, and compares them.

    accelerate launch recipes/distill.py
    accelerate launch recipes/distill.py --config recipes/distill/fashion_mnist.yaml
    accelerate launch recipes/distill.py --dataset_name beans --teacher_model_name_or_path me/vit-beans \
        --student_model_name_or_path apple/mobilevit-small --output_dir student --push_to_hub

Without --config or --dataset_name it runs recipes/distill/digits.yaml. The output folder gets the distilled student of
the first seed, its model card (README.md), curves.png and results.json; the other runs stay in its folder runs/.
"""

import shlex
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import DataArguments, DistillationConfig, DistillationTrainer, GenkitParser, TeacherStudentArguments
from hf_genkit.arguments import recipe_terminal
from hf_genkit.compress import ModelPair
from hf_genkit.data import ClassificationData, load_data
from hf_genkit.hub import check_push_access
from hf_genkit.trainers import ComparisonReport, OneLineProgress, last_whole_checkpoint


def main(argv: list[str]) -> None:
    command = f"accelerate launch recipes/distill.py {shlex.join(argv)}".strip()
    if not any(word.startswith(("--config", "--dataset_name", "--dataset-name")) for word in argv):
        argv = ["--config", str(Path(__file__).with_suffix("") / "digits.yaml"), *argv]
    parser = GenkitParser((TeacherStudentArguments, DataArguments, DistillationConfig))
    pair_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    out = Path(args.output_dir)
    if args.push_to_hub:
        check_push_access(args.hub_model_id or out.absolute().name, args.hub_token)

    set_seed(args.seed)
    with PartialState().main_process_first():
        data = ClassificationData(load_data(**data_args.for_loading()), **data_args.columns())
        report = ComparisonReport(pair_args, data_args, args, data, command)
        pair = ModelPair(pair_args, data, args, image_size=data_args.image_size)
    labelled, everything = data.training_splits(data_args.labelled_samples, args.seed)

    @cache
    def inputs(split, *processors, augmentation=None):
        options = {"augmentation": augmentation, "seed": args.seed, **data_args.for_inputs()}
        with PartialState().main_process_first():
            return data.inputs(split, *processors, **options)

    def train(name, model, teacher, split, *processors, **changes) -> DistillationTrainer:
        trainer = DistillationTrainer(
            model,
            teacher,
            replace(args, **changes),
            train_dataset=inputs(split, *processors, augmentation=data_args.augmentation),
            eval_dataset=inputs(data.evaluation_split, *processors),
            data_collator=data.collator(*processors),
            processing_class=processors[0],
            teacher_processing_class=processors[-1],
        )
        OneLineProgress.show(trainer, name)
        if pair_args.cache_only and teacher is not None:
            sys.exit(f"The teacher cache holds {trainer.fill_teacher_cache()} samples.")
        folder = trainer.args.output_dir
        trainer.train(last_whole_checkpoint(folder) if args.resume_from_checkpoint else None)
        return trainer

    if pair_args.teacher_epochs > 0:
        changes = {"num_train_epochs": pair_args.teacher_epochs, "learning_rate": pair_args.teacher_learning_rate}
        changes |= {"output_dir": str(out / "runs" / "teacher"), "alpha": 0.0, "push_to_hub": False}
        train("teacher", pair.teacher, None, labelled, pair.teacher_processor, **changes)
