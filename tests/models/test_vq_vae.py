"""VQVAEModel: its codebook, its losses, and that nothing moves outside training."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import Trainer, TrainingArguments

from hf_genkit.models.vq_vae import VQVAEConfig, VQVAEModel


def tiny(seed=0, **fields):
    torch.manual_seed(seed)
    fields = {
        "image_size": 8,
        "hidden_sizes": [8],
        "codebook_size": 6,
        "code_dim": 4,
        "num_residual_blocks": 1,
    } | fields
    return VQVAEModel(VQVAEConfig(**fields))


def pictures(batch=5, channels=1, seed=1):
    return torch.rand(batch, channels, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def state(model):
    return {name: value.clone() for name, value in model.codebook.state_dict().items()}


def test_each_position_takes_its_nearest_code():
    model = tiny().eval()
    encodings = model.encoder(pictures()).permute(0, 2, 3, 1)
    expected = torch.cdist(encodings.double().reshape(-1, 4), model.codebook.vectors.double()).argmin(1)
    assert torch.equal(model.encode(pictures()), expected.view(5, 4, 4))


def test_the_loss_is_summed_over_pixels_and_positions():
    model = tiny(commitment_weight=0.5).eval()
    output, single = model(pictures()), model(pictures(), reduction="none")
    encodings = model.encoder(pictures())
    vectors = model.codebook.vectors[output.codes].permute(0, 3, 1, 2)
    decoded = model.decoder(vectors)
    torch.testing.assert_close(single.reconstruction_loss, (decoded - pictures()).square().sum((1, 2, 3)))
    torch.testing.assert_close(single.commitment_loss, (encodings - vectors).square().sum((1, 2, 3)))
    torch.testing.assert_close(output.loss, output.reconstruction_loss + 0.5 * output.commitment_loss)
    torch.testing.assert_close(output.loss, single.loss.mean())
    torch.testing.assert_close(output.reconstruction, model.reconstruct(pictures()))
    shares = output.codes.flatten().bincount(minlength=6) / output.codes.numel()
    torch.testing.assert_close(output.perplexity, torch.distributions.Categorical(shares).entropy().exp())


def test_the_gradient_passes_the_codebook_straight_through():
    model = tiny(commitment_weight=0.0).eval()
    encodings = model.encoder(pictures()).detach()
    vectors = model.codebook(model.codebook.nearest(encodings)).requires_grad_()
    (model.decoder(vectors) - pictures()).square().sum().backward()
    captured = []
    model.encoder.register_forward_hook(lambda module, inputs, output: output.register_hook(captured.append) and None)
    model(pictures(), reduction="none").loss.sum().backward()
    torch.testing.assert_close(captured[0], vectors.grad)


def test_the_codebook_is_a_moving_average():
    model = tiny(decay=0.9, revival_steps=1000).train()
    model.codebook.idle.zero_()
    before = state(model)
    encodings = model.encoder(pictures()).permute(0, 2, 3, 1).reshape(-1, 4)
    codes = model(pictures()).codes.flatten()
    for code in range(6):
        mine = encodings[codes == code]
        count = 0.9 * before["counts"][code] + 0.1 * len(mine)
        total = 0.9 * before["sums"][code] + 0.1 * mine.sum(0)
        torch.testing.assert_close(model.codebook.vectors[code], total / count)
        assert model.codebook.idle[code] == (0 if len(mine) else 1)


def test_the_codebook_changes_in_training_alone():
    model = tiny().eval()
    before = state(model)
    model(pictures())
    model.encode(pictures())
    model.reconstruct(pictures())
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())
    model.train()(pictures())
    assert not torch.equal(model.codebook.vectors, before["vectors"])


def test_a_code_without_takers_is_drawn_from_the_batch():
    model = tiny(revival_steps=3).train()
    model.codebook.idle.zero_()
    model.codebook.vectors[2] = 1e3
    model.codebook.sums[2] = 1e3
    for _ in range(2):
        model(pictures())
        assert model.codebook.vectors[2, 0] > 100
    encodings = model.encoder(pictures()).permute(0, 2, 3, 1).reshape(-1, 4)
    model(pictures())
    distance = (encodings - model.codebook.vectors[2]).abs().amax(1).min()
    assert distance < 1e-5
    assert model.codebook.idle[2] == 0
    assert model.codebook.counts[2] == 1


def test_the_first_batch_puts_all_codes_among_its_encodings():
    model = tiny(codebook_size=32, decay=0.5).train()
    model.codebook.vectors.add_(100)
    model.codebook.sums.add_(100)
    model(pictures(32))
    first = model(pictures(32)).perplexity
    assert first > 8


def test_revived_codes_come_from_positions_all_over_the_batch():
    codebook = tiny(codebook_size=64).codebook
    first = codebook._spread(1000)
    assert 0 <= first.min() < 100
    assert 900 < first.max() < 1000
    assert len(first.unique()) == 64
    codebook.updates += 1
    assert len(torch.cat([first, codebook._spread(1000)]).unique()) > 110
    assert codebook._spread(3).unique().tolist() == [0, 1, 2]


def test_no_random_number_is_drawn_and_a_copy_goes_on_exactly(tmp_path):
    model = tiny(revival_steps=2).train()
    before = torch.get_rng_state()
    for seed in range(3):
        model(pictures(seed=seed))
    assert torch.equal(torch.get_rng_state(), before)
    model.save_pretrained(tmp_path)
    resumed = VQVAEModel.from_pretrained(tmp_path).train()
    assert all(torch.equal(value, state(resumed)[name]) for name, value in state(model).items())
    for seed in range(3, 8):
        for each in (model, resumed):
            each(pictures(seed=seed))
    assert all(torch.equal(value, state(resumed)[name]) for name, value in state(model).items())


TWO_PROCESSES = """
import sys, torch
from torch import distributed
distributed.init_process_group("gloo")
assert distributed.get_world_size() == 2
models, batches = torch.load(sys.argv[1], weights_only=False)
rank = distributed.get_rank()
perplexity = [model.train()(batch[rank::2]).perplexity for model in models for batch in batches]
torch.save(([model.codebook.state_dict() for model in models], perplexity), f"{sys.argv[2]}/{rank}.pt")
distributed.barrier()  # a process that leaves early may abort the other one's last exchange
distributed.destroy_process_group()
"""


def test_two_processes_keep_one_codebook(tmp_path):
    # The first model revives no code, so that two processes equal one with both batches; the second revives many.
    steady, reviving = tiny(revival_steps=100).train(), tiny(revival_steps=1)
    steady.codebook.idle.zero_()
    batches = [pictures(6, seed=seed) for seed in range(4)]
    torch.save(([steady, reviving], batches), tmp_path / "start.pt")
    (tmp_path / "script.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run(
        [*command, tmp_path / "script.py", tmp_path / "start.pt", tmp_path],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    (first, perplexity), (second, _) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for mine, other in zip(first, second, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in mine.items())
    expected = [steady(batch).perplexity for batch in batches]
    torch.testing.assert_close(perplexity[:4], expected)
    for name, value in state(steady).items():
        torch.testing.assert_close(first[0][name], value)


@pytest.mark.parametrize(("image_size", "channels", "stages"), [(8, 3, [4]), (28, 1, [4, 8]), (32, 3, [4, 4, 4])])
def test_pictures_come_back_in_their_size(image_size, channels, stages):
    model = tiny(image_size=image_size, num_channels=channels, hidden_sizes=stages)
    x = torch.rand(2, channels, image_size, image_size) * 2 - 1
    codes = model.encode(x)
    assert codes.shape == (2, image_size >> len(stages), image_size >> len(stages))
    assert model.decode(codes).shape == x.shape
    assert model.decode(codes).abs().max() <= 1
    assert model(x).reconstruction.shape == x.shape


def test_interpolations_include_both_ends():
    model = tiny().eval()
    path = model.interpolate(pictures(), pictures().flip(0), steps=4)
    assert path.shape == (5, 4, 1, 8, 8)
    torch.testing.assert_close(path[:, 0], model.reconstruct(pictures()))
    torch.testing.assert_close(path[:, -1], model.reconstruct(pictures().flip(0)))


def test_plain_trainer_trains_and_evaluates_it(tmp_path):
    model = tiny(codebook_size=16, hidden_sizes=[16])
    examples = [{"pixel_values": x} for x in pictures(8).sign().repeat(8, 1, 1, 1)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=16, num_train_epochs=20, learning_rate=5e-3,
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=examples, eval_dataset=examples)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.7 * before


def test_autocast_leaves_the_distances_in_single_precision():
    model = tiny(codebook_size=512, code_dim=64).eval()
    encodings = torch.randn(128, 64, 4, 4)
    model.encoder.forward = lambda pixel_values: encodings
    exact = model.encode(pictures(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.encode(pictures(2)), exact)


def test_autocast_and_half_weights_work(tmp_path):
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(pictures())
    output.loss.backward()
    assert output.loss.dtype == output.commitment_loss.dtype == torch.float32
    model.save_pretrained(tmp_path)
    half = VQVAEModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert half.reconstruct(pictures()).shape == (5, 1, 8, 8)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: VQVAEConfig(codebook_size=1), "`codebook_size` is 1, but it must be an integer of 2 or more"),
        (lambda: VQVAEConfig(image_size=30), "with 2 stages takes multiples of 4"),
        (lambda: VQVAEConfig(decay=1.5), "`decay` is 1.5, but it must be a number from 0 to 1"),
        (lambda: VQVAEConfig(hidden_sizes=[]), r"`hidden_sizes` is \[\]"),
        (lambda: VQVAEConfig(codebok_size=4), "did you mean 'codebook_size'"),
        (lambda: tiny()(pictures(channels=3)), r"but the model takes \(batch, 1, 8, 8\)"),
        (lambda: tiny()(pictures().to(torch.uint8)), "type torch.uint8"),
        (lambda: tiny().encode(pictures() * 9), r"must be in \[-1, 1\]"),
        (lambda: tiny()(pictures(), reduction="sum"), "`reduction` is 'sum'"),
        (lambda: tiny().decode(torch.zeros(2, 3, 3, dtype=torch.long)), r"must be \(batch, 4, 4\) of torch.int64"),
        (lambda: tiny().decode(torch.full((2, 4, 4), 6)), "`codes` must be from 0 to 5"),
        (lambda: tiny().interpolate(pictures(), pictures(), steps=1), "`steps` is 1"),
        (lambda: tiny().interpolate(pictures(), pictures(2)), "both must agree"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
