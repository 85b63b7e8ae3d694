# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[audio,demo,peft]"]
# ///
"""
Starts a Gradio app for any model, alone or beside its teacher, or makes a Space on the Hub of it.

    python recipes/demo.py --model_name_or_path outputs/ddpm-digits
    python recipes/demo.py --model_name_or_path outputs/distill-digits --teacher_model_name_or_path me/teacher \
        --examples three.png seven.png
    python recipes/demo.py --model_name_or_path me/ddpm-digits --output_dir outputs/space
    python recipes/demo.py --model_name_or_path me/ddpm-digits --push_to_hub --hub_space_id me/ddpm-digits-demo

The third command writes the files of the Space that the fourth one pushes; a Space loads its models from the Hub.
"""

import sys
import tempfile
from pathlib import Path

from hf_genkit import GenkitParser
from hf_genkit.arguments import DemoArguments, recipe_terminal
from hf_genkit.demo import build_demo, check_hub_names, launch_demo, push_space, write_space


def main(argv: list[str]) -> None:
    (args,) = GenkitParser(DemoArguments).parse_args_into_dataclasses(argv)
    names = [args.model_name_or_path, args.teacher_model_name_or_path]
    makes_space = args.push_to_hub or args.output_dir is not None
    if makes_space:
        check_hub_names([name for name in names if name is not None])
    demo = build_demo(*names, title=args.title, examples=args.examples)
    if not makes_space:
        if args.launch:
            launch_demo(
                demo, server_name=args.server_name, server_port=args.server_port, share=args.share, inbrowser=False
            )
        else:
            print(f"The demo of {args.model_name_or_path} can be launched.")
        return
    with tempfile.TemporaryDirectory() as unnamed:
        folder = write_space(
            args.output_dir or Path(unnamed, "space"), *names, title=args.title, examples=args.examples
        )
        if args.push_to_hub:
            space = args.hub_space_id or f"{args.model_name_or_path.split('/')[-1]}-demo"
            commit = push_space(folder, space, token=args.hub_token, private=args.hub_private_repo)
            print(f"The Space is at {commit.repo_url}.")
        else:
            print(f"The Space is in {folder}; python app.py starts it there.")


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
