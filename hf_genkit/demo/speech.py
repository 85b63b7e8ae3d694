"""The page of a model of speech, alone or beside its teacher: both write down what is said."""

import math
from functools import partial

import numpy as np

from ..trainers.tasks import CTC
from .loading import DemoModel
from .page import handle, import_gradio, offer_examples
from .sides import sides, timed


def speech_page(student: DemoModel, teacher: DemoModel | None, examples: list[str]) -> None:
    """
    Adds a clip, recorded or uploaded, and what each model hears.

    Args:
        student ([`DemoModel`]): A model such as Whisper or Wav2Vec2.
        teacher ([`DemoModel`], *optional*): Another one.
        examples (`list[str]`): WAV files to choose from.
    """
    gradio, models = import_gradio(), sides(student, teacher)

    def transcribe(clip):
        if clip is None:
            raise ValueError("There is no clip: record or upload one.")
        waves = [read_clip(clip, each.processor.feature_extractor) for each in models.values()]
        texts, milliseconds = timed(
            [partial(write_down, each, wave) for each, wave in zip(models.values(), waves, strict=True)], repeats=1
        )
        length = len(clip[1]) / clip[0]
        took = " against ".join(f"{each / 1000:.2f} s" for each in milliseconds)
        same = " Both write the same." if len(texts) == 2 and texts[0] == texts[1] else ""
        return [*texts, f"{took} for a clip of {length:.1f} s.{same}"]

    with gradio.Row():
        with gradio.Column(scale=1, min_width=340):
            clip = gradio.Audio(
                examples[0] if examples else None,
                label="Clip",
                type="numpy",
                format="wav",
                sources=["microphone", "upload"],
            )
            button = gradio.Button("Write down", variant="primary")
            offer_examples(examples, clip)
        with gradio.Column(scale=2, min_width=300):
            summary = gradio.Markdown(elem_id="summary")
            outputs = [gradio.Textbox(label=name, lines=3) for name in models]
    handle([button.click], transcribe, [clip], [*outputs, summary], api_name="transcribe")


def read_clip(clip: tuple[int, np.ndarray], extractor) -> np.ndarray:
    """
    A clip at the rate of a model, mixed to one channel.

    Args:
        clip (`tuple[int, np.ndarray]`): Rate, and 16-bit samples `[samples]` or `[samples, channels]`.
        extractor (`SequenceFeatureExtractor`): The model's.

    Raises:
        `ValueError`: The clip is empty, or longer than the model can hear.
    """
    rate, samples = clip
    wave = samples.astype(np.float32) / 2**15
    wave = wave.mean(axis=1) if wave.ndim == 2 else wave
    if len(wave) == 0:
        raise ValueError("The clip is empty: record or upload one with sound.")
    longest = getattr(extractor, "chunk_length", None)  # in seconds; models of waves hear clips of any length
    if longest is not None and len(wave) / rate > longest:
        raise ValueError(f"The clip has {len(wave) / rate:.0f} seconds, but the model hears {longest} at most.")
    if rate != extractor.sampling_rate:
        from scipy.signal import resample_poly  # takes a second to import

        shared = math.gcd(rate, extractor.sampling_rate)
        wave = resample_poly(wave, extractor.sampling_rate // shared, rate // shared).astype(np.float32)
    return wave


def write_down(loaded: DemoModel, wave: np.ndarray) -> str:
    """What a model hears in a clip at its own rate, by the likeliest tokens."""
    model, processor = loaded.model, loaded.processor
    extractor = processor.feature_extractor
    inputs = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt").to(model.device, model.dtype)
    if loaded.kind == CTC:
        tokens = model(**inputs).logits.argmax(-1)
    else:
        tokens = model.generate(**inputs, num_beams=1, do_sample=False)
    return processor.tokenizer.batch_decode(tokens.cpu(), skip_special_tokens=True)[0].strip()
