"""Heads found in transformers models must give their logits, and leave nothing behind once bypassed."""

import copy
import logging

import pytest
import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    CohereConfig,
    CohereForCausalLM,
    DistilBertForMaskedLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_genkit.losses.fused_head import fused_distillation
from hf_genkit.trainers.heads import bypassed_head, can_fuse, head_of

from .tiny import CONFIGS, TEXT
from .tiny_finetuning import finetuning_model


FEW_HEADS = {**TEXT, "num_key_value_heads": 2, "pad_token_id": 0}
GEMMA = {**FEW_HEADS, "head_dim": 8, "final_logit_softcapping": 0.5}
SEQ2SEQ = {"vocab_size": 60, "d_model": 16, "pad_token_id": 0, "decoder_start_token_id": 0}


def t5():
    return T5ForConditionalGeneration(
        T5Config(**SEQ2SEQ, d_kv=8, d_ff=24, num_layers=1, num_heads=2, dropout_rate=0.0)
    )


def bart():
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return BartForConditionalGeneration(BartConfig(**SEQ2SEQ, **layers, encoder_ffn_dim=16, decoder_ffn_dim=16))


MODELS = {
    "llama": lambda: finetuning_model("llama"),
    "gpt2": lambda: finetuning_model("gpt2"),
    "bert": lambda: finetuning_model("masked"),
    "whisper": lambda: finetuning_model("whisper"),
    "distilbert": lambda: DistilBertForMaskedLM(CONFIGS["distilbert"]()),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**FEW_HEADS)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**{**TEXT, "word_embed_proj_dim": 16}, ffn_dim=24, dropout=0.0)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**GEMMA)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**FEW_HEADS, logit_scale=0.25)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**FEW_HEADS, logits_scaling=8.0)),
    "t5": t5,
}


def model_of(make):
    """A model whose logits are of the size of 1, so that a cap shows."""
    torch.manual_seed(0)
    model = make()
    layer = model.get_output_embeddings()
    layer.weight.data *= 20
    if layer.bias is not None:
        layer.bias.data.normal_()
    return model.train()


def inputs_of(model, length=7):
    ids = torch.randint(5, 60, (2, length), generator=torch.Generator().manual_seed(1))
    if model.main_input_name == "input_features":
        return {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": ids}
    return {"input_ids": ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})}


@pytest.mark.parametrize("name", MODELS)
def test_captured_states_and_head_make_the_logits_of_the_model(name):
    model = model_of(MODELS[name])
    inputs = inputs_of(model)
    expected = model(**inputs).logits
    with bypassed_head(model) as captured:
        empty = model(**inputs).logits
    head = head_of(model)
    assert empty.shape == (*expected.shape[:-1], 0)
    torch.testing.assert_close(head.logits(captured.hidden), expected, rtol=1e-4, atol=1e-5)
    assert head.weight is model.get_output_embeddings().weight
    assert can_fuse(model, inputs)


def test_the_head_works_again_afterwards_even_after_an_error():
    model = model_of(MODELS["llama"])
    inputs = inputs_of(model)
    expected = model(**inputs).logits
    with pytest.raises(KeyError), bypassed_head(model):
        raise KeyError
    assert "forward" not in vars(model.lm_head)
    own = nn.Linear.forward.__get__(model.lm_head)
    model.lm_head.forward = own  # as accelerate's hooks do
    with bypassed_head(model):
        assert model(**inputs).logits.shape[-1] == 0
    assert model.lm_head.forward is own
    assert torch.equal(model(**inputs).logits, expected)


def test_trial_leaves_modes_gradients_and_random_numbers_alone():
    model = model_of(MODELS["gpt2"])
    model.transformer.drop.p = 0.5
    model.transformer.h[0].eval()
    modes = [part.training for part in model.modules()]
    state = torch.get_rng_state()
    assert can_fuse(model, inputs_of(model))
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


class Doubled(LlamaForCausalLM):
    def forward(self, **inputs):
        outputs = super().forward(**inputs)
        outputs.logits = 2 * outputs.logits
        return outputs


@pytest.fixture
def log(caplog):
    """What the module says: the loggers of the package hand nothing on."""
    logger = logging.getLogger("hf_genkit.trainers.heads")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Doubled(LlamaConfig(**FEW_HEADS)), "in a way of its own"),
        (bart, "needs its logits itself"),
    ],
)
def test_logits_that_are_made_otherwise_are_seen(make, reason, log):
    model = model_of(make)
    assert not can_fuse(model, inputs_of(model))
    assert reason in log.text
    assert type(model).__name__ in log.text
    assert "forward" not in vars(model.get_output_embeddings())


class Quantized(nn.Linear):
    """Stands for bitsandbytes' layers, whose weights are no matrix to multiply with."""


def test_heads_that_are_more_than_a_matrix_are_left_alone():
    model = model_of(MODELS["llama"])
    model.lm_head = Quantized(16, 60, bias=False)
    assert head_of(model) is None
    assert not can_fuse(model, inputs_of(model))


def adapted(**options):
    peft = pytest.importorskip("peft")
    options = {"target_modules": ["q_proj"], **options}
    return peft.get_peft_model(model_of(MODELS["llama"]), peft.LoraConfig(r=2, task_type="CAUSAL_LM", **options))


def test_adapter_elsewhere_is_no_obstacle_and_leaves_the_head_frozen():
    model = adapted()
    assert can_fuse(model, inputs_of(model))
    assert not head_of(model).weight.requires_grad


@pytest.mark.parametrize("options", [{"modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj", "lm_head"]}])
def test_adapted_head_is_not_taken_for_its_base(options):
    assert head_of(adapted(**options)) is None


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_gradients_are_those_of_the_whole_logits(name):
    """GPT-2 and T5 tie the head to the embedding, which gets both gradients."""
    model = model_of(MODELS[name])
    twin, inputs = copy.deepcopy(model), inputs_of(model)
    labels = inputs["input_ids"].flatten()
    nn.functional.cross_entropy(twin(**inputs).logits.flatten(0, 1), labels, reduction="sum").backward()
    with bypassed_head(model) as captured:
        model(**inputs)
    fused_distillation(captured.hidden.flatten(0, 1), head_of(model), labels=labels).loss.backward()
    for (parameter_name, found), expected in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=parameter_name, rtol=1e-4, atol=1e-5)


def test_data_parallel_takes_the_bypassed_head_for_used(tmp_path):
    """It would be marked as unused at the end of the forward pass, and its gradient be an error."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model = model_of(MODELS["llama"])
        parallel, inputs = DistributedDataParallel(model, find_unused_parameters=True), inputs_of(model)
        for _ in range(2):
            with bypassed_head(model) as captured:
                parallel(**inputs)
            labels = inputs["input_ids"].flatten()
            fused_distillation(captured.hidden.flatten(0, 1), head_of(model), labels=labels).loss.backward()
        assert model.lm_head.weight.grad.any()
    finally:
        torch.distributed.destroy_process_group()


def test_compiled_model_is_bypassed_too():
    model = model_of(MODELS["llama"])
    inputs = inputs_of(model)
    expected = model(**inputs).logits
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        with bypassed_head(model) as captured:
            assert compiled(**inputs).logits.shape[-1] == 0
        torch.testing.assert_close(head_of(model).logits(captured.hidden), expected)
        torch.testing.assert_close(compiled(**inputs).logits, expected)
