import gradio
import numpy as np
import pytest
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from hf_genkit.demo import build_demo
from hf_genkit.demo.speech import read_clip

from .tiny_demos import function, save_ctc


def test_a_clip_is_mixed_and_brought_to_the_models_rate():
    clip = np.full((8000, 2), 2**14, np.int16)
    clip[:, 1] = 0
    wave = read_clip((8000, clip), Wav2Vec2FeatureExtractor(sampling_rate=16000))
    assert wave.shape == (16000,)
    assert wave.dtype == np.float32
    assert wave[4000:12000] == pytest.approx(0.25, abs=0.01)


def test_an_empty_clip_and_one_that_is_too_long_are_told():
    extractor = WhisperFeatureExtractor()
    with pytest.raises(ValueError, match="The clip is empty"):
        read_clip((16000, np.zeros(0, np.int16)), extractor)
    with pytest.raises(ValueError, match="has 31 seconds, but the model hears 30 at most"):
        read_clip((100, np.zeros(3100, np.int16)), extractor)


def test_student_and_teacher_write_down_the_same_clip(tmp_path):
    folder = str(save_ctc(tmp_path))
    transcribe = function(build_demo(folder, folder), "transcribe")
    noise = np.random.default_rng(0).integers(-9999, 9999, 8000, np.int16)
    ours, theirs, summary = transcribe((16000, noise))
    assert ours == theirs
    assert "for a clip of 0.5 s. Both write the same." in summary
    with pytest.raises(gradio.Error, match="There is no clip"):
        transcribe(None)
