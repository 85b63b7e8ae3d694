"""A teacher, and as many equal students for it as a comparison needs."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from ..arguments import TeacherStudentArguments
from ..data import ClassificationData, image_processor_for
from ..trainers.distillation_config import DistillationConfig
from ..trainers.models import classifier_from_config, classifier_from_pretrained, load_processor
from ..trainers.teacher import load_teacher
from .layer_dropping import student_from_teacher


class ModelPair:
    """
    The teacher and the kind of student that a command line asks for, fitted to a data set.

    Args:
        args ([`~hf_genkit.TeacherStudentArguments`]): Where the two come from.
        data ([`~hf_genkit.data.ClassificationData`]): Their task, classes, and shape of images.
        config ([`~hf_genkit.DistillationConfig`]): Revision, dtype and quantization of the teacher.
        image_size (`int`, *optional*): Height and width of a from-scratch model's images; defaults to the data's.

    Attributes:
        teacher (`PreTrainedModel`): The teacher, trained or not.
        processor, teacher_processor: The student's and the teacher's image processor or tokenizer.

    Raises:
        `ValueError`: A text student built from a config has no tokenizer to share.
    """

    def __init__(
        self,
        args: TeacherStudentArguments,
        data: ClassificationData,
        config: DistillationConfig,
        image_size: int | None = None,
    ):
        self.args, self.data, self.config, self.image_size = args, data, config, image_size
        self.teacher_processor = self._processor(
            args.teacher_model_name_or_path, args.teacher_config, config.teacher_revision
        )
        self.teacher = self._load_teacher()
        if args.student_layers is not None:
            self.processor = self.teacher_processor
        else:
            self.processor = self._processor(args.student_model_name_or_path, args.student_config)

    def new_student(self) -> PreTrainedModel:
        """A student as it is before training; seed torch first to get the same one again."""
        if self.args.student_layers is not None:
            return student_from_teacher(self.teacher, self.args.student_layers).float()
        if self.args.student_config is not None:
            return classifier_from_config(self.args.student_config, self.data, self.processor)
        return classifier_from_pretrained(
            self.args.student_model_name_or_path, self.data, trust_remote_code=self.config.trust_remote_code
        )

    def _load_teacher(self) -> PreTrainedModel:
        name = self.args.teacher_model_name_or_path
        if self.args.teacher_config is not None:
            return classifier_from_config(self.args.teacher_config, self.data, self.teacher_processor)
        options = {"revision": self.config.teacher_revision, "trust_remote_code": self.config.trust_remote_code}
        if self.args.teacher_epochs > 0:
            if self.config.teacher_quantization is not None:
                raise ValueError(
                    "`teacher_quantization` is set, but a quantized teacher can't be trained: set teacher_epochs to 0."
                )
            return classifier_from_pretrained(name, self.data, **options)
        teacher, _ = load_teacher(
            name,
            self.data.task,
            dtype=self.config.teacher_dtype,
            quantization=self.config.teacher_quantization,
            **options,
        )
        return teacher

    def _processor(
        self, name: str | None, options: dict | None, revision: str | None = None
    ) -> BaseImageProcessor | PreTrainedTokenizerBase:
        if name is not None:
            return load_processor(
                name, self.data.task, revision=revision, trust_remote_code=self.config.trust_remote_code
            )
        if self.data.task == "image-classification":
            channels = options.get("num_channels", self.data.channels)
            return image_processor_for(channels, self.image_size or self.data.first_image().size[::-1])
        if self.args.teacher_model_name_or_path is None:
            raise ValueError("A text model built from a config needs a teacher with a tokenizer to share.")
        return self.teacher_processor
