"""Pruning while training: zeros that stay, checkpoints that are plain models, and runs that resume bit for bit."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.compress.gradual_pruning import GradualPruning
from hf_genkit.compress.masking import make_permanent, prunable_layers, prune_n_m, sparsity_of

from ..trainers.tiny import Samples, pad, tiny_model


def make_trainer(folder, callbacks, model=None, **options):
    args = {
        "max_steps": 12,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
        "save_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return DistillationTrainer(
        model or tiny_model("bert"),
        tiny_model("bert", seed=1, scale=4.0),
        DistillationConfig(str(folder), **args | options),
        train_dataset=Samples("bert"),
        data_collator=pad,
        callbacks=callbacks,
    )


def zeros_of(folder):
    weights = load_file(folder / "model.safetensors")
    return {f"{name}.weight": weights[f"{name}.weight"] == 0 for name in prunable_layers(tiny_model("bert"))}


def share(zeros):
    return sum(int(zero.sum()) for zero in zeros.values()) / sum(zero.numel() for zero in zeros.values())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run with a checkpoint at each step."""
    folder = tmp_path_factory.mktemp("run")
    pruning = GradualPruning(0.8, start=0.25, end=0.75, every=2)
    seen = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            seen.extend((layer.weight, layer.weight.grad.clone()) for layer in prunable_layers(model).values())
            pruned = torch.cat([(w == 0).flatten() for w, _ in seen])
            gradients = torch.cat([gradient.flatten() for _, gradient in seen])
            assert not gradients[pruned].any()
            assert gradients[~pruned].any()
            seen.clear()

    trainer = make_trainer(folder, [pruning, Watch()])
    trainer.train()
    return folder, trainer


def test_sparsity_follows_the_cubic_schedule_in_every_checkpoint(run):
    folder, trainer = run
    expected = [0, 0, 0, 0] + [0.8 * (1 - (1 - 2 / 6) ** 3)] * 2 + [0.8 * (1 - (1 - 4 / 6) ** 3)] * 2 + [0.8] * 4
    found = [share(zeros_of(folder / f"checkpoint-{step}")) for step in range(1, 13)]
    assert found == pytest.approx(expected, abs=1e-3)
    assert sparsity_of(trainer.model)["total"] == pytest.approx(0.8, abs=1e-3)


def test_what_is_pruned_stays_exactly_zero(run):
    folder, _ = run
    before = zeros_of(folder / "checkpoint-5")
    for step in range(6, 13):
        now = zeros_of(folder / f"checkpoint-{step}")
        assert all((now[name] | ~before[name]).all() for name in before)
        before = now


def test_checkpoints_are_plain_models_that_load(run):
    folder, trainer = run
    model, report = type(trainer.model).from_pretrained(folder / "checkpoint-12", output_loading_info=True)
    assert not any(report.values())
    assert all(torch.equal(weight, trainer.model.state_dict()[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("step", [2, 5, 6, 10])  # before the first, between two, at one, after the last rise
def test_resumed_run_ends_with_the_same_weights_bit_for_bit(run, step, tmp_path):
    folder, trainer = run
    resumed = make_trainer(folder, [GradualPruning(0.8, start=0.25, end=0.75, every=2)], save_strategy="no")
    resumed.train(str(folder / f"checkpoint-{step}"))
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name


def test_without_a_sparsity_the_pattern_that_is_there_is_kept(tmp_path):
    model = make_permanent(prune_n_m(tiny_model("bert"), 2, 4))
    before = {name: layer.weight.detach().clone() for name, layer in prunable_layers(model).items()}
    make_trainer(tmp_path, [GradualPruning()], model, max_steps=4, save_strategy="no").train()
    for name, layer in prunable_layers(model).items():
        assert torch.equal(layer.weight == 0, before[name] == 0)
        assert not torch.equal(layer.weight, before[name])


# ---- The callback alone, driven by hand ----


def drive(callback, model, optimizer, steps, seed=0, first=0, max_steps=10, on_gradient=None):
    args, control = TrainingArguments("unused", use_cpu=True), TrainerControl()
    state = TrainerState(global_step=first, max_steps=max_steps)
    callback.on_train_begin(args, state, control, model=model)
    for step in range(first, first + steps):
        torch.manual_seed(seed + step)
        optimizer.zero_grad()
        ids = torch.randint(5, 50, (4, 8))
        model(ids).logits.square().mean().backward()
        optimizer.step()
        state.global_step = step + 1
        callback.on_step_end(args, state, control)
    callback.on_train_end(args, state, control)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.5),
        lambda parameters: torch.optim.SGD(parameters, lr=0.5, momentum=0.9, weight_decay=0.1, nesterov=True),
    ],
)
def test_momentum_and_weight_decay_do_not_wake_what_is_pruned(make_optimizer):
    model = tiny_model("bert").eval()
    optimizer = make_optimizer(model.parameters())
    callback = GradualPruning(0.5, start=0.5, end=0.5)
    drive(callback, model, optimizer, steps=10)
    report = sparsity_of(model)
    assert report["total"] == pytest.approx(0.5, abs=1e-3)
    loss = model(torch.randint(5, 50, (4, 8))).logits.square().mean()
    loss.backward()
    assert all((layer.weight.grad != 0).sum() > (layer.weight != 0).sum() for layer in prunable_layers(model).values())


def test_layers_that_start_as_zeros_learn_until_pruning_begins():
    model = tiny_model("bert").eval()
    weight = model.bert.encoder.layer[1].output.dense.weight
    torch.nn.init.zeros_(weight)
    drive(GradualPruning(0.2, end=0.5, every=2), model, torch.optim.AdamW(model.parameters(), 0.01), steps=10)
    assert (weight != 0).sum() > weight.numel() / 2


def test_what_happens_to_be_zero_is_pruned_as_it_would_be_after_a_resume():
    class Zeroing(torch.optim.SGD):
        def step(self):
            super().step()
            model.bert.encoder.layer[0].output.dense.weight.data[0, 0] *= 0 if state["at"] == 4 else 1
            state["at"] += 1

    state = {"at": 0}
    model = tiny_model("bert").eval()
    drive(GradualPruning(0.1, end=0.1), model, Zeroing(model.parameters(), lr=0.1), steps=10)
    assert model.bert.encoder.layer[0].output.dense.weight[0, 0] == 0


def test_one_shot_at_the_start_is_done_before_the_first_step():
    model = tiny_model("bert").eval()
    drive(GradualPruning(0.5, end=0.0), model, torch.optim.SGD(model.parameters(), lr=0.1), steps=0)
    assert sparsity_of(model)["total"] == pytest.approx(0.5, abs=1e-3)


def test_dense_run_that_goes_on_after_the_last_rise_is_pruned_too():
    model = tiny_model("bert").eval()
    drive(GradualPruning(0.5), model, torch.optim.SGD(model.parameters(), lr=0.1), steps=1, first=9)
    assert sparsity_of(model)["total"] == pytest.approx(0.5, abs=1e-3)


def test_schedule_rises_in_steps_and_reaches_its_end():
    pruning = GradualPruning(0.9, start=0.1, end=0.6, every=20)
    assert [pruning.sparsity_at(step, 100) for step in (0, 9, 10, 29)] == [0, 0, 0, 0]
    assert pruning.sparsity_at(30, 100) == pruning.sparsity_at(49, 100) == pytest.approx(0.9 * (1 - 0.6**3))
    assert pruning.sparsity_at(60, 100) == pruning.sparsity_at(100, 100) == 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "`sparsity` is 1.0"),
        ({"start": 0.8}, "`start` is 0.8 and `end` is 0.75"),
        ({"end": 1.5}, "`end` is 1.5"),
        ({"every": 0}, "`every` is 0"),
        ({"scope": "layers"}, "did you mean 'layer'"),
    ],
)
def test_bad_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GradualPruning(**options)


def test_best_checkpoint_of_a_denser_model_is_refused():
    args = TrainingArguments(
        "unused", use_cpu=True, load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch"
    )
    with pytest.raises(ValueError, match="`load_best_model_at_end`"):
        GradualPruning(0.5).on_train_begin(args, TrainerState(max_steps=1), TrainerControl(), model=tiny_model("bert"))
