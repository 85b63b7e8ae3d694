# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[audio,bnb,peft]"]
# ///
"""
Distils a model: trains a teacher if asked to, a student alone and the same student distilled, and compares them.

    accelerate launch recipes/distill.py
    accelerate launch recipes/distill.py --config recipes/distill/speech.yaml
    accelerate launch recipes/distill.py --dataset_name beans --teacher_model_name_or_path me/vit-beans \
        --student_model_name_or_path apple/mobilevit-small --output_dir student --push_to_hub

--method is offline, online, self or adversarial, and --help beside it shows what applies. The task follows from data and
models. Without --config or --dataset_name it runs recipes/distill/digits.yaml or, by another method, METHOD.yaml. The output
folder gets the first seed's distilled student, its card (README.md), curves.png and results.json; the rest is in its runs/.
"""

import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import FineTuningDataArguments, GenkitParser, add_lora
from hf_genkit.arguments import chosen_method, recipe_command, recipe_terminal
from hf_genkit.compress import ModelPair
from hf_genkit.trainers import ComparisonReport, last_whole_checkpoint
from hf_genkit.trainers.distillation_methods import METHODS, distilling_trainer, on_labels_alone, share_cache
from hf_genkit.trainers.progress import show_one_line


def main(argv: list[str]) -> None:
    command = recipe_command(["recipes/distill.py", *argv])
    method = chosen_method(argv)
    default = Path(__file__).with_suffix("") / f"{'digits' if method == 'offline' else method}.yaml"
    models_class, config_class = METHODS[method]
    parser = GenkitParser((models_class, FineTuningDataArguments, config_class), default)
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    report = ComparisonReport(model_args, data_args, args, command)
    set_seed(args.seed)
    with PartialState().main_process_first():
        models = ModelPair(model_args, data_args, args)
        models.new_students()  # what can't be built is refused before a teacher trains
        others = {Path(name).name: models.data.elsewhere(name) for name in model_args.also_test_on}
    data, processors = models.data, models.processors
    labelled, everything = data.training_splits(data_args.labelled_samples, args.seed)

    @cache
    def inputs(of, split, *processors, augmentation=None):
        with PartialState().main_process_first():
            return of.inputs(split, *processors, augmentation=augmentation, seed=args.seed)

    def new_students():
        students, rank = models.new_students(), models.lora_rank
        return students if rank is None else [add_lora(student, rank=rank) for student in students]

    def trainer_for(name, how, students, teachers, split, *processors):
        train = inputs(data, split, *processors, augmentation=data_args.augmentation)
        options = {"train_dataset": train, "eval_dataset": inputs(data, data.data.evaluation_split, *processors)}
        options |= {"data_collator": data.collator(*processors), "processing_class": processors[0]}
        return show_one_line(distilling_trainer(how, students, teachers, processors[-1], **options), name)

    out, runs = Path(args.output_dir), {"distilled": args, "alone": on_labels_alone(args)}
    resume_from = last_whole_checkpoint if args.resume_from_checkpoint else lambda folder: None
    checkpoint = args.resume_from_checkpoint if isinstance(args.resume_from_checkpoint, str) else None
    for number, teacher in enumerate(models.untrained_teachers):
        name = "teacher" if len(models.teachers) == 1 else f"teacher-{number}"
        changes = {"num_train_epochs": model_args.teacher_epochs, "learning_rate": model_args.teacher_learning_rate}
        changes |= {"output_dir": str(out / "runs" / name), "max_steps": -1, "push_to_hub": False}
        how = replace(runs["alone"], **changes)
        trainer = trainer_for(name, how, partial(list, [teacher]), [], labelled, models.teacher_processor)
        trainer.train(resume_from(trainer.args.output_dir))
    if models.teachers:
        share_cache(runs.values(), data, out / "teacher_cache")

    exported, test = None, inputs(data, data.data.test_split, *processors)
    others = {name: inputs(other, other.data.test_split, *processors) for name, other in others.items()}
    for seed in models.seeds:
        for kind, how in list(runs.items())[: 2 if model_args.baseline else 1]:
            exports, split = kind == "distilled" and exported is None, everything if kind == "distilled" else labelled
            changes = {"output_dir": str(out if exports else out / "runs" / f"{kind}-seed-{seed}"), "seed": seed}
            changes |= {"push_to_hub": args.push_to_hub and exports}
            if split is not everything:  # as many steps on fewer samples
                changes["num_train_epochs"] = how.num_train_epochs * len(everything) / len(labelled)
            set_seed(seed)
            name, how = f"student, {kind}, seed {seed}", replace(how, **changes)
            trainer = trainer_for(name, how, new_students, models.teachers, split, *processors)
            if models.fills_cache_only:
                return trainer.accelerator.print(f"The teacher cache holds {trainer.fill_teacher_cache()} samples.")
            trainer.train((exports and checkpoint) or resume_from(trainer.args.output_dir))
            report.add(kind, seed, trainer, test, others)
            exported = trainer if exports else exported
    report.write(exported, data)
    if args.push_to_hub:
        exported.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
