# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[bnb,onnx,prune,quantize]"]
# ///
"""
Makes a trained model smaller by a chain of links, and shows what each costs and gains: prune, mask, distil, quantize, export.

    accelerate launch recipes/compress.py
    accelerate launch recipes/compress.py --config recipes/compress/sentiment.yaml
    accelerate launch recipes/compress.py --model_name_or_path me/vit-beans --dataset_name beans --output_dir small \
        --chain prune:intermediate=0.5,layers=0+2+4+6+8+10 distil:epochs=5 quantize:method=int8_dynamic export:int8=dynamic

Without --config or --dataset_name it runs recipes/compress/digits.yaml, which first trains a model with recipes/finetune.py.
The output folder gets the last form that from_pretrained loads, onnx/model.onnx if the chain exports, a card (README.md)
with the table of all forms, pareto.png and results.json. Language models are pruned, masked, quantized and exported;
heal them with the link finetune.
"""

import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset
from transformers import set_seed

from hf_genkit import DistillationConfig, GenkitParser
from hf_genkit.arguments import (
    AdaptationArguments,
    CompressionArguments,
    FineTuningDataArguments,
    FineTuningModelArguments,
    recipe_terminal,
)
from hf_genkit.compress import CompressionChain, finish_compression, judge_forms
from hf_genkit.data import BatchCollator
from hf_genkit.hub import check_push_access, push_folder
from hf_genkit.trainers.generation_report import dataset_facts, image_facts
from hf_genkit.tuning import FineTuning


def main(argv: list[str]) -> None:
    start, command = time.time(), ["recipes/compress.py", *argv]
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((CompressionArguments, FineTuningDataArguments, DistillationConfig), default)
    choice, data_args, args = parser.parse_args_into_dataclasses(argv)
    out = Path(args.output_dir)
    if args.push_to_hub:
        args.hub_model_id = check_push_access(args.hub_model_id or out.absolute().name, args.hub_token)
    if any(out.glob("*.safetensors")) or (out / "forms").exists():
        raise ValueError(f"'{out}' holds a model already: choose another output_dir.")
    set_seed(args.seed)
    source = {"model_name_or_path": choice.model_name_or_path, "model_revision": choice.model_revision}
    model_args = FineTuningModelArguments(**source, trust_remote_code=args.trust_remote_code)
    setup = FineTuning(model_args, AdaptationArguments(), data_args)
    setup.check_head()
    train, test = setup.inputs(setup.data.splits["train"], seed=args.seed), setup.inputs(setup.data.test_split)

    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(args.seed)).tolist()

    def batches(dataset, size):
        return map(setup.readable, DataLoader(dataset, batch_size=size, collate_fn=BatchCollator(setup.collator())))

    chain = CompressionChain(
        setup.new_model(),
        args,
        choice,
        train=train,
        evaluation=setup.inputs(setup.data.evaluation_split),
        collator=setup.collator(),
        processor=setup.processor,
        batches=lambda samples: batches(Subset(train, order[:samples]), 32),
    )
    forms = chain.run()
    tested = list(batches(test, args.per_device_eval_batch_size))
    finish_compression(
        judge_forms(forms, setup.task, tested, measure_memory=choice.measure_memory),
        forms,
        task=setup.task,
        dataset=dataset_facts(setup.data, data_args, len(test)),
        base=choice.model_name_or_path,
        labels=setup.labels,
        out=out,
        method=f"The chain: {', '.join(choice.chain)}; quantize and export make forms of the float model before them.",
        command=command,
        seconds=time.time() - start,
        hub_model_id=args.hub_model_id,
        license=args.license,
        image=image_facts(setup.data, setup.processor),
    )
    if args.push_to_hub:
        push_folder(out, args.hub_model_id, token=args.hub_token, private=args.hub_private_repo)


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
