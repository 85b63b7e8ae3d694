"""Models of speech side by side: the errors of what each writes down, and how long one clip takes."""

from collections.abc import Mapping

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from ..data import BatchCollator
from ..data.speech import SpeechDataset
from ..evaluation.text_metrics import edit_distance, word_errors
from ..trainers.transcribing import normaliser_of, spoken, write_down
from .judged_models import JudgedSpeechModel
from .task_models import TaskModels


TIMED_CLIPS = 4


class SpeechModels(TaskModels):
    """
    Models of speech given by name and the clips that they are tested on; see [`TaskModels`]. All of them hear the same
    clips, and transcripts are compared as the language of the first model is written.
    """

    def _check(self, name: str) -> None:
        self.data.check_model(self.sources[name].config, self.processors[name])
        rate, first = (self.processors[each].feature_extractor.sampling_rate for each in (name, self.first.name))
        if rate != first:
            raise ValueError(
                f"'{name}' hears clips at {rate} Hz, but '{self.first.name}' at {first}: only models of one rate can be "
                "compared."
            )

    def prepare(self, models: Mapping[str, PreTrainedModel]) -> None:
        first = self.processors[self.first.name]
        clips = self.data.inputs(self.data.data.test_split, first)
        self.heard = {
            name: SpeechDataset(clips.samples, clips.offsets, clips.labels, processor.feature_extractor)
            for name, processor in self.processors.items()
        }
        self.normalise = normaliser_of(models[self.first.name])
        labels = (torch.from_numpy(ids)[None] for ids in clips.labels)
        self.said = [self.normalise(text) for ids in labels for text in spoken(first.tokenizer, ids)]
        if not any(self.said):
            raise ValueError("The transcripts hold no word, so there is no word error rate.")
        self.timed = min(TIMED_CLIPS, len(clips))
        self.clip_seconds = clips.offsets[self.timed].item() / self.timed / first.feature_extractor.sampling_rate

    def judge_one(self, title: str, name: str, model: PreTrainedModel) -> JudgedSpeechModel:
        tokenizer, written = self.processors[name].tokenizer, []
        for batch in DataLoader(self.heard[name], self.args.batch_size, collate_fn=BatchCollator(None)):
            texts, _ = write_down(model, tokenizer, batch["input_features"])
            written += map(self.normalise, texts)
        characters = [edit_distance(list(one), list(other)) for one, other in zip(written, self.said, strict=True)]
        return JudgedSpeechModel(
            title,
            *word_errors(written, self.said),
            wrong_characters=characters,
            characters=list(map(len, self.said)),
            timed_clips=self.timed,
            clip_seconds=self.clip_seconds,
        )

    def measure(self, name: str, model: PreTrainedModel) -> dict:
        tokenizer, clips = self.processors[name].tokenizer, (self.heard[name][index] for index in range(self.timed))
        seconds = sum(write_down(model, tokenizer, clip["input_features"][None])[1] for clip in clips)
        return {"parameters": model.num_parameters(), "latency_ms": 1000 * seconds / self.timed}
