import json
import random

import pytest
import torch
from torch.utils.data import IterableDataset

from hf_genkit.data import ArrayImageDataset, Augmentation, image_processor_for
from hf_genkit.trainers.teacher_cache import TeacherCache, sample_keys, weights_fingerprint

from .tiny import Samples, pad, tiny_model


class CountingTeacher:
    """Counts the forward passes of a model."""

    def __init__(self, model):
        self.calls = 0
        model.register_forward_pre_hook(self._count)

    def _count(self, *args):
        self.calls += 1


def losses(trainer):
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def train(make_trainer, kind="vit", **options):
    teacher = tiny_model(kind, seed=1, scale=4.0, token_level=options.get("token_level", False))
    counter = CountingTeacher(teacher)
    trainer = make_trainer(kind, teacher=teacher, **options)
    trainer.train()
    return trainer, counter


# ---- Keys ----


def test_key_does_not_depend_on_padding_or_on_the_other_samples():
    rows = [Samples("bert")[i] for i in range(8)]
    together = sample_keys({k: v for k, v in pad(rows).items() if k != "labels"})
    for row, key in zip(rows, together, strict=True):
        assert sample_keys({k: v for k, v in pad([row]).items() if k != "labels"}) == [key]
    assert len(set(together)) == 8


def test_key_tells_inputs_apart_that_share_their_bytes():
    ids = torch.arange(6).reshape(1, 6)
    mask = torch.ones_like(ids)
    keys = {
        sample_keys({"input_ids": ids})[0],
        sample_keys({"position_ids": ids})[0],
        sample_keys({"input_ids": ids.int()})[0],
        sample_keys({"input_ids": ids.reshape(1, 2, 3)})[0],
        sample_keys({"input_ids": ids, "token_type_ids": mask, "attention_mask": mask})[0],
        sample_keys({"input_ids": ids, "token_type_ids": 1 - mask, "attention_mask": mask})[0],
    }
    assert len(keys) == 6


def test_fingerprint_follows_the_weights_and_their_dtype():
    model = tiny_model("vit")
    first = weights_fingerprint(model)
    assert weights_fingerprint(tiny_model("vit")) == first
    assert weights_fingerprint(tiny_model("vit").to(torch.bfloat16)) != first
    with torch.no_grad():
        model.classifier.bias[0] += 1e-3
    assert weights_fingerprint(model) != first


# ---- Files ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_come_back_bit_for_bit_in_the_teachers_dtype(tmp_path, dtype):
    rows = [torch.randn(n, 5).to(dtype) for n in (1, 3, 2)]
    keys = [bytes([i]) * 16 for i in range(3)]
    TeacherCache(tmp_path, "teacher", 5, dtype).store(keys, rows)
    again = TeacherCache(tmp_path, "teacher", 5, dtype)
    found = again.lookup([keys[2], keys[0], keys[1]])
    for row, expected in zip(found, (rows[2], rows[0], rows[1]), strict=True):
        assert row.dtype == dtype
        assert torch.equal(row, expected)


def test_processes_see_each_others_rows_after_a_refresh(tmp_path):
    first = TeacherCache(tmp_path, "teacher", 2, torch.float32, rank=0)
    second = TeacherCache(tmp_path, "teacher", 2, torch.float32, rank=1)
    first.store([b"a" * 16], [torch.ones(1, 2)])
    assert second.lookup([b"a" * 16]) is None
    second.refresh()
    assert torch.equal(second.lookup([b"a" * 16])[0], torch.ones(1, 2))
    second.store([b"b" * 16], [torch.zeros(1, 2)])
    first.refresh()
    assert len(first.lookup([b"a" * 16, b"b" * 16])) == 2


def test_damaged_rows_are_missed_and_written_again(tmp_path):
    key = b"k" * 16
    cache = TeacherCache(tmp_path, "teacher", 4, torch.float32)
    cache.store([key], [torch.ones(1, 4)])
    (data,) = cache.folder.glob("*.data")
    data.write_bytes(b"\x55" + data.read_bytes()[1:])
    again = TeacherCache(tmp_path, "teacher", 4, torch.float32)
    assert again.lookup([key]) is None
    again.store([key], [torch.ones(1, 4)])
    assert torch.equal(TeacherCache(tmp_path, "teacher", 4, torch.float32).lookup([key])[0], torch.ones(1, 4))


@pytest.mark.parametrize("damage", ["truncate_data", "truncate_index", "delete_data", "garbage_meta"])
def test_damaged_files_never_give_wrong_rows(tmp_path, damage):
    keys = [bytes([i]) * 16 for i in range(4)]
    rows = [torch.full((1, 4), float(i)) for i in range(4)]
    cache = TeacherCache(tmp_path, "teacher", 4, torch.float32)
    cache.store(keys, rows)
    (data,), (index,) = cache.folder.glob("*.data"), cache.folder.glob("*.index")
    if damage == "truncate_data":
        data.write_bytes(data.read_bytes()[:-7])
    elif damage == "truncate_index":
        index.write_bytes(index.read_bytes()[:-7])
    elif damage == "delete_data":
        data.unlink()
    else:
        (cache.folder / "meta.json").write_text("{")
    again = TeacherCache(tmp_path, "teacher", 4, torch.float32)
    assert again.lookup(keys) is None
    again.store(keys, rows)
    assert torch.equal(torch.cat(TeacherCache(tmp_path, "teacher", 4, torch.float32).lookup(keys)), torch.cat(rows))


def test_foreign_cache_is_neither_read_nor_lost(tmp_path):
    key = b"k" * 16
    TeacherCache(tmp_path, "another", 4, torch.float32).store([key], [torch.zeros(1, 4)])
    ours = TeacherCache(tmp_path, "teacher", 4, torch.float32)
    assert ours.lookup([key]) is None
    assert TeacherCache(tmp_path, "another", 4, torch.float32).lookup([key]) is not None


# ---- In training ----


@pytest.mark.parametrize(("kind", "token_level"), [("vit", False), ("bert", False), ("bert", True)])
def test_second_epoch_runs_no_teacher_and_gives_the_same_losses(make_trainer, kind, token_level):
    options = {"max_steps": -1, "num_train_epochs": 3, "token_level": token_level}
    cached, counter = train(make_trainer, kind, folder="cached", **options)
    plain, plain_counter = train(make_trainer, kind, folder="plain", teacher_cache="off", **options)
    assert counter.calls == 2
    assert plain_counter.calls == 6
    assert losses(cached) == pytest.approx(losses(plain), abs=1e-5)
    order = {tuple(log.values()) for log in cached.state.log_history}
    assert len(order) > 3


def test_another_run_with_other_batches_finds_the_cache(make_trainer, tmp_path):
    path = str(tmp_path / "shared")
    train(make_trainer, folder="first", teacher_cache=path, seed=1)
    again, counter = train(make_trainer, folder="second", teacher_cache=path, per_device_train_batch_size=8, seed=2)
    plain, _ = train(make_trainer, folder="third", teacher_cache="off", per_device_train_batch_size=8, seed=2)
    assert counter.calls == 0
    assert losses(again) == pytest.approx(losses(plain), abs=1e-5)


def test_another_teacher_does_not_find_the_cache(make_trainer, tmp_path):
    path = str(tmp_path / "shared")
    train(make_trainer, folder="first", teacher_cache=path)
    other = tiny_model("vit", seed=5, scale=4.0)
    counter = CountingTeacher(other)
    make_trainer("vit", folder="second", teacher=other, teacher_cache=path).train()
    assert counter.calls == 2


def test_damaged_cache_of_a_run_is_rebuilt_with_the_same_losses(make_trainer, tmp_path):
    path = tmp_path / "shared"
    plain, _ = train(make_trainer, folder="plain", teacher_cache="off")
    train(make_trainer, folder="first", teacher_cache=str(path))
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(random.Random(0).randbytes(file.stat().st_size))
    again, counter = train(make_trainer, folder="second", teacher_cache=str(path))
    assert counter.calls == 2
    assert losses(again) == pytest.approx(losses(plain), abs=1e-5)


def test_filling_ahead_leaves_nothing_for_the_teacher_to_do(make_trainer):
    teacher = tiny_model("vit", seed=1, scale=4.0)
    trainer = make_trainer("vit", teacher=teacher, eval_dataset=Samples("vit", size=5, unlabelled=0))
    assert trainer.fill_teacher_cache() == 8 + 5
    counter = CountingTeacher(teacher)
    trainer.train()
    trainer.evaluate()
    assert counter.calls == 0


class RandomSamples(Samples):
    def __getitem__(self, i):
        return {**self.rows[i], "pixel_values": self.rows[i]["pixel_values"] + torch.randn(1)}


@pytest.mark.parametrize("cache", ["auto", "path"])
def test_random_augmentation_is_refused_before_training(make_trainer, tmp_path, cache):
    cache = str(tmp_path / "cache") if cache == "path" else cache
    trainer = make_trainer("vit", train_dataset=RandomSamples("vit"), teacher_cache=cache)
    with pytest.raises(ValueError, match=r"random augmentation.*teacher_cache to 'off'"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not (tmp_path / "run" / "run.json").exists()
    make_trainer("vit", train_dataset=RandomSamples("vit"), teacher_cache="off", folder="off").train()


def augmented_images():
    pixels = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    labels = torch.arange(8).remainder(3).numpy()
    return ArrayImageDataset(pixels, labels, augmentation=Augmentation(flip=True, shift=1), seed=3)


def test_replayable_augmentation_is_cached_for_the_next_run(make_trainer, tmp_path):
    options = {"processing_class": image_processor_for(1, 8), "max_steps": -1, "num_train_epochs": 2}
    path = str(tmp_path / "shared")
    first, counter = train(make_trainer, folder="1", train_dataset=augmented_images(), teacher_cache=path, **options)
    again, second = train(make_trainer, folder="2", train_dataset=augmented_images(), teacher_cache=path, **options)
    assert (counter.calls, second.calls) == (4, 0)
    assert losses(again) == pytest.approx(losses(first), abs=1e-5)
    auto, _ = train(make_trainer, folder="3", train_dataset=augmented_images(), **options)
    assert not auto.uses_cache
    assert losses(auto) == pytest.approx(losses(first), abs=1e-5)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Samples("vit").rows)


def test_cache_is_refused_where_it_has_no_key_or_no_second_epoch(make_trainer, tmp_path):
    path = str(tmp_path / "cache")
    model = tiny_model("vit", seed=1)
    with pytest.raises(ValueError, match="streamed"):
        make_trainer("vit", train_dataset=Stream(), teacher_cache=path)
    with pytest.raises(ValueError, match="function"):
        make_trainer("vit", teacher=lambda **inputs: model(**inputs), teacher_cache=path)
    assert not make_trainer("vit", train_dataset=Stream(), folder="auto").uses_cache
    with pytest.raises(ValueError, match="no cache to fill"):
        make_trainer("vit", teacher_cache="off", folder="off").fill_teacher_cache()


def test_meta_says_what_the_rows_are(make_trainer, tmp_path):
    train(make_trainer)
    (meta,) = (tmp_path / "run" / "teacher_cache").rglob("meta.json")
    assert json.loads(meta.read_text())["classes"] == 3
