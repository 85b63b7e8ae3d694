"""The golden model cards; `python -m tests.hub.golden_cards` writes them anew."""

import json
from pathlib import Path

from hf_genkit.hub import CardFacts, DatasetFacts, Result, TeacherFacts, render_model_card


FOLDER = Path(__file__).parents[2] / "model_cards" / "examples"


def golden_facts() -> dict[str, CardFacts]:
    """Facts by card name, from `facts.json`."""
    named = json.loads((FOLDER / "facts.json").read_text(encoding="utf-8"))
    return {name: _facts(**values) for name, values in named.items()}


def _facts(dataset: dict, results: list[dict], teacher: dict | None = None, **values) -> CardFacts:
    if teacher is not None:
        teacher = TeacherFacts(**teacher | {"results": [Result(**result) for result in teacher["results"]]})
    return CardFacts(
        dataset=DatasetFacts(**dataset),
        results=[Result(**result) for result in results],
        teacher=teacher,
        **values,
    )


if __name__ == "__main__":
    for name, facts in golden_facts().items():
        (FOLDER / f"{name}.md").write_text(render_model_card(facts), encoding="utf-8")
