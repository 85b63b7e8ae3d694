"""A recipe script that is over in a moment: how the tests of searches try processes, logs and failures."""

from pathlib import Path

from hf_genkit.tuning import Recipe


# As a trial it must start at once, so it reads GenkitParser's words itself; without words it shows the search its parser.
SOURCE = """
import json, os, sys, time
from dataclasses import dataclass, field

words = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:] if "=" in word)
if not words:
    from hf_genkit.arguments import GenkitParser, check_range

    @dataclass
    class Arguments:
        output_dir: str = "out"
        rate: float = 0.5
        width: int = 4
        kind: str = "plain"
        layers: list[int] = field(default_factory=list)
        model: dict | str | None = None
        push_to_hub: bool = False

        def __post_init__(self):
            check_range(self, "rate", 0, 1)

    GenkitParser(Arguments).parse_args_into_dataclasses()

folder = words["output_dir"]
os.makedirs(folder)
open(os.path.join(folder, "pid"), "w").write(str(os.getpid()))
json.dump(sys.argv[1:], open(os.path.join(folder, "words.json"), "w"))

def log(entries):
    json.dump({"log_history": entries}, open(os.path.join(folder, ".state"), "w"))
    os.replace(os.path.join(folder, ".state"), os.path.join(folder, "trainer_state.json"))

rate, kind = float(words.get("rate", 0.5)), words.get("kind")
if kind == "broken":
    print("loading")
    raise ValueError(f"rate {rate} broke it")
log([{"loss": 1.0, "step": 1}, {"eval_loss": 9.0, "step": 1}])
while kind == "endless" and not os.path.exists(os.path.join(os.path.dirname(sys.argv[0]), "go_on")):
    time.sleep(0.05)
log([{"eval_loss": 9.0, "step": 1}, {"eval_loss": rate, "step": 2}])
json.dump({"size": 10 * rate, "parts": {"a": [1, 2]}, "eval_loss": 7, "best": True}, open(folder + "/results.json", "w"))
"""


def fake_recipe(folder: Path, **options) -> Recipe:
    """The script in a folder, as a recipe."""
    script = folder / "fake.py"
    script.write_text(SOURCE)
    return Recipe(script, **options)
