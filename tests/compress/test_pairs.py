import json

import pytest
import torch
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, BertConfig, BertTokenizer

from hf_genkit import DistillationConfig, TeacherStudentArguments
from hf_genkit.compress import ModelPair
from hf_genkit.data import ClassificationData, image_processor_for, load_data


VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.fixture(scope="module")
def digits():
    return ClassificationData(load_data())


def make_pair(data, **sources):
    return ModelPair(TeacherStudentArguments(**sources), data, DistillationConfig("unused", use_cpu=True))


def test_configs_are_filled_in_by_the_data(digits):
    pair = make_pair(
        digits, teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_config={**VIT, "patch_size": 2}
    )
    for model in (pair.teacher, pair.new_student()):
        assert (model.config.num_channels, model.config.image_size, model.config.num_labels) == (1, 8, 10)
        assert model.config.id2label[3] == "3"
    assert len(pair.processor.image_mean) == 1


def test_channels_of_a_config_decide_over_the_datas(digits):
    pair = make_pair(digits, teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1,
                     student_config={**VIT, "patch_size": 2, "num_channels": 3})  # fmt: skip
    assert pair.new_student().config.num_channels == len(pair.processor.image_mean) == 3


def test_same_seed_gives_the_same_student(digits):
    pair = make_pair(
        digits, teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_config={**VIT, "patch_size": 2}
    )
    torch.manual_seed(3)
    first = pair.new_student().state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(value, first[name]) for name, value in pair.new_student().state_dict().items())


def test_student_of_the_teachers_layers_trains(digits):
    pair = make_pair(digits, teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_layers=[1])
    pair.teacher.requires_grad_(False)
    student = pair.new_student()
    assert student.config.num_hidden_layers == 1
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert pair.processor is pair.teacher_processor


def test_pretrained_student_gets_a_new_head(digits, tmp_path):
    from transformers import ViTConfig

    saved = AutoModelForImageClassification.from_config(
        ViTConfig(
            **{k: v for k, v in VIT.items() if k != "model_type"},
            image_size=8,
            patch_size=4,
            num_channels=1,
            num_labels=4,
        )
    )
    saved.save_pretrained(tmp_path)
    image_processor_for(1, 8).save_pretrained(tmp_path)
    pair = make_pair(
        digits, teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_model_name_or_path=str(tmp_path)
    )
    student = pair.new_student()
    assert student.config.num_labels == 10
    assert torch.equal(student.vit.embeddings.cls_token, saved.vit.embeddings.cls_token)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "vitt"}, "did you mean 'vit'"),
        ({**VIT, "hiden_size": 8}, "did you mean 'hidden_size'"),
        ({"hidden_size": 8}, "`model_type` is 'None'"),
    ],
)
def test_misspelt_configs_are_refused(digits, config, message):
    with pytest.raises(ValueError, match=message):
        make_pair(digits, teacher_config=config, teacher_epochs=1, student_config=VIT)


def test_text_pair_shares_the_teachers_tokenizer(tmp_path):
    import datasets

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "teacher")
    config = BertConfig(vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "teacher")
    train = datasets.Dataset.from_dict({"text": ["good", "bad"], "label": [1, 0]})
    data = ClassificationData(datasets.DatasetDict(train=train))
    student = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    pair = make_pair(data, teacher_model_name_or_path=str(tmp_path / "teacher"), student_config=student)
    assert pair.new_student().config.vocab_size == 7
    assert json.dumps(pair.processor.get_vocab(), sort_keys=True) == json.dumps(
        pair.teacher_processor.get_vocab(), sort_keys=True
    )
    with pytest.raises(ValueError, match="tokenizer to share"):
        make_pair(data, teacher_config=student, teacher_epochs=1, student_config=student)
