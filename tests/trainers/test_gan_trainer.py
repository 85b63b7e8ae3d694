"""GANTrainer: one phase a step, exact under accumulation and resume, penalties, augmentation, EMA, failures."""

import copy

import pytest
import torch
from transformers import AutoModel, TrainerCallback

from hf_genkit import GANModel, GANTrainer, GANTrainingConfig, analyze_gan_stability
from hf_genkit.hub import check_model_card
from hf_genkit.losses.gan import GAN_LOSSES

from .test_exactness import GradientRecorder, assert_same_gradient
from .tiny import tiny_model
from .tiny_generative import gan, pictures, trainer_for, vae


class PhaseRecorder(TrainerCallback):
    """Keeps, for each optimizer step, the networks that had a gradient and those that moved."""

    def __init__(self):
        self.graded, self.moved = [], []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before = copy.deepcopy(model.state_dict())

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.graded.append({name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None})

    def on_step_end(self, args, state, control, model=None, **kwargs):
        changed = {
            n.split(".")[0] for n, value in model.state_dict().items() if not torch.equal(value, self.before[n])
        }
        self.moved.append(changed)


def train(model, folder, **options):
    trainer = trainer_for(model, folder, **options)
    trainer.train()
    return trainer


def weights(trainer):
    return torch.cat([value.flatten().double() for value in trainer.model.state_dict().values()])


def test_each_step_trains_one_network_and_n_critic_of_them_the_discriminator(tmp_path):
    recorder = PhaseRecorder()
    train(gan(), tmp_path, n_critic=2, max_steps=6, weight_decay=0.1, callbacks=[recorder])
    critic, generator = {"discriminator"}, {"generator"}
    assert recorder.graded == [critic, critic, generator] * 2
    assert recorder.moved == [critic, critic, generator | {"ema_generator"}] * 2


@pytest.mark.parametrize("step", [3, 2], ids=["discriminator", "generator"])
@pytest.mark.parametrize(
    "options",
    [
        *({"loss_type": name} for name in GAN_LOSSES),
        {"loss_type": "relativistic", "r1_gamma": 1.0, "r2_gamma": 2.0, "discriminator_augmentation": "diffaugment"},
    ],
    ids=[*GAN_LOSSES, "penalties"],
)
def test_accumulation_does_not_change_the_gradient(tmp_path, options, step):
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        recorder = GradientRecorder()
        train(
            gan(num_labels=4), tmp_path / str(batch), callbacks=[recorder], max_steps=step,
            per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, **options,
        )  # fmt: skip
        found.append(recorder.gradient)
    assert_same_gradient(found[1], found[0])


@pytest.mark.parametrize(
    "options",
    [
        {"loss_type": "wgan_gp", "n_critic": 2, "discriminator_augmentation": "ada", "ada_images": 100},
        {"loss_type": "hinge", "architecture": "dcgan", "penalty_interval": 2, "r1_gamma": 1.0},
    ],
    ids=["mlp", "dcgan"],
)
def test_resuming_gives_the_same_weights_to_the_bit(tmp_path, options):
    """Among them the moving average, batch norm's and spectral norm's buffers, and ADA's probability."""
    model = {"architecture": options.pop("architecture", "mlp"), "generator_channels": 8}
    options |= {"max_steps": 9, "save_strategy": "steps", "save_steps": 5}
    whole = train(gan(**model), tmp_path, **options)
    expected = weights(whole)
    resumed = trainer_for(gan(**model), tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert torch.equal(weights(resumed), expected)


def test_the_first_logged_losses_are_those_of_the_definition(tmp_path):
    """The mean of the real and the fake term, not their sum: in balance the standard loss reads ln 2."""
    model = gan()
    trainer = trainer_for(copy.deepcopy(model), tmp_path, max_steps=2, train_dataset=pictures(8))
    latents = []
    forward = trainer.model.forward
    trainer.model.forward = lambda *args, **kw: latents.append(kw["latents"]) or forward(*args, **kw)
    trainer.train()
    pixels = torch.from_numpy(pictures(8).pixels).float() / 127.5 - 1
    with torch.no_grad():
        real = model.discriminator(pixels)
        fake = model.discriminator(model.generator(latents[0]))
    expected = (-real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()) / 2
    log = trainer.state.log_history[0]
    assert log["discriminator_loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert log["real_accuracy"] == pytest.approx((real > 0).float().mean().item())
    assert log["fake_accuracy"] == pytest.approx((fake < 0).float().mean().item())
    assert log["logit_gap"] == pytest.approx((real - fake).mean().item(), abs=1e-5)
    assert "loss" not in log


def test_two_learning_rates_two_clippings_and_lazy_penalties(tmp_path):
    trainer = trainer_for(
        gan(), tmp_path, learning_rate=1e-3, discriminator_learning_rate=4e-3, max_grad_norm=1e-3,
        discriminator_max_grad_norm=1e-4, r1_gamma=2.0, penalty_interval=3, adam_beta1=0.5, adam_beta2=0.9, n_critic=2,
    )  # fmt: skip
    generator, critic = trainer.create_optimizer().param_groups
    assert (generator["lr"], generator["betas"]) == (1e-3, (0.5, 0.9))
    assert critic["lr"] == pytest.approx(4e-3 * 3 / 4)
    assert critic["betas"] == pytest.approx((0.5 ** (3 / 4), 0.9 ** (3 / 4)))
    scales = []
    for step in range(9):
        trainer.state.global_step = step
        scales.append(trainer.penalty_scale)
    # Steps 2, 5 and 8 are the generator's, and ask for no penalty; the critic's are 0 to 5.
    assert [scales[step] for step in (0, 1, 3, 4, 6, 7)] == [3.0, 0.0, 0.0, 3.0, 0.0, 0.0]
    for step, limit in ((0, 1e-4), (2, 1e-3)):
        trainer.state.global_step = step
        parameter = next(trainer.model.generator.parameters())
        parameter.grad = torch.ones_like(parameter)
        trainer._clip_grad_norm(trainer.model)
        assert parameter.grad.norm().item() == pytest.approx(limit, rel=1e-3)


def test_a_lazy_penalty_counts_as_often_as_it_is_left_out(tmp_path):
    """Interval 2 must give the penalty's gradient twice the weight at its steps."""
    gradients = []
    for interval in (1, 2):
        recorder = GradientRecorder()
        train(
            gan(), tmp_path / str(interval), max_steps=2, loss_type="wgan", weight_clip=100.0, r1_gamma=1e4,
            penalty_interval=interval, callbacks=[recorder], optim="sgd",
        )  # fmt: skip
        gradients.append(recorder.gradients[0])
    assert (gradients[1].norm() / gradients[0].norm()).item() == pytest.approx(2, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"r1_gamma": 3.0}, (1.5, 0.0, 0.0)),
        ({"r2_gamma": 5.0}, (0.0, 2.5, 0.0)),
        ({"gradient_penalty": 7.0}, (0.0, 0.0, 7.0)),
        ({"loss_type": "wgan_gp"}, (0.0, 0.0, 10.0)),
    ],
    ids=["r1", "r2", "gradient_penalty", "wgan_gp"],
)
def test_the_logged_penalty_is_that_of_the_definition(tmp_path, options, weights):
    model = gan()
    trainer = trainer_for(copy.deepcopy(model), tmp_path, max_steps=2, train_dataset=pictures(8), **options)
    calls = []
    forward = trainer.model.forward
    trainer.model.forward = lambda *args, **kw: calls.append((args, kw)) or forward(*args, **kw)
    trainer.train()
    (pixels,), given = calls[0]
    fake = model.generator(given["latents"]).detach()
    mixed = pixels if given["mix"] is None else pixels + given["mix"].view(-1, 1, 1, 1) * (fake - pixels)
    norms = []
    for batch in (pixels, fake, mixed):
        batch = batch.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.discriminator(batch).sum(), batch)
        norms.append(gradient.flatten(1).norm(dim=1))
    terms = (norms[0].square().mean(), norms[1].square().mean(), (norms[2] - 1).square().mean())
    expected = sum(weight * term.item() for weight, term in zip(weights, terms, strict=True))
    assert trainer.state.log_history[0]["penalty"] == pytest.approx(expected, rel=1e-3)


def test_the_discriminator_sees_real_and_generated_pictures_augmented_each_in_its_own_way(tmp_path):
    trainer = trainer_for(
        gan(), tmp_path, discriminator_augmentation="diffaugment", discriminator_augmentation_policy="cutout"
    )
    pixels = torch.ones(8, 1, 8, 8)
    real, fake = (trainer._augment(pixels, which) for which in ("real", "fake"))
    assert (real.flatten(1).min(1).values == -1).all()
    assert not torch.equal(real, fake)
    ada = trainer_for(gan(), tmp_path, discriminator_augmentation="ada", discriminator_augmentation_policy="cutout")
    assert torch.equal(ada._augment(pixels, "real"), pixels)


def test_wgan_clips_the_critic_and_only_it(tmp_path):
    trainer = train(gan(), tmp_path, loss_type="wgan", max_steps=2)
    assert max(p.abs().max().item() for p in trainer.model.discriminator.parameters()) <= 0.01 + 1e-9
    assert max(p.abs().max().item() for p in trainer.model.generator.parameters()) > 0.02


def test_ada_raises_the_probability_while_the_discriminator_is_sure(tmp_path):
    trainer = trainer_for(
        gan(), tmp_path, discriminator_augmentation="ada", ada_images=80, max_steps=3, gradient_accumulation_steps=2
    )
    with torch.no_grad():
        trainer.model.discriminator.requires_grad_(False)
    trainer.adversarial = copy.copy(trainer.adversarial)
    forward = trainer.model.forward

    def sure(*args, **kwargs):
        outputs = forward(*args, **kwargs)
        if outputs.real_logits is not None:
            outputs.real_logits = outputs.real_logits * 0 + 5
        return outputs

    trainer.model.forward = sure
    trainer.train()
    # Two discriminator steps of 16 images, each of which adds 16 / 80.
    assert trainer.model.augmentation_probability.item() == pytest.approx(0.4)


@pytest.mark.parametrize(("loss_type", "expected"), [("least_squares", 0.0), ("relativistic", 0.0), ("hinge", 0.4)])
def test_ada_counts_a_picture_as_real_where_the_loss_does(tmp_path, loss_type, expected):
    """Logits of 0.4 for real and 0.45 for generated pictures: sure of them for a boundary of 0 alone."""
    trainer = trainer_for(
        gan(), tmp_path, discriminator_augmentation="ada", ada_images=80, max_steps=3, loss_type=loss_type,
        per_device_train_batch_size=16,
    )  # fmt: skip
    forward = trainer.model.forward

    def fixed(*args, **kwargs):
        outputs = forward(*args, **kwargs)
        if outputs.real_logits is not None:
            outputs.real_logits = outputs.real_logits * 0 + 0.4
            outputs.fake_logits = outputs.fake_logits * 0 + 0.45
        return outputs

    trainer.model.forward = fixed
    trainer.train()
    assert trainer.model.augmentation_probability.item() == pytest.approx(expected)


def test_the_moving_average_starts_fast_and_ends_slow(tmp_path):
    trainer = trainer_for(gan(), tmp_path, ema_decay=0.9)
    decays = []
    trainer.model.update_ema = decays.append
    for updates in (1, 2, 1000):
        trainer.state.global_step = 2 * updates - 1
        trainer.finish_generator_step()
    assert decays == pytest.approx([2 / 11, 3 / 12, 0.9])


def test_a_conditional_model_trains_on_labels_and_draws_a_column_for_each_class(tmp_path):
    trainer = train(gan(num_labels=4), tmp_path, num_sample_pictures=8)
    rows = trainer.picture_rows(8)
    assert rows["samples"].shape == (2, 4, 1, 8, 8)
    labels = torch.tensor([0, 1, 2, 3])
    from hf_genkit.trainers.noise import normal_noise
    from hf_genkit.trainers.pictures import PICTURES

    latents = normal_noise(trainer.args.seed, PICTURES, torch.arange(4), "pictures", (4,))
    assert torch.allclose(rows["samples"][0], trainer.model.generate(latents=latents, labels=labels), atol=1e-6)


def test_evaluation_scores_both_networks_and_trains_none(tmp_path):
    trainer = trainer_for(gan(), tmp_path, eval_dataset=pictures(10), per_device_eval_batch_size=4)
    before = weights(trainer)
    metrics = trainer.evaluate()
    assert torch.equal(weights(trainer), before)
    whole = trainer_for(gan(), tmp_path, eval_dataset=pictures(10), per_device_eval_batch_size=10).evaluate()
    for name in ("loss", "discriminator_loss", "generator_loss", "real_accuracy", "fake_accuracy", "logit_gap"):
        assert metrics[f"eval_{name}"] == pytest.approx(whole[f"eval_{name}"], rel=1e-4, abs=1e-6)


def test_the_log_feeds_the_stability_analysis(tmp_path):
    trainer = train(gan(), tmp_path, max_steps=24, logging_steps=2, save_strategy="steps", save_steps=24)
    expected = {"generator_grad_norm", "discriminator_grad_norm", "sample_diversity", "spectral_norm"}
    expected |= {"gradient_norm_ratio", "oscillation"}
    assert expected <= set(trainer.state.log_history[0])
    verdict = analyze_gan_stability(tmp_path / "checkpoint-24", loss_type="non_saturating")
    assert str(verdict) == str(analyze_gan_stability(trainer.state, loss_type="non_saturating"))
    assert "sample_diversity" in verdict.metrics or verdict.evidence


def test_the_checkpoint_and_the_card_are_whole(tmp_path):
    trainer = train(gan(), tmp_path, save_strategy="steps", save_steps=4, eval_dataset=pictures(8))
    model = AutoModel.from_pretrained(tmp_path / "checkpoint-4")
    assert isinstance(model, GANModel)
    assert not any(p.requires_grad for p in model.ema_generator.parameters())
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    check_model_card(card)
    assert "generate(16)" in card
    for name in ("samples.png", "interpolation.png", "stability.png"):
        assert f"]({name})" in card
        assert (tmp_path / name).is_file()
    assert "trust_remote_code=True" in card


def test_gradients_are_on_again_after_training(tmp_path):
    trainer = train(gan(), tmp_path, max_steps=2)
    assert all(p.requires_grad for p in trainer.model.generator.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_type": "hinges"}, r"`loss_type` is 'hinges'.*did you mean 'hinge'"),
        ({"n_critic": 0}, r"`n_critic` is 0"),
        ({"discriminator_augmentation": "adaa"}, r"did you mean 'ada'"),
        ({"discriminator_augmentation": "ada", "discriminator_augmentation_policy": "flop"}, r"'flop' is not a part"),
        ({"discriminator_augmentation_policy": "flip"}, r"`discriminator_augmentation` is 'none'"),
        ({"fp16": True}, r"use bf16"),
        ({"ema_decay": 1.5}, r"`ema_decay` is 1.5"),
        ({"r1_gamma": -1.0}, r"`r1_gamma` is -1.0"),
        ({"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}, r"set metric_for_best"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        GANTrainingConfig(str(tmp_path), **options)


def test_a_penalty_is_refused_beside_batch_norm(tmp_path):
    with pytest.raises(ValueError, match=r"`discriminator_norm` is 'batch'"):
        trainer_for(gan(discriminator_norm="batch"), tmp_path, r1_gamma=1.0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1, 2, 4], "there is a label 4"), ([0, 1, 2, -100], "some images have no label")],
)
def test_labels_that_the_model_can_not_take_are_refused_before_training(tmp_path, labels, message):
    images = pictures(4)
    images.labels[:] = labels
    with pytest.raises(ValueError, match=message):
        trainer_for(gan(num_labels=4), tmp_path, train_dataset=images).train()


def test_a_run_shorter_than_a_cycle_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"takes 2 steps, but one cycle of 2 discriminator steps .* takes 3"):
        trainer_for(gan(), tmp_path, max_steps=2, n_critic=2).train()
    with pytest.raises(ValueError, match=r"takes 3 steps, but one cycle of 9"):
        trainer_for(gan(), tmp_path / "epochs", max_steps=-1, num_train_epochs=1, n_critic=9).train()


def test_accuracies_are_those_of_the_losss_own_boundary(tmp_path):
    real, fake = torch.tensor([0.6, 0.4]), torch.tensor([0.3, 0.45])
    scores = {
        name: trainer_for(gan(), tmp_path, loss_type=name)._scores(real, fake)
        for name in ("non_saturating", "least_squares", "relativistic")
    }
    assert scores["non_saturating"]["fake_accuracy"].tolist() == [0, 0]
    assert scores["least_squares"]["real_accuracy"].tolist() == [1, 0]
    assert scores["least_squares"]["fake_accuracy"].tolist() == [1, 1]
    assert "real_accuracy" not in scores["relativistic"]
    assert scores["relativistic"]["pair_accuracy"].tolist() == [1, 0]


def test_clipping_is_refused_beside_spectral_norm(tmp_path):
    with pytest.raises(ValueError, match=r"`weight_clip` is 0.01.*'none'"):
        trainer_for(gan(discriminator_norm="spectral"), tmp_path, loss_type="wgan")


@pytest.mark.parametrize("model", [vae(), tiny_model("vit")], ids=["vae", "vit"])
def test_another_kind_of_model_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match=r"`model` is a .*, but it must be a GANModel"):
        GANTrainer(model, GANTrainingConfig(str(tmp_path), use_cpu=True))
