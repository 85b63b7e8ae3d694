"""What is measured is the model that is saved, on one sample, as it runs when it is used."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from hf_genkit.evaluation.efficiency import measure_efficiency


@pytest.fixture
def model():
    config = BertConfig(
        hidden_size=16, num_attention_heads=2, intermediate_size=32, num_hidden_layers=1, vocab_size=5000
    )
    return BertForMaskedLM(config)


INPUTS = {"input_ids": torch.ones(4, 7, dtype=torch.long), "attention_mask": torch.ones(4, 7, dtype=torch.long)}


def test_tied_weights_count_once_and_the_size_is_that_of_the_saved_file(model, tmp_path):
    report = measure_efficiency(model, INPUTS, repeats=2)
    model.save_pretrained(tmp_path)
    assert report["size_bytes"] == (tmp_path / "model.safetensors").stat().st_size
    assert report["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert 4 * report["parameters"] < report["size_bytes"] < 4 * report["parameters"] + 8192
    half = measure_efficiency(model.bfloat16(), INPUTS, repeats=2)
    assert half["parameters"] == report["parameters"]
    assert half["size_bytes"] < 0.6 * report["size_bytes"]


def test_one_sample_is_timed_in_evaluation_mode_without_gradients_after_a_warm_up(model):
    calls = []
    forward = model.forward

    def spy(**inputs):
        outputs = forward(**inputs)
        calls.append((outputs.logits.shape[0], model.training, torch.is_inference_mode_enabled()))
        return outputs

    model.train().forward = spy
    report = measure_efficiency(model, INPUTS, repeats=8, warmup=3)
    assert calls == [(1, False, True)] * 11
    assert model.training
    assert report["repeats"] == 8
    low, high = report["latency_ms_iqr"]
    assert 0 < low <= report["latency_ms"] <= high
    assert report["threads"] == torch.get_num_threads()
    assert report["device"] == "cpu"


def test_slow_first_passes_do_not_count(model, monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 19.0, *(time for start in range(20, 24) for time in (start, start + 0.25))])
    monkeypatch.setattr("hf_genkit.evaluation.efficiency.time.perf_counter", lambda: next(clock))
    report = measure_efficiency(model, INPUTS, repeats=4, warmup=2)
    assert report["latency_ms"] == 250.0
    assert report["latency_ms_iqr"] == (250.0, 250.0)


def test_one_repeat_has_no_spread(model):
    with pytest.raises(ValueError, match="repeats must be at least 2 to show a spread, got 1"):
        measure_efficiency(model, INPUTS, repeats=1)
