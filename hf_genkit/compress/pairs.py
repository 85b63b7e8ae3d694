"""The models of a distillation: as many equal students as a comparison needs, and their teachers, where there are any."""

from collections.abc import Iterator

from transformers import PreTrainedModel, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from ..arguments import (
    FineTuningDataArguments,
    PeerArguments,
    SelfTaughtArguments,
    StudentArguments,
    TeacherStudentArguments,
    check_choice,
)
from ..models.early_exit import EarlyExitForImageClassification, EarlyExitForSequenceClassification
from ..trainers.distillation_config import DistillationConfig
from ..trainers.model_source import ModelSource
from ..trainers.soft_target_config import SoftTargetConfig
from ..trainers.task_data import TaskData
from ..trainers.tasks import CLASSIFICATION, SPEECH
from ..trainers.teacher import load_teacher
from .layer_dropping import student_from_teacher


EARLY_EXITS = {
    "image-classification": EarlyExitForImageClassification,
    "text-classification": EarlyExitForSequenceClassification,
}


class ModelPair:
    """
    The teachers and the kind of student that a command line asks for, fitted to a data set; or the students alone, where
    they teach each other or themselves.

    Args:
        args ([`~hf_genkit.arguments.StudentArguments`]): Where they come from.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.
        config (`SoftTargetConfig`): How they are trained: revision, dtype and quantization of the teachers, too.

    Attributes:
        data ([`~hf_genkit.trainers.task_data.TaskData`]): The data for the models' task.
        teachers (`list[PreTrainedModel]`): The teachers, trained or not.
        processor, teacher_processor: The students' and the teachers' image processor, tokenizer or processor; the latter
            is `None` without a teacher.
        lora_rank (`int`, *optional*): The rank of the adapter that a student is to get.
        seeds (`list[int]`): What students are trained with: as given, or 0, 1, 2 for classes and 0 for all else.

    Raises:
        `ValueError`: The data don't fit the models, teachers read their inputs in different ways, or a model built from a
            config has no tokenizer to share.
    """

    def __init__(self, args: StudentArguments, data_args: FineTuningDataArguments, config: SoftTargetConfig):
        self.args, self.config = args, config
        self.loading = {"chat_template": args.chat_template, "language": args.language, "vocab_size": args.vocab_size}
        if isinstance(config, DistillationConfig):
            self.loading["trust_remote_code"] = config.trust_remote_code
        self.lora_rank = args.lora_rank if isinstance(args, SelfTaughtArguments) else None
        self.sources = list(self._student_sources())
        self.teacher_sources = list(self._teacher_sources())
        first = [*self.teacher_sources, *self.sources][0]
        self.data = TaskData(data_args, first.config, args.task)
        self.seeds = args.seeds or ([0, 1, 2] if self.data.task in CLASSIFICATION else [0])
        self.teacher_processor = self.teacher_sources[0].processor(self.data) if self.teacher_sources else None
        self.processor = self._processor()
        for source in self.teacher_sources:
            self.data.check_model(source.config, self.teacher_processor)
            if source.name is not None and _reading(source.processor(self.data)) != _reading(self.teacher_processor):
                raise ValueError(
                    f"The teacher '{source.name}' reads its inputs in another way than the first one, but teachers share them."
                )
        for source in self.sources:
            self.data.check_model(source.config, self.processor)
        self.teachers = [self._load_teacher(source) for source in self.teacher_sources]

    def _student_sources(self) -> Iterator[ModelSource]:
        several = isinstance(self.args, PeerArguments)
        names, configs = self.args.student_model_name_or_path, self.args.student_config
        for name in (names if several else [names]) or []:
            if name is not None:
                yield ModelSource(name, **self.loading)
        for options in (configs if several else [configs]) or []:
            if options is not None:
                yield ModelSource(options=options, **self.loading)

    def _teacher_sources(self) -> Iterator[ModelSource]:
        if isinstance(self.args, TeacherStudentArguments):
            for name in self.args.teacher_model_name_or_path or []:
                yield ModelSource(name, revision=self.config.teacher_revision, **self.loading)
            for options in self.args.teacher_config or []:
                yield ModelSource(options=options, **self.loading)

    def _processor(self):
        """The students': that of the first one with a name, or else the teacher's for texts and one of their own for images."""
        named = [source for source in self.sources if source.name is not None]
        shares = self.data.task != "image-classification" and self.teacher_processor is not None
        if not self.sources or (not named and shares):
            return self.teacher_processor
        return (named or self.sources)[0].processor(self.data)

    @property
    def processors(self) -> list:
        """The students' and, where there are teachers, theirs."""
        return [each for each in (self.processor, self.teacher_processor) if each is not None]

    @property
    def untrained_teachers(self) -> list[PreTrainedModel]:
        """The teachers that are to be trained before they teach."""
        return self.teachers if self.teachers and self.args.teacher_epochs > 0 else []

    @property
    def fills_cache_only(self) -> bool:
        """Whether the teachers' cache is filled and nothing is trained."""
        return bool(self.teachers) and self.args.cache_only

    def new_students(self) -> list[PreTrainedModel]:
        """The student, or all peers, as they are before training; seed torch first to get the same ones again."""
        if self.sources:
            students = [source.new_model(self.data, self.processor) for source in self.sources]
        else:
            students = [student_from_teacher(self.teachers[0], self.args.student_layers).float()]
        if isinstance(self.args, SelfTaughtArguments) and self.args.exits is not None:
            check_choice("task of a model with exits", self.data.task, list(EARLY_EXITS))
            students = [EARLY_EXITS[self.data.task].from_base(student, self.args.exits) for student in students]
        if self.args.freeze_encoder:
            for student in students:
                if not student.config.is_encoder_decoder:
                    raise ValueError(
                        f"`freeze_encoder` is true, but {type(student).__name__} has no encoder apart from its decoder."
                    )
                student.get_encoder().requires_grad_(False)
        return students

    def _load_teacher(self, source: ModelSource) -> PreTrainedModel:
        if self.args.teacher_epochs > 0:
            if self.config.teacher_quantization is not None:
                raise ValueError(
                    "`teacher_quantization` is set, but a quantized teacher can't be trained: set teacher_epochs to 0."
                )
            return source.new_model(self.data, self.teacher_processor)
        teacher, _ = load_teacher(
            source.name,
            self.data.task,
            revision=source.revision,
            dtype=self.config.teacher_dtype,
            quantization=self.config.teacher_quantization,
            trust_remote_code=source.trust_remote_code,
        )
        if self.data.task == SPEECH and source.language is not None:
            teacher.generation_config.update(language=source.language, task="transcribe")
        return teacher


def _reading(processor) -> dict:
    """How an image processor, a tokenizer or a processor of speech reads its inputs."""
    if isinstance(processor, BaseImageProcessor):
        names = ("image_processor_type", "processor_class")
        return {name: value for name, value in processor.to_dict().items() if name not in names}
    tokenizer = processor.tokenizer if isinstance(processor, ProcessorMixin) else processor
    return tokenizer.get_vocab()
