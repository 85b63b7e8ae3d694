# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[peft]"]
# ///
"""
Merges an adapter, or several of one base, into a plain model that needs no peft.

    python recipes/merge_adapters.py --adapters me/reviews-adapter --output_dir reviews
    accelerate launch recipes/merge_adapters.py --adapters me/style me/facts --weights 0.7 0.3 --method ties --output_dir both

The output folder gets the model and its tokenizer or image processor; `from_pretrained` loads it.
"""

import sys
from pathlib import Path

from hf_genkit import GenkitParser, load_adapter, merge_adapters
from hf_genkit.arguments import MergingArguments, recipe_terminal
from hf_genkit.tuning.adapters import processor_of


def main(argv: list[str]) -> None:
    default = Path(__file__).with_suffix("") / "debug.yaml"
    (args,) = GenkitParser(MergingArguments, default).parse_args_into_dataclasses(argv)
    out = Path(args.output_dir)
    if any(out.glob("*.safetensors")):
        raise ValueError(f"'{out}' holds weights already: choose another output_dir.")
    options = {"trust_remote_code": args.trust_remote_code}
    processor = processor_of(args.adapters[0], **options)
    if len(args.adapters) == 1:
        model = load_adapter(args.adapters[0], merge=True, **options)
    else:
        weights = args.weights or None
        model = merge_adapters(args.adapters, weights=weights, method=args.method, density=args.density, **options)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    print(f"{type(model).__name__} with {model.num_parameters():,} parameters is in {out}.")


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
