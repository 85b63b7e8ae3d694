"""
Fills the tables of results in benchmarks/README.md, and in README.md where it has their markers.

    python benchmarks/tables.py

The tables are made of `results/*.json` alone. A test fails where a table and the results differ.
"""

import json
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
KEYS = {
    "at_least",
    "bar",
    "claim",
    "command",
    "commit",
    "details",
    "dirty",
    "hardware",
    "name",
    "passed",
    "seconds",
    "spread",
    "spread_kind",
    "unit",
    "value",
    "versions",
}


def load_results(folder: Path = RESULTS) -> list[dict]:
    """
    Every result, by name.

    Raises:
        `ValueError`: A result lacks a key, or is not called like its file.
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if missing := KEYS - set(result):
            raise ValueError(f"{path.name} lacks {', '.join(sorted(missing))}.")
        if result["name"] != path.stem:
            raise ValueError(f"{path.name} holds the result '{result['name']}'.")
        results.append(result)
    return results


def render(results: list[dict]) -> str:
    """Results as a Markdown table with the hardware below it."""
    lines = [
        "| Claim | Measured | Spread | Bar | Reached | Script |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        low, high = (_number(end, result["unit"]) for end in result["spread"])
        script = result["name"].split("-")[0]
        lines.append(
            f"| {result['claim']} | {_number(result['value'], result['unit'])} | {low} to {high} "
            f"({result['spread_kind']}) | {_bar(result)} | {'yes' if result['passed'] else '**no**'} | `{script}.py` |"
        )
    machines = {
        r["hardware"].get("gpu") or f"{r['hardware']['cpu']} with {r['hardware']['cores']} cores" for r in results
    }
    versions = {f"torch {r['versions']['torch']}, transformers {r['versions']['transformers']}" for r in results}
    lines += ["", f"Measured on {' and '.join(sorted(machines))}; {' and '.join(sorted(versions))}."]
    return "\n".join(lines)


def tables(results: list[dict]) -> dict[str, str]:
    """All tables by the name in their markers: all results, and what single benchmarks show side by side."""
    details = {result["name"]: result["details"] for result in results}
    return {
        "benchmarks": render(results),
        **{f"compress_{name}": details[f"compress-{name}_speed"]["markdown"] for name in ("resnet", "vit", "minilm")},
        "ddpm_quality": details["ddpm_quality-flow"]["markdown"],
        "ddpm_reference": _reference(details["ddpm_quality-reference"]),
        **{f"exactness_{name}": details["exactness-norm"]["markdown"][name] for name in ("methods", "peers")},
        "families": details["families-order"]["markdown"],
        **{f"few_step{where}": details[f"few_step-teacher{where}"]["markdown"] for where in ("", "_gpu")},
        "gan_losses": details["gan_losses-chosen_loss"]["markdown"]["classifier"],
        **{f"methods_{name}": details[f"methods-{name}_kl"]["markdown"] for name in ("digits", "fashion_mnist")},
        "speech": details["speech-speed"]["markdown"],
        "transfer_cells": details["transfer-elpv"]["markdown"],
        "transfer_cost": details["transfer-memory"]["markdown"],
    }


def _reference(details: dict) -> str:
    """The scores of one DiT in several numbers of steps, real images last."""
    names = ("fd", "precision", "recall", "density", "coverage")
    lines = ["| Steps | FD (DINOv2-S) | Precision | Recall | Density | Coverage |", "|---|---|---|---|---|---|"]
    rows = {**details["scores"], "real images": details["floor"]}
    for steps, scores in rows.items():
        cells = [f"{scores[f'{name}_dinov2_s_56']:.2f}" for name in names]
        lines.append(f"| {steps} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fill(document: str, name: str, table: str) -> str:
    """The document with a table between its markers; unchanged if it has none."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    if start not in document:
        return document
    head, rest = document.split(start, 1)
    return f"{head}{start}\n{table}\n{end}{rest.split(end, 1)[1]}"


def _bar(result: dict) -> str:
    if result["spread_kind"].startswith("95 % interval"):
        return f"interval above {result['bar']:g}"
    return f"at {'least' if result['at_least'] else 'most'} {_number(result['bar'], result['unit'])}"


def _number(value: float, unit: str) -> str:
    texts = {
        "x": f"{value:.3g}x",
        "%": f"{value:.3g} %",
        "accuracy": f"{value:+.4f}",
        "AUROC": f"{value:.3f}",
        "FD": f"{value:+.2f}",
        "GB": f"{value:.3g} GB",
        "gray": f"{value:.1f}",
        "min": f"{value:.1f} min",
        "ms": f"{value:.1f} ms",
        "nats": f"{value:.2f} nats",
        "ppm": f"{value:.2g} ppm" if abs(value) < 10 else f"{value:.0f} ppm",
        "WER": f"{value:+.4f}",
    }
    return texts[unit]


def main() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for name, table in tables(load_results()).items():
            text = fill(text, name, table)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
