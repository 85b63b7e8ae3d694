"""A VQ-VAE on disk: with the package and, as remote code, without it."""

import json
import os
import subprocess
import sys

import torch
from transformers import AutoModel

from hf_genkit.models.vq_vae import VQVAEConfig, VQVAEModel


REMOTE = """
import json, sys
import torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules")
print(json.dumps(model.encode(torch.load(sys.argv[2])).tolist()))
"""


def test_it_loads_with_the_package_and_as_remote_code_without(tmp_path):
    torch.manual_seed(0)
    model = VQVAEModel(VQVAEConfig(image_size=8, hidden_sizes=[8], codebook_size=6, code_dim=4)).train()
    pictures = torch.rand(5, 1, 8, 8) * 2 - 1
    model(pictures)
    model.eval().save_pretrained(tmp_path / "model")
    loaded = AutoModel.from_pretrained(tmp_path / "model")
    assert type(loaded) is VQVAEModel
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    torch.save(pictures, tmp_path / "pictures.pt")
    # A module of this name that fails stands in the way of the installed package.
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "hf_genkit.py").write_text("raise ImportError('hf_genkit is not installed')")
    finished = subprocess.run(
        [sys.executable, "-c", REMOTE, tmp_path / "model", tmp_path / "pictures.pt"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "blocked"), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert json.loads(finished.stdout.splitlines()[-1]) == model.encode(pictures).tolist()
