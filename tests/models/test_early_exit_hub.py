"""A classifier with early exits on disk: as remote code where the package is missing, and in a pipeline where it is not."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, pipeline

from hf_genkit.data import image_processor_for
from hf_genkit.models.early_exit import EarlyExitForImageClassification
from tests.trainers.tiny import Samples

from .test_early_exit import inputs_of, with_exits


TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
REMOTE = """
import json, sys
import torch
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification
assert not any(name.split(".")[0] == "hf_genkit" for name in sys.modules)
found = []
for kind, loader in (("vit", AutoModelForImageClassification), ("bert", AutoModelForSequenceClassification)):
    model = loader.from_pretrained(f"{sys.argv[1]}/{kind}", trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules")
    output = model.predict(0.5, **torch.load(f"{sys.argv[1]}/{kind}.pt"))
    found.append([output.logits.tolist(), output.exit_index.tolist()])
    model.save_pretrained(f"{sys.argv[1]}/again-{kind}")
    loader.from_pretrained(f"{sys.argv[1]}/again-{kind}", trust_remote_code=True)
print(json.dumps(found))
"""


def test_it_loads_as_remote_code_where_the_package_is_missing(tmp_path):
    expected = []
    for kind in ("vit", "bert"):
        model = with_exits(kind)
        model.save_pretrained(tmp_path / kind)
        torch.save(inputs_of(kind), tmp_path / f"{kind}.pt")
        output = model.predict(0.5, **inputs_of(kind))
        expected.append([output.logits.tolist(), output.exit_index.tolist()])
    # A module of this name that fails stands in the way of the installed package.
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "hf_genkit.py").write_text("raise ImportError('hf_genkit is not installed')")
    finished = subprocess.run(
        [sys.executable, "-c", REMOTE, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "blocked"), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    for (logits, index), (expected_logits, expected_index) in zip(found, expected, strict=True):
        assert index == expected_index
        assert torch.allclose(torch.tensor(logits), torch.tensor(expected_logits), atol=1e-6)


def test_a_pipeline_takes_it(tmp_path):
    base = ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=3, num_hidden_layers=2, **TINY))
    EarlyExitForImageClassification.from_base(base, [0]).save_pretrained(tmp_path)
    image_processor_for(3, 8).save_pretrained(tmp_path)
    answers = pipeline("image-classification", model=str(tmp_path))(Image.new("RGB", (8, 8), "red"))
    assert {answer["label"] for answer in answers} == {"LABEL_0", "LABEL_1", "LABEL_2"}


@pytest.mark.parametrize("kind", ["vit", "bert"])
def test_plain_trainer_trains_every_exit(kind, tmp_path):
    model = with_exits(kind, opinion=1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = [{**row, "labels": row["labels"]} for row in Samples("vit", unlabelled=0).rows]
    if kind == "bert":
        inputs = inputs_of("bert", size=8)
        rows = [{name: value[i] for name, value in inputs.items()} | {"labels": i % 3} for i in range(8)]
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, max_steps=3, learning_rate=1e-2, use_cpu=True, save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("exit_heads") for name in changed)
    assert any("layer" in name for name in changed)
    assert trainer.predict(rows).predictions.shape == (8, 3)
