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
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import DataArguments, DistillationConfig, DistillationTrainer, GenkitParser, TeacherStudentArguments
from hf_genkit.compress import ModelPair
from hf_genkit.data import ClassificationData, load_data
from hf_genkit.hub import check_push_access
from hf_genkit.trainers import ComparisonReport, last_whole_checkpoint


def main(argv: list[str]) -> None:
    if not any(word.startswith(("--config", "--dataset_name")) for word in argv):
        argv = ["--config", str(Path(__file__).with_suffix("") / "digits.yaml"), *argv]
    parser = GenkitParser((TeacherStudentArguments, DataArguments, DistillationConfig))
    pair_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    out = Path(args.output_dir)
    if args.push_to_hub:
        check_push_access(args.hub_model_id or out.absolute().name, args.hub_token)

    with PartialState().main_process_first():
        data = ClassificationData(load_data(**data_args.for_loading()), **data_args.columns())
        pair = ModelPair(pair_args, data, args, image_size=data_args.image_size)
    labelled, everything = data.training_splits(data_args.labelled_samples, args.seed)

    def inputs(split, processors, augmentation=None):
        with PartialState().main_process_first():
            options = {"augmentation": augmentation, "seed": args.seed, **data_args.for_inputs()}
            return data.inputs(split, *processors, **options)

    def trainer_for(model, teacher, split, processors, config: DistillationConfig) -> DistillationTrainer:
        return DistillationTrainer(
            model,
            teacher,
            config,
            train_dataset=inputs(split, processors, data_args.augmentation),
            eval_dataset=inputs(data.evaluation_split, processors),
            data_collator=data.collator(*processors),
            processing_class=processors[0],
            teacher_processing_class=processors[-1],
        )

    def train(trainer: DistillationTrainer) -> None:
        folder = trainer.args.output_dir
        trainer.train(last_whole_checkpoint(folder) if args.resume_from_checkpoint else None)

    if pair_args.teacher_epochs > 0:
        options = {"num_train_epochs": pair_args.teacher_epochs, "learning_rate": pair_args.teacher_learning_rate}
        config = replace(args, output_dir=str(out / "runs" / "teacher"), alpha=0.0, push_to_hub=False, **options)
        train(trainer_for(pair.teacher, None, labelled, [pair.teacher_processor], config))
    if args.teacher_cache == "auto" and data_args.augmentation is None and not data.is_streamed:
        args = replace(args, teacher_cache=str(out / "teacher_cache"))  # all students share it

    report = ComparisonReport(data, data_args, command=f"accelerate launch recipes/distill.py {shlex.join(argv)}")
    processors = [pair.processor, pair.teacher_processor]
    exported = None
    for seed in pair_args.seeds:
        for name, alpha, split in (("distilled", args.alpha, everything), ("alone", 0.0, labelled)):
            if name == "alone" and not pair_args.baseline:
                continue
            exports = name == "distilled" and exported is None
            folder = out if exports else out / "runs" / f"{name}-seed-{seed}"
            push = args.push_to_hub and exports
            config = replace(args, output_dir=str(folder), alpha=alpha, seed=seed, push_to_hub=push)
            set_seed(seed)
            trainer = trainer_for(pair.new_student(), pair.teacher, split, processors, config)
            if pair_args.cache_only:
                print(f"The teacher cache holds {trainer.fill_teacher_cache()} samples.")
                return
            train(trainer)
            report.add(f"student, {name}", seed, trainer, inputs(data.test_split, processors))
            exported = trainer if exports else exported
    report.write(exported, baseline="student, alone")
    if args.push_to_hub:
        exported.push_to_hub()
    exported.accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1:])
