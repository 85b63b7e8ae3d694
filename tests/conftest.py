"""Every test session has its own Hub on 127.0.0.1; libraries read these variables when they are first imported."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from .hub.server import LocalHub


HUB = LocalHub().start()
HF_HOME = tempfile.TemporaryDirectory(prefix="hf-home-")

for name in list(os.environ):
    if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")):
        del os.environ[name]
os.environ |= {
    "HF_ENDPOINT": HUB.endpoint,
    "HF_HOME": HF_HOME.name,
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def hub():
    """The running `LocalHub`, empty, with nothing downloaded yet and nobody logged in; to log in, set HF_TOKEN to
    `hub.write_token` or pass `token=`."""
    yield HUB
    HUB.reset()
    shutil.rmtree(Path(HF_HOME.name) / "hub", ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    slow = pytest.mark.skip(reason="slow: run with -m slow")
    gpu = pytest.mark.skip(reason="needs a GPU")
    for item in items:
        if item.get_closest_marker("slow") and not config.option.markexpr:
            item.add_marker(slow)
        if item.get_closest_marker("gpu") and not has_gpu():
            item.add_marker(gpu)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True, scope="module")
def small_garbage_collections():
    """Each training collects garbage at its end: not again and again among everything that was imported before."""
    gc.collect()
    gc.freeze()
