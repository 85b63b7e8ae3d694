"""A language model that learns on what it writes itself."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hf_genkit import DistillationConfig, DistillationTrainer

from .test_exactness import GradientRecorder
from .test_resume import StopAt
from .tiny_finetuning import finetuning_model, pad_any, samples


END = 2


def tokenizer(**special) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(60)}, "w1"))
    return PreTrainedTokenizerFast(tokenizer_object=words, **{"pad_token": "w0", "eos_token": f"w{END}", **special})


def on_policy_trainer(folder, kind="llama", **options) -> DistillationTrainer:
    own = {
        name: options.pop(name)
        for name in ("callbacks", "processing_class", "model", "train_dataset")
        if name in options
    }
    torch.manual_seed(1)
    teacher = finetuning_model(kind)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.5)
    defaults = {
        "per_device_train_batch_size": 4, "max_steps": 4, "max_grad_norm": 0.0, "learning_rate": 1e-2, "use_cpu": True,
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "on_policy": 1.0, "on_policy_tokens": 6,
    }  # fmt: skip
    return DistillationTrainer(
        **{
            "model": finetuning_model(kind),
            "teacher_model": teacher,
            "args": DistillationConfig(str(folder), **{**defaults, **options}),
            "train_dataset": samples(kind),
            "data_collator": pad_any,
            "processing_class": tokenizer(),
            **own,
        }
    )


def batch_of(**changes) -> dict[str, torch.Tensor]:
    """A completion behind three prompt tokens, a text labelled throughout, and one on the right with a prompt of one."""
    ids = torch.arange(3, 27).view(3, 8)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [0] * 2 + [1] * 6])
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, :3] = labels[2, :3] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "cache_keys": [b""], **changes}


PROMPTS = [[3, 4, 5], [11, 12], [21]]


def test_prompts_go_on_without_gaps_and_only_the_written_tokens_count(tmp_path):
    batch = batch_of()
    trainer = on_policy_trainer(tmp_path)
    written = trainer.write(batch)
    assert set(written) == {"input_ids", "attention_mask", "labels", "soft_mask"}
    assert (written["labels"] == -100).all()
    for row, prompt in enumerate(PROMPTS):
        mask = written["attention_mask"][row].bool()
        length = int(mask.sum())
        assert mask[:length].all()  # nothing on the left, whatever the positions mean to the model
        assert written["input_ids"][row, : len(prompt)].tolist() == prompt
        assert written["soft_mask"][row].tolist() == [len(prompt) <= i < length for i in range(len(mask))]
        assert len(prompt) < length <= len(prompt) + 6


def test_an_unlabelled_text_and_one_of_a_single_token_have_prompts(tmp_path):
    trainer = on_policy_trainer(tmp_path)
    batch = batch_of()
    del batch["labels"]
    assert trainer.write(batch)["input_ids"][0, :4].tolist() == [3, 4, 5, 6]
    one = {"input_ids": torch.tensor([[7]]), "labels": torch.tensor([[7]])}
    assert trainer.write(one)["input_ids"][0, 0] == 7


@pytest.mark.parametrize("special", [{}, {"pad_token": None}])
def test_the_end_token_is_learned_and_nothing_behind_it(tmp_path, special):
    model = finetuning_model("llama")
    model.generation_config.update(eos_token_id=20, repetition_penalty=1000.0)  # neither is the student's policy
    head = model.lm_head.weight
    with torch.no_grad():  # the end follows on tokens 5 and 21, and 20 on all others
        model.model.layers = torch.nn.ModuleList()
        model.model.embed_tokens.weight.zero_()[:, 0] = 1.0
        model.model.embed_tokens.weight[[5, 21]] = torch.eye(16)[1]
        head.zero_()[20, 0], head[END, 1] = 10.0, 10.0
    trainer = on_policy_trainer(tmp_path, model=model, processing_class=tokenizer(**special), on_policy_tokens=4)
    written = trainer.write(batch_of())
    assert written["input_ids"][0, :4].tolist() == [3, 4, 5, END]
    assert written["soft_mask"][0].tolist() == [False, False, False, True, False, False]
    assert written["attention_mask"][0].tolist() == [1, 1, 1, 1, 0, 0]
    assert written["input_ids"][1].tolist() == [11, 12, 20, 20, 20, 20]
    assert written["input_ids"][2, :2].tolist() == [21, END]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_each_text_goes_on_as_it_would_alone(tmp_path, kind):
    model = finetuning_model(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
        head = model.lm_head.weight
        model.lm_head.weight = torch.nn.Parameter(1e4 * head)  # so sure that drawing is choosing
    trainer = on_policy_trainer(tmp_path, kind, model=model)
    written = trainer.write(batch_of())
    for row, prompt in enumerate(PROMPTS):
        settings = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": END, "pad_token_id": 0}
        expected = model.eval().generate(torch.tensor([prompt]), **settings)[0].tolist()
        assert written["input_ids"][row][written["attention_mask"][row].bool()].tolist() == expected


@pytest.mark.parametrize("narrowed", [{"top_k": 1}, {"top_p": 0.001}, {"temperature": 0.0001}])
def test_the_student_draws_from_its_whole_distribution(tmp_path, narrowed):
    """A model's generation config may ask for its likeliest tokens, which are not its policy."""
    model = finetuning_model("llama")
    model.generation_config.update(do_sample=True, **narrowed)
    trainer = on_policy_trainer(tmp_path, model=model, on_policy_tokens=64)
    assert len(set(trainer.write(batch_of())["input_ids"][0, 3:].tolist())) > 15


def test_writing_leaves_model_and_generators_as_they_were(tmp_path):
    trainer = on_policy_trainer(tmp_path)
    trainer.model.train()
    torch.manual_seed(3)
    first = trainer.write(batch_of())
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), expected)
    assert trainer.model.training
    torch.manual_seed(4)
    assert torch.equal(trainer.write(batch_of())["input_ids"], first["input_ids"])
    other = trainer.write(batch_of(), 1)["input_ids"].flatten().tolist()
    trainer.state.global_step = 1
    later = trainer.write(batch_of())["input_ids"].flatten().tolist()
    assert len({tuple(ids) for ids in (first["input_ids"].flatten().tolist(), other, later)}) == 3


def test_a_share_of_the_steps_is_on_policy_and_each_learns_from_the_teacher_alone(tmp_path):
    class Keeps(DistillationTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            seen.setdefault(self.state.global_step, []).append("soft_mask" in inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

    seen = {}
    trainer = on_policy_trainer(
        tmp_path, on_policy=0.5, max_steps=12, per_device_train_batch_size=2, gradient_accumulation_steps=2
    )
    trainer.__class__ = Keeps
    trainer.train()
    assert all(len(set(batches)) == 1 and len(batches) == 2 for batches in seen.values())
    written = [step for step, batches in seen.items() if batches[0]]
    assert 3 <= len(written) <= 9
    for log in trainer.state.log_history[:12]:
        assert (log["ce_loss"] == 0) == (log["step"] - 1 in written)
        assert log["kd_loss"] > 0


def test_the_gradient_is_a_mean_over_the_written_tokens_of_the_whole_step(tmp_path):
    recorder = GradientRecorder()
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 1, "alpha": 1.0}
    trainer = on_policy_trainer(tmp_path, callbacks=[recorder], train_dataset=samples("llama")[:4], **options)
    batches = []
    original = trainer.write
    trainer.write = lambda batch, number: batches.append(original(batch, number)) or batches[-1]
    trainer.train()
    student, teacher = finetuning_model("llama"), trainer.teacher.model
    total, count = 0.0, 0
    for batch in batches:
        mask = batch["soft_mask"][:, 1:]
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        log_q = (student(**inputs).logits[:, :-1][mask] / 4).log_softmax(-1)
        log_p = (teacher(**inputs).logits[:, :-1][mask] / 4).log_softmax(-1)
        total, count = total + 16 * (log_p.exp() * (log_p - log_q)).sum(), count + int(mask.sum())
    (total / count).backward()
    expected = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    assert (recorder.gradient.norm() / expected.norm()).item() == pytest.approx(1, abs=1e-4)
    assert torch.nn.functional.cosine_similarity(recorder.gradient, expected, dim=0) > 0.9999


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    """A resume within an epoch restores the generators only after the first batches were drawn."""
    options = {"save_strategy": "steps", "save_steps": 1, "on_policy": 0.7, "per_device_train_batch_size": 2}
    whole = on_policy_trainer(tmp_path / "whole", **options)
    whole.train()
    on_policy_trainer(tmp_path / "cut", callbacks=[StopAt(3)], **options).train()
    resumed = on_policy_trainer(tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    for (name, expected), parameter in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(parameter, expected), name


def test_a_model_that_cannot_write_or_has_no_tokenizer_is_refused_before_training(tmp_path, make_trainer):
    with pytest.raises(
        ValueError, match=r"`on_policy` is 0.5, but only a causal language model can write.*text-classification"
    ):
        make_trainer("bert", on_policy=0.5, processing_class=tokenizer()).train()
    with pytest.raises(ValueError, match=r"`on_policy` is 1.0, but the end .* pass the tokenizer as processing_class"):
        on_policy_trainer(tmp_path / "run", processing_class=None).train()
    with pytest.raises(ValueError, match="`loss_type` 'uld' is for other tokens"):
        on_policy_trainer(tmp_path / "run", loss_type="uld").train()
    with pytest.raises(ValueError, match="has no end token"):
        on_policy_trainer(tmp_path / "run", processing_class=tokenizer(eos_token=None)).train()
    assert not (tmp_path / "run" / "run.json").exists()
