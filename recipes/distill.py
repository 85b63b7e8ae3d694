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
from hf_genkit.trainers import ComparisonReport, last_whole_checkpoint
from hf_genkit.trainers.progress import show_one_line


def main(argv: list[str]) -> None:
    command = f"accelerate launch recipes/distill.py {shlex.join(argv)}".strip()
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((TeacherStudentArguments, DataArguments, DistillationConfig), default)
    pair_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    report = ComparisonReport(pair_args, data_args, args, command)
    set_seed(args.seed)
    with PartialState().main_process_first():
        data = ClassificationData(load_data(**data_args.for_loading()), **data_args.columns())
        pair = ModelPair(pair_args, data, args, image_size=data_args.image_size)
        pair.new_student()  # one that can't be built is refused before the teacher trains
    labelled, everything = data.training_splits(data_args.labelled_samples, args.seed)

    @cache
    def inputs(split, *processors, augmentation=None):
        options = {"augmentation": augmentation, "seed": args.seed, **data_args.for_inputs()}
        with PartialState().main_process_first():
            return data.inputs(split, *processors, **options)

    def trainer_for(name, model, teacher, split, *processors, **changes) -> DistillationTrainer:
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
        return show_one_line(trainer, name)

    out = Path(args.output_dir)
    resume_from = last_whole_checkpoint if args.resume_from_checkpoint else lambda folder: None
    elsewhere = args.resume_from_checkpoint if isinstance(args.resume_from_checkpoint, str) else None
    if pair_args.teacher_epochs > 0:
        changes = {"num_train_epochs": pair_args.teacher_epochs, "learning_rate": pair_args.teacher_learning_rate}
        changes |= {"output_dir": str(out / "runs" / "teacher"), "alpha": 0.0, "push_to_hub": False}
        trainer = trainer_for("teacher", pair.teacher, None, labelled, pair.teacher_processor, **changes)
        trainer.train(resume_from(trainer.args.output_dir))
    if args.teacher_cache == "auto" and data_args.augmentation is None and not data.is_streamed:
        args.teacher_cache = str(out / "teacher_cache")  # all students share it

    processors, exported = (pair.processor, pair.teacher_processor), None
    for seed in pair_args.seeds:
        for kind in ("distilled", "alone") if pair_args.baseline else ("distilled",):
            split, alpha = (everything, args.alpha) if kind == "distilled" else (labelled, 0.0)
            exports = kind == "distilled" and exported is None
            changes = {"output_dir": str(out if exports else out / "runs" / f"{kind}-seed-{seed}"), "seed": seed}
            changes |= {"alpha": alpha, "push_to_hub": args.push_to_hub and exports}
            if split is not everything:  # as many steps on fewer samples
                changes["num_train_epochs"] = args.num_train_epochs * len(everything) / len(labelled)
            set_seed(seed)
            name, student = f"student, {kind}", pair.new_student()
            trainer = trainer_for(f"{name}, seed {seed}", student, pair.teacher, split, *processors, **changes)
            if pair_args.cache_only:
                return trainer.accelerator.print(f"The teacher cache holds {trainer.fill_teacher_cache()} samples.")
            trainer.train((exports and elsewhere) or resume_from(trainer.args.output_dir))
            report.add(name, seed, trainer, inputs(data.test_split, *processors))
            exported = trainer if exports else exported
    report.write(exported, data, baseline="student, alone")
    if args.push_to_hub:
        exported.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
